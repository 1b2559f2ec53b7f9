// SPDX-License-Identifier: Apache-2.0
/* See ended.h. */
#include "ended.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/syscall.h>
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

	return client_call_at(ended->dir_fd, CLIENT_TIMEOUT_MS, "PUT", "/actions", body, NULL, e);
}

int ended_get_state(const struct ended *ended, struct vm_status *status, struct error *e)
{
	auto_json json_t *vm = NULL;
	int r = client_call_at(ended->dir_fd, CLIENT_TIMEOUT_MS, "GET", "/vm", NULL, &vm, e);

	if (r == 0) {
		vm_status_read(status, vm);
	}
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
