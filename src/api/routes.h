/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of routes: what each method and path means. Private to the API's room; dispatch
 * (api.c) and description (openapi.c) are made from it.
 */
#ifndef VMM_API_ROUTES_H
#define VMM_API_ROUTES_H

#include "vmm/http_server.h"
#include "vmm/request.h"

#define ROUTE_ID_MAX	VM_ID_MAX
#define ROUTE_ALLOW_MAX 64 /* of the value of an Allow header */

enum route_kind {
	ROUTE_REQUEST,	   /* a typed request to the instance */
	ROUTE_METRICS,	   /* Prometheus text */
	ROUTE_EVENTS,	   /* a stream of JSON lines */
	ROUTE_DESCRIPTION, /* the OpenAPI document */
	ROUTE_LATER,	   /* Firecracker has it, this version does not: refused with `missing` */
};

struct route {
	enum http_method method;
	/* "/drives/{drive_id}": a parameter is the last segment, and the key in the body that must
	 * say the same. Routes of one path stand together. */
	const char *path;
	enum route_kind kind;
	bool ours;  /* Firecracker has no such path, with any method */
	bool whole; /* Firecracker has no such method on its path: nothing may follow the path */
	enum request_type request;
	const char *name, *summary; /* if not of a request: operationId, one sentence */
	const char *body;    /* name of the body's schema in the description; NULL: no body */
	const char *reply;   /* type of the answer, in the notation of schemas.h; NULL: none */
	const char *missing; /* ROUTE_LATER: what there is not */
};

extern const struct route routes[];
extern const size_t route_count;

const char *route_name(const struct route *route);
const char *route_summary(const struct route *route);
/* "drive_id", *len without the braces; NULL if the path has no parameter. */
const char *route_parameter(const struct route *route, size_t *len);

struct route_match {
	const struct route *route;   /* NULL: the path has no such method, or is not there */
	bool found, ours;	     /* is there such a path; only here */
	char allow[ROUTE_ALLOW_MAX]; /* if found: "GET, HEAD, PUT, OPTIONS" */
	const char *id;		     /* into the path given; not terminated; NULL: no parameter */
	size_t id_len;
};

/*
 * HEAD finds what GET does. A '/' at the end is accepted, and on Firecracker's paths further segments
 * are not looked at. The route that explains most of them is found. "/drives" matches
 * "/drives/{drive_id}" with an empty id, as long as there is no route "/drives".
 */
void routes_find(struct route_match *match, enum http_method method, const char *path);

/* What is wrong with an id out of a path; Firecracker's rule and texts. */
int route_check_id(const char *id, size_t len, struct error *e);

#endif
