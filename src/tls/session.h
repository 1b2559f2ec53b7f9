/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One end of TLS over a connected socket, as a stream of a relay (vmm/relay.h). TLS 1.3 and nothing older; both sides show a
 * certificate, and look at the other's: chain, dates, purpose, and, who has connected, the name.
 *
 * Credentials are constant once they are loaded, for any thread; a session is one thread's. The peer controls what comes, and is
 * nobody until tls_session_begin() has returned 0.
 */
#ifndef VMM_SRC_TLS_SESSION_H
#define VMM_SRC_TLS_SESSION_H

#include "library.h"
#include "vmm/relay.h"

enum tls_side { TLS_ACCEPTS, TLS_CONNECTS };

/* A record at its largest, four of them. */
#define TLS_INPUT (4 * (16384 + 256))

struct tls_credentials {
	const struct tls_library *lib;
	enum tls_side side;
	const char *hostname; /* TLS_CONNECTS: whom the other side's certificate has to name */
	gnutls_certificate_credentials_t certificates;
	gnutls_priority_t priority;
};

/* The files of `directory`. ERROR_CONFIG. Main, before any filter. */
int tls_credentials_load(struct tls_credentials *credentials, const char *directory,
			 struct error *e);
/* Accepts a zeroed one. */
void tls_credentials_finish(struct tls_credentials *credentials);

struct tls_session {
	struct relay_stream stream;
	const struct tls_credentials *credentials;
	gnutls_session_t session;
	gnutls_typed_vdata_st expected[2];
	struct error error; /* why the stream has failed */
	size_t at, len;	    /* of input that the library has not asked for yet */
	uint8_t input[TLS_INPUT];
};

/* The handshake, within `limit_ms` in all. `fd` does not block, and stays the caller's. */
int tls_session_begin(struct tls_session *session, const struct tls_credentials *credentials,
		      int fd, int limit_ms, struct error *e);
/* Accepts a zeroed one. */
void tls_session_finish(struct tls_session *session);

#endif
