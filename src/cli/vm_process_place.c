/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients find a VM by: sockets and files of its directory, the socket at a path of the user's. They are opened here; and of an
 * upgrade in place they are another process's from some moment on: they are shown, left, or taken over, as the same open files.
 *
 * In that moment nobody has to rename, remove or make anything: the lock on the directory is held as long as either process has it,
 * the sockets listen as long, and logs go on behind their last byte. Killed at whatever moment, a process takes nothing along that the
 * other one has.
 *
 * Main thread. Of an upgrade within its filter.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vm_process.h"
#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/log.h"

LOG_DOMAIN("run");

/* Sockets and files of the VM's directory. */
static int open_in_directory(struct vm_process *process, struct error *e)
{
	int fd = -1;
	int r = run_directory_listen(&process->directory, "console.sock", &fd, e);

	if (r == 0) {
		process->place[INSTANCE_PLACE_CONSOLE] = fd;
		r = console_hub_listen(process->hub, fd, e);
	}
	if (r == 0) {
		r = run_directory_open(&process->directory, "console.log", &fd, e);
	}
	if (r == 0) {
		process->place[INSTANCE_PLACE_CONSOLE_LOG] = fd;
		console_hub_log_to(process->hub, fd);
	}
	if (r == 0) {
		r = run_directory_open(&process->directory, "exit.json", &fd, e);
	}
	if (r == 0) {
		process->crash.report_fds[VM_PROCESS_REPORT_IN_DIRECTORY] = fd;
	}
	if (r == 0 && process->config.api) {
		r = run_directory_listen(&process->directory, "api.sock", &fd, e);
		if (r == 0) {
			process->place[INSTANCE_PLACE_API] = fd;
			r = api_listen(process->api, fd, e);
		}
	}
	return r;
}

static int listen_at_path(struct vm_process *process, struct error *e)
{
	const char *path = process->config.api_socket;
	const bool firecracker = process->config.instance.firecracker;
	int fd = -1;
	int r = firecracker ? socket_bind(path, &fd, e)
			    : socket_claim(path, &fd, &process->api_lock_fd, e);

	if (r < 0) {
		return r;
	}
	process->api_socket_ours = !firecracker;
	if (firecracker) {
		log_info("Listening on API socket (\"%s\").", path);
	}
	process->place[INSTANCE_PLACE_SOCKET] = fd;
	return api_listen(process->api, fd, e);
}

int vm_process_open_doors(struct vm_process *process, struct error *e)
{
	const struct api_config api = {
		.loop = &process->loop,
		.instance = process->instance,
		.body_max = process->config.body_max,
		.log_requests = process->config.log_requests,
	};
	int r = process->config.api ? api_create(&process->api, &api, e) : 0;

	if (r == 0 && process->config.api_socket != NULL && process->config.api) {
		r = listen_at_path(process, e);
	}
	if (r == 0 && process->directory.fd >= 0) {
		r = open_in_directory(process, e);
	}
	return r;
}

/* --- an upgrade in place ------------------------------------------------------------------------- */

static struct vm_process *process_of(struct instance_host *host)
{
	return container_of(host, struct vm_process, host);
}

/*
 * Who waits for a process of the foreground (a shell, a service manager) would take its end for that of the VM, and could not be told
 * of another one.
 */
static int show_place(struct instance_host *host, int fds[INSTANCE_PLACES], struct error *e)
{
	struct vm_process *process = process_of(host);

	if (!process->config.background || !process->config.api || process->notify.fd >= 0) {
		(void)error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP,
				"upgrade: process %d of this VM is one that somebody has started "
				"in the foreground, and waits for: its end would be taken for the "
				"VM's",
				(int)getpid());
		return error_hint(e,
				  "VMs in the background can be upgraded: vmm run -d, vmm start");
	}
	memcpy(fds, process->place, sizeof(process->place));
	fds[INSTANCE_PLACE_DIRECTORY] = process->directory.fd;
	fds[INSTANCE_PLACE_LOCK] = process->directory.lock_fd;
	fds[INSTANCE_PLACE_EXIT] = process->crash.report_fds[VM_PROCESS_REPORT_IN_DIRECTORY];
	fds[INSTANCE_PLACE_REPORT] = process->crash.report_fds[VM_PROCESS_REPORT_GIVEN];
	fds[INSTANCE_PLACE_EVENTS] = process->keep.events_fd;
	fds[INSTANCE_PLACE_LOG] = STDERR_FILENO;
	fds[INSTANCE_PLACE_SOCKET_LOCK] = process->api_lock_fd;
	return 0;
}

