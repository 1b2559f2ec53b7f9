/* SPDX-License-Identifier: Apache-2.0 */
/* See overrides.h. The text is the user's. */
#include "overrides.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot_command.h"
#include "vmm/cleanup.h"

#define OVERLAY "overlay:"
#define FD	"fd:"

/* {"id_key": ID, "value_key": rest} of "ID=rest"; `what` names the flag. */
static int add_override(json_t **list, const char *what, const char *value, const char *id_key,
			const char *value_key, const char *kind, struct error *e)
{
	const char *equals = strchr(value, '=');
	const size_t kind_len = strlen(kind);
	const char *rest = equals != NULL ? equals + 1 : NULL;
	const json_t *entry;
	json_t *object;
	size_t i;

	if (rest == NULL || equals == value || strncmp(rest, kind, kind_len) != 0 ||
	    rest[kind_len] == '\0') {
		(void)error_set(e, ERROR_USAGE, EINVAL, "%s '%.120s': not %s", what, value,
				kind_len > 0 ? "ID=tap:NAME or ID=fd:N" : "ID=PATH");
		return error_hint(
			e, equals == NULL || equals == value
				   ? "the id is the device's in the snapshot; vmm snapshot "
				     "inspect DIR shows it"
				   : "behind the '=' stands what the device is connected to");
	}
	object = json_pack("{s:o, s:s}", id_key, json_stringn(value, (size_t)(equals - value)),
			   value_key, rest + kind_len);
	if (object == NULL) {
		return error_set(e, ERROR_USAGE, EINVAL, "%s '%.120s': not UTF-8", what, value);
	}
	json_array_foreach(*list, i, entry)
	{
		if (json_equal(json_object_get(entry, id_key), json_object_get(object, id_key))) {
			(void)error_set(e, ERROR_USAGE, EEXIST, "%s: '%.64s' is given twice", what,
					json_string_value(json_object_get(object, id_key)));
			json_decref(object);
			return -EEXIST;
		}
	}
	*list = *list != NULL ? *list : json_array();
	return json_array_append_new(*list, object) == 0
		       ? 0
		       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
}

static int add_disk(void *object, const char *value, struct error *e)
{
	struct overrides *overrides = object;

	const char *equals = strchr(value, '=');

	if (equals != NULL && strncmp(equals + 1, OVERLAY, strlen(OVERLAY)) == 0) {
		return add_override(&overrides->disks, "--disk", value, "drive_id", "overlay",
				    OVERLAY, e);
	}
	return add_override(&overrides->disks, "--disk", value, "drive_id", "path_on_host", "", e);
}

/* "ID=fd:N" */
static int add_fd(struct overrides *overrides, const char *value, size_t id_len, struct error *e)
{
	static const struct option option = { .name = "net", .type = OPTION_FD, .argument = "N" };
	const uint32_t count = overrides->fd_count;
	int fd = -1;

	if (count == ARRAY_SIZE(overrides->fds)) {
		return error_set(e, ERROR_USAGE, E2BIG, "--net: more than %d", VM_NETS_MAX);
	}
	if (options_set(&option, &fd, "--net ID=fd:N", value + id_len + 1 + strlen(FD), e) < 0) {
		return error_hint(e, "N is the number of a tap, or of a socket that keeps frames "
				     "apart, which was open when vmm was started");
	}
	for (uint32_t i = 0; i < count; i++) {
		if (overrides->fds[i].fd == fd) {
			(void)error_set(e, ERROR_USAGE, EEXIST,
					"--net '%.120s': descriptor %d is another card's", value,
					fd);
			return error_hint(e, "each card needs one of its own");
		}
	}
	overrides->ids[count] = strndup(value, id_len);
	if (overrides->ids[count] == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	overrides->fds[count] = (struct net_fd){ .id = overrides->ids[count], .fd = fd };
	overrides->fd_count++;
	return 0;
}

static bool is_id(const char *id, const char *value, size_t len)
{
	return id != NULL && strlen(id) == len && strncmp(id, value, len) == 0;
}

/* A card has one connection. */
static int check_net_once(const struct overrides *overrides, const char *value, struct error *e)
{
	const size_t len = strcspn(value, "=");
	bool twice = false;
	const json_t *entry;
	size_t i;

	json_array_foreach(overrides->nets, i, entry)
	{
		twice |= is_id(json_string_value(json_object_get(entry, "iface_id")), value, len);
	}
	for (uint32_t k = 0; k < overrides->fd_count; k++) {
		twice |= is_id(overrides->fds[k].id, value, len);
	}
	return twice ? error_set(e, ERROR_USAGE, EEXIST, "--net: '%.*s' is given twice",
				 (int)MIN(len, (size_t)64), value)
		     : 0;
}

static int add_net(void *object, const char *value, struct error *e)
{
	struct overrides *overrides = object;
	const char *equals = strchr(value, '=');
	int r = check_net_once(overrides, value, e);

	if (r < 0) {
		return r;
	}
	if (equals != NULL && equals != value && strncmp(equals + 1, FD, strlen(FD)) == 0) {
		return add_fd(overrides, value, (size_t)(equals - value), e);
	}
	return add_override(&overrides->nets, "--net", value, "iface_id", "host_dev_name",
			    "tap:", e);
}

void overrides_finish(struct overrides *overrides)
{
	json_decref(overrides->disks);
	json_decref(overrides->nets);
	for (size_t i = 0; i < ARRAY_SIZE(overrides->ids); i++) {
		free(overrides->ids[i]);
	}
}

#define UNIX "unix:"

char *overrides_address(const char *address, struct error *e)
{
	auto_free char *path = NULL;
	char *whole = NULL;

	if (strncmp(address, UNIX, strlen(UNIX)) != 0 || address[strlen(UNIX)] == '\0') {
		whole = strdup(address);
	} else {
		path = snapshot_absolute_path(address + strlen(UNIX), e);
		if (path == NULL) {
			return NULL;
		}
		if (asprintf(&whole, UNIX "%s", path) < 0) {
			whole = NULL;
		}
	}
	if (whole == NULL) {
		(void)error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	return whole;
}

static const struct option option_list[] = {
	{ .name = "disk",
	  .type = OPTION_LIST,
	  .add = add_disk,
	  .argument = "ID=PATH",
	  .help = "the disk of that id is this file now, or has this overlay now "
		  "(ID=overlay:PATH); may be repeated" },
	{ .name = "net",
	  .type = OPTION_LIST,
	  .add = add_net,
	  .argument = "ID=tap:NAME|ID=fd:N",
	  .help = "the network card of that id is on this tap now, or on this open descriptor of "
		  "one; may be repeated" },
};
const struct option_table override_options = OPTION_TABLE("overrides", option_list);
