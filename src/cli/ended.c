// SPDX-License-Identifier: Apache-2.0
/* See ended.h. */
#include "ended.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "end_report.h"
#include "vmm/cleanup.h"
#include "vmm/run_directory.h"

#define NS_PER_MS 1000000

int ended_ms(uint64_t ns)
{
	return (int)MIN(ns / NS_PER_MS, (uint64_t)INT_MAX);
}

int64_t ended_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / NS_PER_MS;
}

int ended_open(struct ended *ended, const char *name, struct error *e)
{
	int r;

	*ended = (struct ended){ .name = name, .dir_fd = -1, .report_fd = -1 };
	r = run_directory_find(name, &ended->dir_fd, &ended->alive, e);
	if (r == 0) {
		/* Now: the VM may take it along. */
		ended->report_fd = end_report_open(ended->dir_fd);
	}
	return r;
}

int ended_open_living(struct ended *ended, const char *name, struct error *e)
{
	int r = ended_open(ended, name, e);

	if (r == 0 && !ended->alive) {
		(void)error_set(e, ERROR_NOT_FOUND, ESRCH, "VM '%s' has ended already", name);
		return error_hint(e, "vmm rm %s removes what it left", name);
	}
	return r;
}

void ended_close(struct ended *ended)
{
	close_fd(&ended->report_fd);
	close_fd(&ended->dir_fd);
}

int ended_action(const struct ended *ended, const char *action, struct error *e)
{
	auto_json json_t *body = json_pack("{s:s}", "action_type", action);
	struct client client = { .fd = -1 };
	int r = client_connect_at(&client, ended->dir_fd, CLIENT_TIMEOUT_MS, e);

	if (r == 0) {
		r = client_call(&client, "PUT", "/actions", body, NULL, e);
	}
	client_close(&client);
	return r;
}

int ended_get_state(const struct ended *ended, struct vm_status *status, struct error *e)
{
	struct client client = { .fd = -1 };
	auto_json json_t *vm = NULL;
	int r = client_connect_at(&client, ended->dir_fd, CLIENT_TIMEOUT_MS, e);

	if (r == 0) {
		r = client_call(&client, "GET", "/vm", NULL, &vm, e);
	}
	if (r == 0) {
		vm_status_read(status, vm);
	}
	client_close(&client);
	return r;
}

int ended_signal(const struct ended *ended, int number, struct error *e)
{
	auto_close int pidfd = -1;
	pid_t pid;
	int r = run_directory_process(ended->dir_fd, &pidfd, &pid, e);

	if (r == 0 && syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0) < 0 &&
	    errno != ESRCH) {
		r = error_set_sys(e, ERROR_INTERNAL, errno, "signal to process %d", (int)pid);
	}
	return r;
}

int ended_kill(const struct ended *ended, struct error *e)
{
	int r = ended_signal(ended, SIGKILL, e);

	/* It may end by itself meanwhile. */
	if (r < 0 && run_directory_wait(ended->dir_fd, 0, NULL) == 0) {
		return 0;
	}
	return r == 0 ? run_directory_wait(ended->dir_fd, ENDED_STOP_MS, e) : r;
}
