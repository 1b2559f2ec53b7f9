/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's process that waits for its VM to come from elsewhere: the request is made as a client's would be, so that the loop runs, and
 * clients are answered, meanwhile. Main thread.
 */
#include <errno.h>

#include "vm_process.h"

/* The VM is here, paused, and the rest is on its way; or there is none. */
static void received(struct instance_call *call, json_t *reply, const struct error *failure)
{
	struct vm_process *process = container_of(call, struct vm_process, received);

	json_decref(reply);
	if (failure != NULL) {
		process->stop = (struct vm_stop){ .reason = VM_STOP_ERROR, .error = *failure };
		loop_stop(&process->loop);
	}
}

void vm_process_arrived(struct instance_host *host)
{
	struct vm_process *process = container_of(host, struct vm_process, host);

	process->must_arrive = false;
	vm_process_tell_started(process);
}

int vm_process_receive(struct vm_process *process, const struct receive_request *request,
		       struct error *e)
{
	const struct request asked = { .type = REQUEST_PUT_MIGRATION_RECEIVE, .object = request };

	int r = request->upgrade ? vm_process_expect_place(process, e) : 0;

	if (r < 0) {
		return r;
	}
	process->restored = process->receives = true;
	/*
	 * sshd ends a command's input with the process that it has started, whoever else has that: vmm receive -d - has to stay until
	 * nothing more comes.
	 */
	process->must_arrive = request->socket != NULL && !request->socket->listens;
	process->received.done = received;
	instance_request(process->instance, &asked, &process->received);
	if (process->stop.reason == VM_STOP_ERROR) {
		*e = process->stop.error;
		return -EINVAL;
	}
	/* Whoever migrates may connect from now on, unless he is connected already. */
	vm_process_tell_started(process);
	return 0;
}
