// SPDX-License-Identifier: Apache-2.0
/*
 * The states of an instance: names, and which may follow which. What comes next (a save, a migration)
 * is a state of its own: a value of the enum, a row here, its name in the API's schema. Main thread.
 */
#include "internal.h"

#define TO(state) (1U << INSTANCE_##state)
/* Of a VM that lives: whatever is under way, a stop may come, and its end. */
#define ENDS (TO(STOPPING) | TO(ENDED))

const struct instance_state_info instance_states[INSTANCE_STATES] = {
	[INSTANCE_NOT_STARTED] = { "not-started", "Not started", STAGE_BEFORE, TO(STARTING) },
	[INSTANCE_STARTING] = { "starting", "Not started", STAGE_BETWEEN,
				TO(NOT_STARTED) | TO(RUNNING) | TO(PAUSED) | TO(ENDED) },
	[INSTANCE_RUNNING] = { "running", "Running", STAGE_AFTER,
			       TO(PAUSING) | TO(RESETTING) | ENDS },
	[INSTANCE_PAUSING] = { "pausing", "Running", STAGE_AFTER, TO(PAUSED) | TO(RUNNING) | ENDS },
	[INSTANCE_PAUSED] = { "paused", "Paused", STAGE_AFTER, TO(RESUMING) | ENDS },
	[INSTANCE_RESUMING] = { "resuming", "Paused", STAGE_AFTER,
				TO(RUNNING) | TO(PAUSED) | ENDS },
	[INSTANCE_RESETTING] = { "resetting", "Running", STAGE_AFTER, TO(RUNNING) | ENDS },
	[INSTANCE_STOPPING] = { "stopping", "Running", STAGE_AFTER, TO(ENDED) },
	[INSTANCE_ENDED] = { "ended", "Not started", STAGE_AFTER, 0 },
};

const char *instance_state_name(enum instance_state state)
{
	return instance_states[state].name;
}

enum instance_state instance_state(const struct instance *instance)
{
	return instance->state;
}

void instance_enter(struct instance *instance, enum instance_state state)
{
	VMM_BUG_ON((instance_states[instance->state].next >> state & 1) == 0);
	instance->state = state;
}
