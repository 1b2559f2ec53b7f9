// SPDX-License-Identifier: Apache-2.0
/* See library.h. What is found is the host's, as any shared library. */
#include "library.h"

#include <dlfcn.h>
#include <errno.h>

#include "vmm/types.h"

/* Its number is that of the interface which this is compiled for. */
#define LIBRARY "libgnutls.so.30"

static int __cold missing(struct error *e)
{
	const char *why = dlerror();

	(void)error_set(e, ERROR_NOT_SUPPORTED, ENOENT,
			"TLS: the library GnuTLS cannot be loaded: %s",
			why != NULL ? why : LIBRARY);
	return error_hint(e, "install it (Debian, Ubuntu: apt-get install libgnutls30)");
}

int tls_library_load(struct tls_library *lib, struct error *e)
{
	struct {
		const char *name;
		void **function;
	} wanted[] = {
#define TLS_WANTED(name) { #name, (void **)&lib->name },
		TLS_FUNCTIONS(TLS_WANTED)
#undef TLS_WANTED
	};

	lib->handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (lib->handle == NULL) {
		return missing(e);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		*wanted[i].function = dlsym(lib->handle, wanted[i].name);
		if (*wanted[i].function == NULL) {
			return missing(e);
		}
	}
	return 0;
}
