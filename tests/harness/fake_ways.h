/* SPDX-License-Identifier: Apache-2.0 */
/* The ways of the fake driver to its device: by calls, by the registers of MMIO, by those of PCI. Private to the driver. */
#ifndef TESTS_FAKE_WAYS_H
#define TESTS_FAKE_WAYS_H

#include <stdio.h>
#include <stdlib.h>

#include "fake_driver.h"

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

struct fake_way {
	uint32_t (*status)(struct fake_driver *d);
	void (*set_status)(struct fake_driver *d, uint32_t status);
	uint32_t (*offered)(struct fake_driver *d, uint32_t select);
	void (*accept)(struct fake_driver *d, uint32_t select, uint32_t features);
	/* The ring is laid out. */
	void (*setup_queue)(struct fake_driver *d, uint32_t index);
	void (*kick)(struct fake_driver *d, uint32_t index);
};

/* The one that it was attached by. */
const struct fake_way *fake_way_to(const struct fake_driver *d);

#endif
