// SPDX-License-Identifier: Apache-2.0
/*
 * Sessions: session.h is the contract. The library reads and writes by functions of ours, so that a few records come with one call to
 * the kernel, and no signal with a connection that is gone.
 *
 * A session's thread. What the peer sends is the library's to parse; from here it has the time of a handshake, and no more memory than
 * a session's.
 */
#include "session.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmm/loop.h"

#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3"
#define FILE_MAX 4096

/* --- credentials --------------------------------------------------------------------------------- */

static int file_name(char path[FILE_MAX], const char *directory, const char *name, struct error *e)
{
	int n = snprintf(path, FILE_MAX, "%s/%s", directory, name);

	return n < FILE_MAX ? 0
			    : error_set(e, ERROR_CONFIG, ENAMETOOLONG,
					"TLS: '%.100s...' is too long", directory);
}

static int __cold bad_file(const char *path, const char *why, struct error *e)
{
	(void)error_set(e, ERROR_CONFIG, EINVAL, "TLS: '%.200s': %s", path, why);
	return error_hint(e, "a receiver needs ca-cert.pem, server-cert.pem and server-key.pem "
			     "there, a sender ca-cert.pem, "
			     "client-cert.pem and client-key.pem");
}

static int check_file(const char *path, struct error *e)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		return bad_file(path, strerror(errno), e);
	}
	return S_ISREG(st.st_mode) ? 0 : bad_file(path, "not a file", e);
}

static int load_authority(struct tls_credentials *credentials, const char *directory,
			  struct error *e)
{
	const struct tls_library *lib = credentials->lib;
	char path[FILE_MAX];
	struct stat st;
	int r = file_name(path, directory, "ca-cert.pem", e);

	r = r == 0 ? check_file(path, e) : r;
	if (r < 0) {
		return r;
	}
	r = lib->gnutls_certificate_set_x509_trust_file(credentials->certificates, path,
							GNUTLS_X509_FMT_PEM);
	if (r <= 0) {
		return bad_file(path,
				r < 0 ? lib->gnutls_strerror(r) : "no certificate is in there", e);
	}
	/* What has been revoked, if there is a list. */
	r = file_name(path, directory, "ca-crl.pem", e);
	if (r < 0 || stat(path, &st) < 0) {
		return r;
	}
	r = lib->gnutls_certificate_set_x509_crl_file(credentials->certificates, path,
						      GNUTLS_X509_FMT_PEM);
	return r > 0 ? 0
		     : bad_file(path, r < 0 ? lib->gnutls_strerror(r) : "no list is in there", e);
}

static int load_own(struct tls_credentials *credentials, const char *directory, struct error *e)
{
	const bool accepts = credentials->side == TLS_ACCEPTS;
	char certificate[FILE_MAX], key[FILE_MAX];
	int r = file_name(certificate, directory, accepts ? "server-cert.pem" : "client-cert.pem",
			  e);

	r = r == 0 ? file_name(key, directory, accepts ? "server-key.pem" : "client-key.pem", e)
		   : r;
	r = r == 0 ? check_file(certificate, e) : r;
	r = r == 0 ? check_file(key, e) : r;
	if (r < 0) {
		return r;
	}
	r = credentials->lib->gnutls_certificate_set_x509_key_file(
		credentials->certificates, certificate, key, GNUTLS_X509_FMT_PEM);
	return r < 0 ? bad_file(key, credentials->lib->gnutls_strerror(r), e) : 0;
}

int tls_credentials_load(struct tls_credentials *credentials, const char *directory,
			 struct error *e)
{
	const struct tls_library *lib = credentials->lib;
	int r = lib->gnutls_certificate_allocate_credentials(&credentials->certificates);

	r = r == 0 ? lib->gnutls_priority_init(&credentials->priority, PRIORITY, NULL) : r;
	if (r < 0) {
		return error_set(e, ERROR_NOT_SUPPORTED, ENOTSUP, "TLS: %s",
				 lib->gnutls_strerror(r));
	}
	r = load_authority(credentials, directory, e);
	return r == 0 ? load_own(credentials, directory, e) : r;
}

void tls_credentials_finish(struct tls_credentials *credentials)
{
	if (credentials->priority != NULL) {
		credentials->lib->gnutls_priority_deinit(credentials->priority);
	}
	if (credentials->certificates != NULL) {
		credentials->lib->gnutls_certificate_free_credentials(credentials->certificates);
	}
	credentials->priority = NULL;
	credentials->certificates = NULL;
}

/* --- the socket ---------------------------------------------------------------------------------- */

static ssize_t pull(gnutls_transport_ptr_t arg, void *data, size_t len)
{
	struct tls_session *session = arg;
	size_t have = session->len - session->at;

	if (have == 0) {
		ssize_t n = recv(session->stream.in, session->input, sizeof(session->input),
				 MSG_DONTWAIT);

		if (n <= 0) {
			return n;
		}
		session->at = 0;
		session->len = have = (size_t)n;
	}
	len = MIN(len, have);
	memcpy(data, session->input + session->at, len);
	session->at += len;
	return (ssize_t)len;
}

