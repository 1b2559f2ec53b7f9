/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the API's description as docs/openapi.json has it: indented, keys sorted. */
#include <stdio.h>
#include <stdlib.h>

#include "vmm/api.h"

int main(void)
{
	auto_json json_t *document = NULL;

	json_prepare();
	document = api_describe();
	if (document == NULL ||
	    json_dumpf(document, stdout, JSON_INDENT(2) | JSON_SORT_KEYS) != 0 || puts("") == EOF ||
	    fflush(stdout) != 0) {
		(void)fprintf(stderr, "print_openapi: cannot be made or written\n");
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
