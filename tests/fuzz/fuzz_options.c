/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a device string against a table with every type of option. Beyond crashes: a refusal
 * says why, and what was accepted is within its range and free of control characters.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct config {
	const char *path;
	bool ro, on, has_mac;
	uint32_t count;
	uint64_t size, time;
	int mode, fd;
	uint8_t mac[6];
	uint32_t items;
	struct inner {
		uint64_t large, hidden;
	} inner;
};

static const struct option inner_options[] = {
	{ .name = "large",
	  .letter = 'l',
	  .type = OPTION_U64,
	  .offset = offsetof(struct inner, large),
	  .min = 3,
	  .fallback = "3" },
	{ .json = "hidden",
	  .letter = 'h',
	  .type = OPTION_U64,
	  .offset = offsetof(struct inner, hidden),
	  .fallback = "77" },
};
static const struct option_table inner_table = { .name = "inner",
						 .options = inner_options,
						 .count = ARRAY_SIZE(inner_options) };

static const struct option_value modes[] = {
	{ "auto", 0 }, { "sync", 1 }, { "uring", 2 }, { NULL, 0 }
};

static int add_item(void *object, const char *value, struct error *e)
{
	struct config *config = object;

	if (value[0] == 'x') {
		return error_set(e, ERROR_USAGE, 0, "item '%s'", value);
	}
	config->items++;
	return 0;
}

static const struct option options[] = {
	{ .name = "path",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct config, path),
	  .first = true },
	{ .name = "ro", .type = OPTION_FLAG, .offset = offsetof(struct config, ro) },
	{ .name = "on", .type = OPTION_BOOL, .offset = offsetof(struct config, on) },
	{ .name = "n",
	  .type = OPTION_U32,
	  .offset = offsetof(struct config, count),
	  .min = 1,
	  .max = 32 },
	{ .name = "s",
	  .type = OPTION_SIZE,
	  .offset = offsetof(struct config, size),
	  .max = GIB(64) },
	{ .name = "t", .type = OPTION_DURATION, .offset = offsetof(struct config, time) },
	{ .name = "m",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct config, mode),
	  .values = modes },
	{ .name = "fd", .type = OPTION_FD, .offset = offsetof(struct config, fd) },
	{ .name = "mac",
	  .type = OPTION_MAC,
	  .offset = offsetof(struct config, mac),
	  .present = offsetof(struct config, has_mac) + 1 },
	{ .name = "item", .type = OPTION_LIST, .add = add_item },
	{ .type = OPTION_INCLUDE,
	  .object = &inner_table,
	  .offset = offsetof(struct config, inner) },
};
static const struct option_table table = {
	.name = "fuzz", .options = options, .count = ARRAY_SIZE(options), .keys = true
};

static void check_accepted(const struct config *config)
{
	VMM_BUG_ON(config->count > 32 || config->size > GIB(64) || config->mode < 0 ||
		   config->mode > 2);
	VMM_BUG_ON(config->has_mac && (config->mac[0] & 1) != 0);
	VMM_BUG_ON(config->fd < -1);
	VMM_BUG_ON(config->inner.large < 3 || config->inner.hidden != 77);
	for (const char *p = config->path; p != NULL && *p != '\0'; p++) {
		VMM_BUG_ON((unsigned char)*p < 0x20 || *p == 0x7f);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct config config;
	struct error e = { 0 };
	char *argv[] = { NULL, NULL, NULL };
	static char command[] = "fuzz";

	if (text == NULL) {
		return 0;
	}
	memcpy(text, data, size);
	text[size] = '\0';
	VMM_BUG_ON(options_defaults(&table, &config, &e) != 0);
	/* First as a word of a command line, which is not modified, then as a device string. */
	argv[0] = command;
	argv[1] = text;
	if (options_parse(&table, &config, 2, argv, &e) < 0) {
		VMM_BUG_ON(e.code == ERROR_NONE || e.msg[0] == '\0');
	} else {
		check_accepted(&config);
	}
	VMM_BUG_ON(memcmp(text, data, size) != 0);
	e = (struct error){ 0 };
	VMM_BUG_ON(options_defaults(&table, &config, &e) != 0);
	if (options_parse_keys(&table, &config, "--fuzz", text, &e) < 0) {
		VMM_BUG_ON(e.code == ERROR_NONE || e.msg[0] == '\0');
	} else {
		check_accepted(&config);
	}
	free(text);
	return 0;
}
