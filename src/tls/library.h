/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GnuTLS, loaded when this program begins: its headers are needed to build, the library only where somebody asks for TLS, and what is
 * said where it is missing names the package. Constant after tls_library_load(); any thread.
 */
#ifndef VMM_SRC_TLS_LIBRARY_H
#define VMM_SRC_TLS_LIBRARY_H

#include <gnutls/gnutls.h>

#include "vmm/error.h"

#define TLS_FUNCTIONS(F)                           \
	F(gnutls_strerror)                         \
	F(gnutls_certificate_allocate_credentials) \
	F(gnutls_certificate_free_credentials)     \
	F(gnutls_certificate_set_x509_trust_file)  \
	F(gnutls_certificate_set_x509_crl_file)    \
	F(gnutls_certificate_set_x509_key_file)    \
	F(gnutls_certificate_server_set_request)   \
	F(gnutls_priority_init)                    \
	F(gnutls_priority_deinit)                  \
	F(gnutls_priority_set)                     \
	F(gnutls_credentials_set)                  \
	F(gnutls_init)                             \
	F(gnutls_deinit)                           \
	F(gnutls_session_set_verify_cert2)         \
	F(gnutls_session_get_verify_cert_status)   \
	F(gnutls_transport_set_ptr)                \
	F(gnutls_transport_set_push_function)      \
	F(gnutls_transport_set_pull_function)      \
	F(gnutls_handshake)                        \
	F(gnutls_record_get_direction)             \
	F(gnutls_record_recv)                      \
	F(gnutls_record_send)                      \
	F(gnutls_bye)                              \
	F(gnutls_alert_send_appropriate)           \
	F(gnutls_alert_get)                        \
	F(gnutls_alert_get_name)                   \
	F(gnutls_error_is_fatal)

struct tls_library {
	void *handle;
/* NOLINTBEGIN(bugprone-macro-parentheses): a declared name cannot have them */
#define TLS_MEMBER(name) __typeof__(name) *name;
	TLS_FUNCTIONS(TLS_MEMBER)
#undef TLS_MEMBER
	/* NOLINTEND(bugprone-macro-parentheses) */
};

/* Main, before any filter. ERROR_NOT_SUPPORTED. Never unloaded. */
int tls_library_load(struct tls_library *lib, struct error *e);

#endif
