/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The REST API: Firecracker's v1, extended. One table of routes (src/api/routes.c) maps method and
 * path to a typed request (vmm/request.h) or to a stream or text; routing, the API's description
 * (OpenAPI 3.1) and the list of allowed methods come from it.
 *
 * Answers: 200 with JSON, 204 without. Errors are JSON {"fault_message", "code", "hint"?}: 400 as
 * Firecracker gives for everything, but 404 for a path that neither has and for a job that is not
 * there, 405 with Allow for a wrong method on a path that only we have, 413 for a body that is too
 * large. `code` is stable (error_code_name()). An instance for Firecracker's clients answers with
 * their keys only, in their order; errors have no code and no hint.
 *
 * Main thread.
 */
#ifndef VMM_API_H
#define VMM_API_H

#include "vmm/http_server.h"
#include "vmm/instance.h"

struct api;

struct api_config {
	struct loop *loop;	   /* borrowed */
	struct instance *instance; /* borrowed */
	size_t body_max;	   /* 0: HTTP_BODY_MAX_DEFAULT */
	bool log_requests;	   /* a line for each that changes something, or is refused */
};

int api_create(struct api **ret, const struct api_config *config, struct error *e);
/* A listening, non-blocking Unix socket; owned from here on. */
int api_listen(struct api *api, int fd, struct error *e);
/* It listens to nobody any more: its sockets are another process's. Clients that are there stay. Accepts NULL. */
void api_unlisten(struct api *api);
/* Waits at most a moment for answers on their way. Accepts NULL. Before instance_destroy(). */
void api_destroy(struct api *api);

/* The OpenAPI document; NULL if memory is short. The same at every time. */
json_t *api_describe(void);

/* What main calls for it at run time, besides http_server_syscalls. */
extern const struct syscall_list api_syscalls;

#endif
