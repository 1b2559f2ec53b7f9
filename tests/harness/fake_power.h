/* SPDX-License-Identifier: Apache-2.0 */
/* A power sink that remembers the last event and counts all of them. */
#ifndef TESTS_FAKE_POWER_H
#define TESTS_FAKE_POWER_H

#include "vmm/power.h"
#include "vmm/types.h"

struct fake_power {
	struct power_sink sink; /* hand &fake.sink to the device */
	enum power_event last;
	uint8_t code;
	unsigned int count;
};

static inline void fake_power_event_(struct power_sink *sink, enum power_event event, uint8_t code)
{
	struct fake_power *power = container_of(sink, struct fake_power, sink);

	power->last = event;
	power->code = code;
	power->count++;
}

static inline void fake_power_init(struct fake_power *power)
{
	*power = (struct fake_power){ .sink = { .event = fake_power_event_ } };
}

#endif
