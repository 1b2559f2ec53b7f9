// SPDX-License-Identifier: Apache-2.0
/*
 * Connections: carry.h is the contract. As many threads as there may be connections, made before the filter: each accepts one, carries
 * it to its end, and accepts the next. They share what is constant.
 *
 * Who accepts TLS connects to the VM only when the client has shown who it is: of one that has not, not a byte comes there. Clients
 * control when they come, and what they say to the TLS library.
 */
#include "carry.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/migration_address.h"

LOG_DOMAIN("tls");

/* -1: nobody wants one any more. */
static int next_client(const struct carry *carry)
{
	for (;;) {
		struct pollfd fds[2] = { { .fd = carry->listener, .events = POLLIN },
					 { .fd = carry->status_fd } };
		int client;

		if (poll(fds, 2, -1) < 0 && errno != EINTR) {
			return -1;
		}
		if ((fds[1].revents & (POLLERR | POLLHUP)) != 0) {
			/* Who waits to be accepted hears it, too. */
			(void)shutdown(carry->listener, SHUT_RDWR);
			return -1;
		}
		client = accept4(carry->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client >= 0) {
			return client;
		}
		/* Another thread was quicker, or the client has gone again. */
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
			log_warn("TLS: accept: %s", strerror(errno));
			return -1;
		}
	}
}

static int pump(struct tls_session *session, int plain_fd, struct error *e)
{
	struct relay_stream plain;
	int r;

	relay_stream_plain(&plain, plain_fd, plain_fd);
	r = relay_pump(&plain, &session->stream, e);
	/* What the library says is more. */
	if (r < 0 && session->error.code != ERROR_NONE) {
		*e = session->error;
	}
	return r;
}

static int carry_accepted(const struct carry *carry, struct tls_session *session, int client,
			  struct error *e)
{
	auto_close int there = -1;
	int r = tls_session_begin(session, carry->credentials, client, HANDSHAKE_MS, e);

	if (r < 0) {
		return r;
	}
	there = migration_address_connect(carry->destination, true, e);
	return there < 0 ? there : pump(session, there, e);
}

static int carry_connecting(const struct carry *carry, struct tls_session *session, int client,
			    struct error *e)
{
	auto_close int there = migration_address_connect(carry->destination, true, e);
	int r = there < 0 ? there
			  : tls_session_begin(session, carry->credentials, there, HANDSHAKE_MS, e);

	return r < 0 ? r : pump(session, client, e);
}

/* One write: whole, or none if he does not read. */
static void tell(const struct carry *carry, const struct error *e)
{
	char line[sizeof(e->msg) + sizeof(e->hint) + 8];
	int n = snprintf(line, sizeof(line), "E%s\n%s\n", e->msg, e->hint);

	if (carry->status_fd >= 0 && n > 0) {
		(void)!write(carry->status_fd, line, MIN((size_t)n, sizeof(line) - 1));
	}
}

static void carry_one(const struct carry *carry, struct tls_session *session, int client)
{
	const bool accepts = carry->credentials->side == TLS_ACCEPTS;
	struct error e = { 0 };
	int r = accepts ? carry_accepted(carry, session, client, &e)
			: carry_connecting(carry, session, client, &e);

	tls_session_finish(session);
	if (r >= 0) {
		return;
	}
	/* Who connects has somebody who waits for a reason. */
	if (accepts || carry->status_fd < 0) {
		log_warn("%s%s%s", e.msg, e.hint[0] != '\0' ? "; " : "", e.hint);
	}
	tell(carry, &e);
}

static void *lane(void *arg)
{
	const struct carry *carry = arg;
	struct tls_session *session = calloc(1, sizeof(*session));
	struct error e = { 0 };
	int client;

	if (session == NULL || sandbox_enter_thread(carry->sandbox, SANDBOX_ROLE_TLS, &e) < 0) {
		log_error("TLS: %s", session == NULL ? "out of memory" : e.msg);
		free(session);
		return NULL;
	}
	while ((client = next_client(carry)) >= 0) {
		carry_one(carry, session, client);
		(void)close(client);
	}
	free(session);
	return NULL;
}

int carry_run(const struct carry *carry, struct error *e)
{
	pthread_t threads[CARRY_LANES];
	size_t count = 0;
	int r = sandbox_enter_process(carry->sandbox, e);

	while (r == 0 && count < CARRY_LANES) {
		int sys = pthread_create(&threads[count], NULL, lane, (void *)(uintptr_t)carry);

		if (sys != 0 && count == 0) {
			r = error_set_sys(e, ERROR_NO_MEMORY, sys, "TLS: a thread");
		} else if (sys != 0) {
			break;
		}
		count += r == 0;
	}
	r = r == 0 ? sandbox_enter_thread(carry->sandbox, SANDBOX_ROLE_TLS, e) : r;
	if (r < 0) {
		return r; /* threads end with the process */
	}
	if (carry->status_fd >= 0) {
		(void)!write(carry->status_fd, "R", 1);
	}
	for (size_t i = 0; i < count; i++) {
		(void)pthread_join(threads[i], NULL);
	}
	return 0;
}
