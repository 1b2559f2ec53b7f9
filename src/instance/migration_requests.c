/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What requests of migration say: their option tables, which the command line and the API share. The values are a client's, and judged
 * by who carries them out.
 */
#include "internal.h"
#include "vmm/migration_channels.h"

#define MS 1000000ULL

/* How many connections memory goes over: on one side how many there are, on the other how many there may be. */
#define CONNECTIONS_OPTION(help_)                                                     \
	{                                                                             \
		.name = "connections", .type = OPTION_U32, IN(connections), .min = 1, \
		.max = 1 + MIGRATION_CHANNELS_MAX, .argument = "COUNT", .ours = true, \
		.zero = OPTION_ZERO_NOT_GIVEN, .json = "connections", .help = (help_) \
	}

#define IN(member) .offset = offsetof(struct migrate_request, member)
static const struct option_value limits[] = {
	{ "cancel", MIGRATE_LIMIT_CANCEL },
	{ "force", MIGRATE_LIMIT_FORCE },
	{ "postcopy", MIGRATE_LIMIT_POSTCOPY },
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
	  .argument = "cancel|force|postcopy",
	  .fallback = "cancel",
	  .ours = true,
	  .json = "at_limit",
	  .help = "what then, if the guest still writes faster than it can be sent: the VM stays, "
		  "or moves "
		  "with a longer pause, or before all of its memory has (--postcopy)" },
	{ .name = "postcopy",
	  .type = OPTION_FLAG,
	  IN(postcopy),
	  .ours = true,
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "postcopy",
	  .help = "after memory was sent once, the VM goes on there; what it has written since "
		  "comes when it "
		  "is touched, and this side is needed until all has" },
	{ .name = "throttle",
	  .type = OPTION_U32,
	  IN(throttle_percent),
	  .max = 99,
	  .argument = "PERCENT",
	  .fallback = "0",
	  .ours = true,
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "throttle_percent",
	  .help = "a guest that writes faster than can be sent is slowed down, step by step, by at "
		  "most so much" },
	{ .name = "bandwidth",
	  .type = OPTION_SIZE,
	  IN(bandwidth),
	  .argument = "SIZE",
	  .ours = true,
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "bandwidth_bytes_per_second",
	  .help = "so much a second at most, while the guest runs; default: all there is" },
	CONNECTIONS_OPTION(
		"memory goes over so many connections at once, 1 to 8, each with a thread on "
		"both sides; default: one"),
	{ .name = "compress",
	  .type = OPTION_FLAG,
	  IN(compress),
	  .ours = true,
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "compress",
	  .help = "memory goes over compressed (zstd), where that makes it less: for a network "
		  "that "
		  "is slower than a processor" },
	SILENCE_OPTION(struct migrate_request, silence_ns, "30s",
		       "how long nothing may come from the other side", .ours = true,
		       .json = "silence_ms"),
	{ .name = "with-disks",
	  .type = OPTION_FLAG,
	  IN(with_disks),
	  .ours = true,
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "with_disks",
	  .help = "disks that the VM writes go with it (vmm receive --disks-to); otherwise both "
		  "sides share them" },
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
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "background",
	  .help = "answer when it has begun, with the number of its job" },
	{ .type = OPTION_FLAG,
	  IN(upgrade),
	  .ours = true,
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "upgrade",
	  .help = "to another process of this host, which takes over the VM's name and place: "
		  "the address is unix:FILE, a socket in the VM's directory" },
};
#undef IN
const struct option_table migrate_request_options = OPTION_TABLE("migrate-request", migrate_list);

#define IN(member) .offset = offsetof(struct migration_decision, member)
static const struct option_value decisions[] = {
	{ "run", MIGRATION_DECIDE_RUN },       { "give-up", MIGRATION_DECIDE_GIVE_UP },
	{ "cancel", MIGRATION_DECIDE_CANCEL }, { "switch", MIGRATION_DECIDE_SWITCH },
	{ "resume", MIGRATION_DECIDE_RESUME }, { NULL, 0 },
};
static const struct option decision_list[] = {
	{ .type = OPTION_ENUM,
	  IN(decision),
	  .values = decisions,
	  .ours = true,
	  .json = "decision",
	  .json_required = true,
	  .help = "run: the VM goes on here; give-up: it never will; cancel: the migration, before "
		  "it is in doubt; "
		  "switch: to post-copy; resume: what memory comes over was lost, connect anew" },
	{ .name = "address",
	  .type = OPTION_STRING,
	  IN(address),
	  .argument = "ADDRESS",
	  .ours = true,
	  .json = "address",
	  .help = "of resume: another than before" },
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
	{ .name = "disks-to",
	  .type = OPTION_STRING,
	  IN(disks_to),
	  .argument = "FOLDER",
	  .file = true,
	  .ours = true,
	  .json = "disks_to",
	  .help = "disks that come with the VM (vmm migrate --with-disks) become files in there, "
		  "ID.img" },
	{ .name = "max-disks",
	  .type = OPTION_SIZE,
	  IN(disks_max),
	  .argument = "SIZE",
	  .ours = true,
	  .json = "max_disks_bytes",
	  .help = "a VM whose disks that come with it are larger in all is refused" },
	{ .name = "max-memory",
	  .type = OPTION_SIZE,
	  IN(memory_max),
	  .argument = "SIZE",
	  .ours = true,
	  .json = "max_memory_bytes",
	  .help = "a VM with more memory is refused; default: what this host can" },
	CONNECTIONS_OPTION(
		"a VM whose memory wants to come over more at once is refused; default: 8, the "
		"most"),
	SILENCE_OPTION(struct receive_request, silence_ns, "30s",
		       "how long nothing may come from the other side, once it is there",
		       .ours = true, .json = "silence_ms"),
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