static ssize_t push(gnutls_transport_ptr_t arg, const void *data, size_t len)
{
	const struct tls_session *session = arg;

	return send(session->stream.out, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* --- the stream ---------------------------------------------------------------------------------- */

static int __cold refused_by_peer(struct tls_session *session, struct error *e)
{
	const struct tls_library *lib = session->credentials->lib;
	const char *alert = lib->gnutls_alert_get_name(lib->gnutls_alert_get(session->session));

	(void)error_set(e, ERROR_MIGRATION, EACCES,
			"TLS: the other side does not accept this one: %s",
			alert != NULL ? alert : "no reason given");
	return error_hint(e, "look at the messages there (vmm logs, or its standard error), and at "
			     "the certificates of both sides");
}

static int __cold describe(struct tls_session *session, int code, struct error *e)
{
	const struct tls_library *lib = session->credentials->lib;

	switch (code) {
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		return refused_by_peer(session, e);
	case GNUTLS_E_PREMATURE_TERMINATION:
	case GNUTLS_E_PUSH_ERROR:
	case GNUTLS_E_PULL_ERROR:
		return error_set(e, ERROR_MIGRATION, ECONNRESET,
				 "TLS: the other side has closed the connection");
	case GNUTLS_E_UNEXPECTED_PACKET_LENGTH:
	case GNUTLS_E_UNEXPECTED_PACKET:
	case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
	case GNUTLS_E_RECORD_OVERFLOW:
	case GNUTLS_E_NO_CIPHER_SUITES:
		return error_set(e, ERROR_MIGRATION, EPROTO,
				 "TLS: the other side does not speak TLS 1.3");
	case GNUTLS_E_NO_CERTIFICATE_FOUND:
	case GNUTLS_E_CERTIFICATE_REQUIRED:
		return error_set(e, ERROR_MIGRATION, EACCES,
				 "TLS: the other side has shown no certificate");
	default:
		return error_set(e, ERROR_MIGRATION, EPROTO, "TLS: %s", lib->gnutls_strerror(code));
	}
}

static bool again(int code)
{
	return code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED;
}

static int failed(struct tls_session *session, ssize_t code, short *wants)
{
	const struct tls_library *lib = session->credentials->lib;

	if (again((int)code)) {
		*wants = lib->gnutls_record_get_direction(session->session) != 0 ? POLLOUT : POLLIN;
		return -EAGAIN;
	}
	if (lib->gnutls_error_is_fatal((int)code) == 0) {
		return -EINTR;
	}
	if (session->error.code == ERROR_NONE) {
		(void)describe(session, (int)code, &session->error);
	}
	return -EPROTO;
}

static ssize_t receive(struct relay_stream *stream, void *data, size_t len, short *wants)
{
	struct tls_session *session = container_of(stream, struct tls_session, stream);
	size_t have = 0;
	ssize_t n;

	/* The library gives a record at a time. */
	do {
		n = session->credentials->lib->gnutls_record_recv(
			session->session, (uint8_t *)data + have, len - have);
		have += n > 0 ? (size_t)n : 0;
	} while (n > 0 && have < len);
	if (have > 0) {
		/* An end comes again, and so does an error, without its reason. */
		if (n < 0 && session->credentials->lib->gnutls_error_is_fatal((int)n) != 0) {
			(void)describe(session, (int)n, &session->error);
		}
		return (ssize_t)have;
	}
	return n < 0 ? failed(session, n, wants) : 0;
}

static ssize_t transmit(struct relay_stream *stream, const void *data, size_t len, short *wants)
{
	struct tls_session *session = container_of(stream, struct tls_session, stream);
	size_t done = 0;
	ssize_t n;

	/* After an "again" the same bytes have to come again: what is not counted here does. */
	do {
		n = session->credentials->lib->gnutls_record_send(
			session->session, (const uint8_t *)data + done, len - done);
		done += n > 0 ? (size_t)n : 0;
	} while (n > 0 && done < len);
	return done > 0 ? (ssize_t)done : failed(session, n, wants);
}

static int end(struct relay_stream *stream, short *wants)
{
	struct tls_session *session = container_of(stream, struct tls_session, stream);
	int n = session->credentials->lib->gnutls_bye(session->session, GNUTLS_SHUT_WR);

	return n == 0 || !again(n) ? 0 : failed(session, n, wants);
}

static const struct relay_stream_ops ops = { receive, transmit, end };

/* --- the handshake ------------------------------------------------------------------------------- */

static int __cold untrusted(struct tls_session *session, struct error *e)
{
	static const struct {
		unsigned int flag;
		const char *why;
	} reasons[] = {
		{ GNUTLS_CERT_REVOKED, "has been revoked" },
		{ GNUTLS_CERT_EXPIRED, "has expired" },
		{ GNUTLS_CERT_NOT_ACTIVATED, "is not valid yet" },
		{ GNUTLS_CERT_SIGNER_NOT_FOUND, "is of no authority in ca-cert.pem" },
		{ GNUTLS_CERT_SIGNER_NOT_CA, "is signed by a certificate that is no authority's" },
		{ GNUTLS_CERT_PURPOSE_MISMATCH, "is not for this side of a connection" },
		{ GNUTLS_CERT_INSECURE_ALGORITHM,
		  "is signed by an algorithm that is not secure any more" },
		{ GNUTLS_CERT_UNEXPECTED_OWNER, "is another host's" },
	};
	const struct tls_credentials *credentials = session->credentials;
	const unsigned int status =
		credentials->lib->gnutls_session_get_verify_cert_status(session->session);
	const char *why = "cannot be trusted";
	int r;

	for (size_t i = ARRAY_SIZE(reasons); i-- > 0;) {
		why = (status & reasons[i].flag) != 0 ? reasons[i].why : why;
	}
	r = error_set(e, ERROR_MIGRATION, EACCES, "TLS: the other side's certificate %s", why);
	if ((status & GNUTLS_CERT_UNEXPECTED_OWNER) != 0) {
		r = error_hint(
			e,
			"it does not name '%.100s'; --tls-hostname says another name that it has",
			credentials->hostname);
	}
	return r;
}

static int shake_hands(struct tls_session *session, int limit_ms, struct error *e)
{
	const struct tls_library *lib = session->credentials->lib;
	const uint64_t until = loop_now_ns() + (uint64_t)limit_ms * 1000000;

	for (;;) {
		int r = lib->gnutls_handshake(session->session);
		struct pollfd fd = { .fd = session->stream.in };
		uint64_t now = loop_now_ns();

		if (r == 0) {
			return 0;
		}
		if (r < 0 && lib->gnutls_error_is_fatal(r) != 0) {
			/* So that the peer can say why, too. */
			(void)lib->gnutls_alert_send_appropriate(session->session, r);
			return r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR
				       ? untrusted(session, e)
				       : describe(session, r, e);
		}
		if (now >= until) {
			return error_set(e, ERROR_MIGRATION, ETIMEDOUT,
					 "TLS: no handshake within %d s", limit_ms / 1000);
		}
		fd.events =
			lib->gnutls_record_get_direction(session->session) != 0 ? POLLOUT : POLLIN;
		(void)poll(&fd, 1, (int)((until - now + 999999) / 1000000));
	}
}

/* Whom the other side's certificate has to be. */
static void expect(struct tls_session *session)
{
	static const char *const purposes[] = {
		[TLS_ACCEPTS] = GNUTLS_KP_TLS_WWW_CLIENT, [TLS_CONNECTS] = GNUTLS_KP_TLS_WWW_SERVER
	};
	const struct tls_credentials *credentials = session->credentials;
	const char *hostname = credentials->side == TLS_CONNECTS ? credentials->hostname : NULL;
	unsigned int count = 0;

	session->expected[count++] = (gnutls_typed_vdata_st){
		.type = GNUTLS_DT_KEY_PURPOSE_OID,
		.data = (unsigned char *)(uintptr_t)purposes[credentials->side]
	};
	if (hostname != NULL) {
		session->expected[count++] =
			(gnutls_typed_vdata_st){ .type = GNUTLS_DT_DNS_HOSTNAME,
						 .data = (unsigned char *)(uintptr_t)hostname };
	}
	credentials->lib->gnutls_session_set_verify_cert2(session->session, session->expected,
							  count, 0);
}

int tls_session_begin(struct tls_session *session, const struct tls_credentials *credentials,
		      int fd, int limit_ms, struct error *e)
{
	const struct tls_library *lib = credentials->lib;
	const unsigned int role = credentials->side == TLS_ACCEPTS ? GNUTLS_SERVER : GNUTLS_CLIENT;
	int r;

	*session = (struct tls_session){ .stream = { .ops = &ops, .in = fd, .out = fd },
					 .credentials = credentials };
	/* A certificate that will not do is shown nevertheless: the other side can say what is wrong with it. */
	r = lib->gnutls_init(&session->session,
			     role | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS | GNUTLS_FORCE_CLIENT_CERT);
	r = r == 0 ? lib->gnutls_priority_set(session->session, credentials->priority) : r;
	r = r == 0 ? lib->gnutls_credentials_set(session->session, GNUTLS_CRD_CERTIFICATE,
						 credentials->certificates)
		   : r;
	if (r < 0) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "TLS: %s", lib->gnutls_strerror(r));
	}
	if (credentials->side == TLS_ACCEPTS) {
		lib->gnutls_certificate_server_set_request(session->session, GNUTLS_CERT_REQUIRE);
	}
	expect(session);
	lib->gnutls_transport_set_ptr(session->session, session);
	lib->gnutls_transport_set_push_function(session->session, push);
	lib->gnutls_transport_set_pull_function(session->session, pull);
	return shake_hands(session, limit_ms, e);
}

void tls_session_finish(struct tls_session *session)
{
	if (session->session != NULL) {
		session->credentials->lib->gnutls_deinit(session->session);
		session->session = NULL;
	}
}
