/* SPDX-License-Identifier: Apache-2.0 */
/* Between option_value.c (one value), options.c (tables) and options_help.c. */
#ifndef VMM_BASE_OPTIONS_INTERNAL_H
#define VMM_BASE_OPTIONS_INTERNAL_H

#include "vmm/options.h"

/* As options_set(), without marking the option as given. */
int option_set_value(const struct option *option, void *object, const char *what, const char *text,
		     struct error *e);
/* What the option accepts, in words: "a size such as 512M or 2G, 32M to 64G". */
void option_describe(const struct option *option, char *buf, size_t size);

#endif