static void rests(struct instance_host *host)
{
	console_hub_log_flush(process_of(host)->hub);
}

/* Nothing of it is removed or written at the end, but the events that there were here. */
static void left(struct instance_host *host)
{
	struct vm_process *process = process_of(host);

	process->left = true;
	api_unlisten(process->api);
	console_hub_unlisten(process->hub);
	for (size_t i = 0; i < ARRAY_SIZE(process->crash.report_fds); i++) {
		int fd = process->crash.report_fds[i];

		process->crash.report_fds[i] = -1;
		close_fd(&fd);
	}
	vm_keep_events(&process->keep, process->instance);
	close_fd(&process->keep.events_fd);
	run_directory_leave(&process->directory);
	process->api_socket_ours = false;
	close_fd(&process->api_lock_fd);
}

static void take_doors(struct vm_process *process, int fds[INSTANCE_PLACES])
{
	static const enum instance_place sockets[] = { INSTANCE_PLACE_API, INSTANCE_PLACE_SOCKET };
	struct error e = { 0 };

	if (fds[INSTANCE_PLACE_CONSOLE] >= 0 &&
	    (run_directory_listen_on(fds[INSTANCE_PLACE_CONSOLE], &e) < 0 ||
	     console_hub_listen(process->hub, take_fd(&fds[INSTANCE_PLACE_CONSOLE]), &e) < 0)) {
		log_error_object(&e);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sockets); i++) {
		int *fd = &fds[sockets[i]];

		if (*fd >= 0 && (run_directory_listen_on(*fd, &e) < 0 ||
				 api_listen(process->api, take_fd(fd), &e) < 0)) {
			log_error_object(&e);
		}
	}
}

static void take_reports(struct vm_process *process, int fds[INSTANCE_PLACES])
{
	if (fds[INSTANCE_PLACE_LOG] >= 0 &&
	    dup3(fds[INSTANCE_PLACE_LOG], STDERR_FILENO, 0) != STDERR_FILENO) {
		log_warn("messages do not go on in vmm.log");
	}
	if (fds[INSTANCE_PLACE_CONSOLE_LOG] >= 0) {
		console_hub_log_on(process->hub, take_fd(&fds[INSTANCE_PLACE_CONSOLE_LOG]));
	}
	process->crash.report_fds[VM_PROCESS_REPORT_IN_DIRECTORY] =
		take_fd(&fds[INSTANCE_PLACE_EXIT]);
	process->crash.report_fds[VM_PROCESS_REPORT_GIVEN] = take_fd(&fds[INSTANCE_PLACE_REPORT]);
	process->keep.events_fd = take_fd(&fds[INSTANCE_PLACE_EVENTS]);
	process->keep.name = process->directory.name;
}

/* Who is asked for from here on is this process: of the sockets, and in the lock's file. */
static void take_place(struct instance_host *host, int fds[INSTANCE_PLACES])
{
	struct vm_process *process = process_of(host);
	const uint64_t timeout = process->config.settings.timeout_ns;
	const uint64_t uptime = instance_uptime_ns(process->instance);

	memcpy(process->place, fds, sizeof(process->place));
	run_directory_take(&process->directory, take_fd(&fds[INSTANCE_PLACE_DIRECTORY]),
			   take_fd(&fds[INSTANCE_PLACE_LOCK]));
	process->directory.keep = true;
	take_reports(process, fds);
	process->config.api_socket = process->config.settings.api_socket;
	process->api_lock_fd = take_fd(&fds[INSTANCE_PLACE_SOCKET_LOCK]);
	process->api_socket_ours = process->api_lock_fd >= 0;
	take_doors(process, fds);
	if (timeout != 0) {
		loop_timer_set(&process->loop, &process->timeout,
			       timeout - MIN(uptime, timeout - 1), vm_process_timeout);
	}
	for (int i = 0; i < INSTANCE_PLACES; i++) {
		close_fd(&fds[i]);
	}
	log_info("goes on here, in process %d, of vmm " VMM_VERSION, (int)getpid());
}

void vm_process_share_place(struct vm_process *process)
{
	process->host.show_place = show_place;
	process->host.rests = rests;
	process->host.left = left;
	process->host.take_place = take_place;
}

int vm_process_expect_place(struct vm_process *process, struct error *e)
{
	int r = run_directory_expect(&process->directory, process->config.name, e);

	/* By which its definition goes, should the VM move to another host. */
	process->keep.directory_fd = definition_open_directory(process->config.name, NULL);
	return r;
}
