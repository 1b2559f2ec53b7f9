/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What requests of migration say: their option tables, which the command line and the API share. The values are a client's, and judged
 * by who carries them out.
 */
#include "internal.h"

#define MS 1000000ULL

#define IN(member) .offset = offsetof(struct migrate_request, member)
static const struct option_value limits[] = {
	{ "cancel", MIGRATE_LIMIT_CANCEL },
	{ "force", MIGRATE_LIMIT_FORCE },
	{ NULL, 0 },
};
static const struct option migrate_list[] = {
	{ .type = OPTION_STRING,
	  IN(address),
	  .ours = true,
	  .json = "address",
	  .json_required = true,
	  .help = "where the other vmm waits: unix:PATH, or tcp:HOST:PORT with the number of a "
		  "host" },
	{ .name = "downtime",
	  .type = OPTION_DURATION,
	  IN(downtime_ns),
	  .min = MS,
	  .max = 3600000 * MS,
	  .unit = "1ms to 1h",
	  .argument = "TIME",
	  .fallback = "30ms",
	  .ours = true,
	  .json = "downtime_ms",
	  .help = "how long the guest may stand still, as far as that can be foreseen" },
	{ .name = "time-limit",
	  .type = OPTION_DURATION,
	  IN(time_limit_ns),
	  .max = 86400000 * MS,
	  .unit = "up to a day",
	  .argument = "TIME",
	  .fallback = "10m",
	  .ours = true,
	  .json = "time_limit_ms",
	  .help = "how long memory may be copied while the guest runs; 0: for ever" },
	{ .name = "at-limit",
	  .type = OPTION_ENUM,
	  IN(at_limit),
	  .values = limits,
	  .argument = "cancel|force",
	  .fallback = "cancel",
	  .ours = true,
	  .json = "at_limit",
	  .help = "what then, if the guest still writes faster than it can be sent: the VM stays, "
		  "or moves "
		  "with a longer pause" },
	{ .name = "throttle",
	  .type = OPTION_U32,
	  IN(throttle_percent),
	  .max = 99,
	  .argument = "PERCENT",
	  .fallback = "0",
	  .ours = true,
	  .json = "throttle_percent",
	  .help = "a guest that writes faster than can be sent is slowed down, step by step, by at "
		  "most so much" },
	{ .name = "bandwidth",
	  .type = OPTION_SIZE,
	  IN(bandwidth),
	  .argument = "SIZE",
	  .ours = true,
	  .json = "bandwidth_bytes_per_second",
	  .help = "so much a second at most, while the guest runs; default: all there is" },
	{ .name = "silence",
	  .type = OPTION_DURATION,
	  IN(silence_ns),
	  .min = 100 * MS,
	  .max = 3600000 * MS,
	  .unit = "100ms to 1h",
	  .argument = "TIME",
	  .fallback = "30s",
	  .ours = true,
	  .json = "silence_ms",
	  .help = "how long nothing may come from the other side" },
	{ .name = "insecure",
	  .type = OPTION_FLAG,
	  IN(insecure),
	  .careful = true,
	  .ours = true,
	  .json = "insecure",
	  .help = "the network between is trusted: memory goes over it as it is" },
	{ .type = OPTION_FLAG,
	  IN(background),
	  .ours = true,
	  .json = "background",
	  .help = "answer when it has begun, with the number of its job" },
};
#undef IN
const struct option_table migrate_request_options = OPTION_TABLE("migrate-request", migrate_list);

#define IN(member) .offset = offsetof(struct migration_decision, member)
static const struct option_value decisions[] = {
	{ "run", MIGRATION_DECIDE_RUN },
	{ "give-up", MIGRATION_DECIDE_GIVE_UP },
	{ "cancel", MIGRATION_DECIDE_CANCEL },
	{ NULL, 0 },
};
static const struct option decision_list[] = {
	{ .type = OPTION_ENUM,
	  IN(decision),
	  .values = decisions,
	  .ours = true,
	  .json = "decision",
	  .json_required = true,
	  .help = "run: the VM goes on here; give-up: it never will; cancel: the migration, before "
		  "it is in doubt" },
	{ .name = "word",
	  .type = OPTION_STRING,
	  IN(word),
	  .argument = "WORD",
	  .ours = true,
	  .json = "word",
	  .help = "of run: what the other side shows" },
	{ .name = "vouched",
	  .type = OPTION_FLAG,
	  IN(vouched),
	  .careful = true,
	  .ours = true,
	  .json = "vouched",
	  .help = "of run, without a word: you know that the VM runs nowhere else, and never "
		  "will" },
};
#undef IN
const struct option_table migration_decision_options =
	OPTION_TABLE("migration-decision", decision_list);

#define IN(member) .offset = offsetof(struct receive_request, member)
static const struct option receive_list[] = {
	{ .type = OPTION_STRING,
	  IN(address),
	  .ours = true,
	  .json = "address",
	  .json_required = true,
	  .help = "where it waits: unix:PATH, or tcp:HOST:PORT with the number of a host" },
	{ .name = "allow",
	  .type = OPTION_STRING,
	  IN(allow),
	  .argument = "FOLDER",
	  .file = true,
	  .ours = true,
	  .json = "allow",
	  .help = "files that the other side names may be opened if they are in there: disks, and "
		  "the "
		  "kernel for a reset" },
	{ .name = "max-memory",
	  .type = OPTION_SIZE,
	  IN(memory_max),
	  .argument = "SIZE",
	  .ours = true,
	  .json = "max_memory_bytes",
	  .help = "a VM with more memory is refused; default: what this host can" },
	{ .name = "silence",
	  .type = OPTION_DURATION,
	  IN(silence_ns),
	  .min = 100 * MS,
	  .max = 3600000 * MS,
	  .unit = "100ms to 1h",
	  .argument = "TIME",
	  .fallback = "30s",
	  .ours = true,
	  .json = "silence_ms",
	  .help = "how long nothing may come from the other side, once it is there" },
	{ .name = "insecure",
	  .type = OPTION_FLAG,
	  IN(insecure),
	  .careful = true,
	  .ours = true,
	  .json = "insecure",
	  .help = "the network is trusted: whoever reaches the address may send a VM" },
	{ .type = OPTION_FLAG,
	  IN(track_dirty_pages),
	  .ours = true,
	  .json = "track_dirty_pages",
	  .help = "note which pages the guest writes, for incremental snapshots" },
	{ .type = OPTION_OBJECTS,
	  .object = &net_override_options,
	  IN(nets),
	  .ours = true,
	  .json = "network_overrides",
	  .help = "what network cards are connected to here" },
	{ .type = OPTION_OBJECTS,
	  .object = &disk_override_options,
	  IN(disks),
	  .ours = true,
	  .json = "drive_overrides",
	  .help = "drives that have other files behind them here" },
};
#undef IN
const struct option_table receive_request_options = OPTION_TABLE("receive-request", receive_list);
