// SPDX-License-Identifier: Apache-2.0
/*
 * compile_hotplug OUT: writes the DSDT's part of PCI hot-plug, which is the same for every machine, as C.
 * Runs when vmm is built: a start copies the bytes (writing them anew would take it 30 us).
 */
#include <stdio.h>

#include "acpi_hotplug.h"

#define SIZE_MAX_BYTES 8192

int main(int argc, char **argv)
{
	static uint8_t bytes[SIZE_MAX_BYTES];
	struct aml aml;
	FILE *out = argc == 2 ? fopen(argv[1], "we") : NULL;

	if (out == NULL) {
		(void)fprintf(stderr, "usage: compile_hotplug OUT\n");
		return 2;
	}
	aml_init(&aml, bytes, sizeof(bytes));
	acpi_describe_hotplug(&aml);
	(void)fprintf(out, "/* By compile_hotplug. */\n#include \"acpi_hotplug.h\"\n\n"
			   "const uint8_t acpi_hotplug_aml[] = {");
	for (size_t i = 0; i < aml.len; i++) {
		(void)fprintf(out, "%s0x%02x,", i % 16 == 0 ? "\n\t" : " ", bytes[i]);
	}
	(void)fprintf(out,
		      "\n};\nconst size_t acpi_hotplug_aml_size = sizeof(acpi_hotplug_aml);\n");
	return fclose(out) != 0 || aml.failed ? 1 : 0;
}
