/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes. Firecracker's v1 API first, in the order of its documentation, then what only we have.
 * Firecracker looks at the first segments of a path and ignores what follows, and clients of its have
 * paths such as /vsock/vsock0; on its paths so do we. Ours match whole or not at all, so that a
 * misspelt one is told from a right one.
 *
 * Pure functions of constant tables; any thread. The path is the client's.
 */
#include "routes.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define REQUEST(method_, path_, type_, ...)                                       \
	{                                                                         \
		.method = HTTP_##method_, .path = (path_), .kind = ROUTE_REQUEST, \
		.request = REQUEST_##type_, __VA_ARGS__                           \
	}
#define LATER(method_, path_, name_, summary_, missing_)                                         \
	{                                                                                        \
		.method = HTTP_##method_, .path = (path_), .kind = ROUTE_LATER, .name = (name_), \
		.summary = (summary_), .missing = (missing_)                                     \
	}

#define NO_VSOCK   "This version has no vsock device."
#define NO_BALLOON "This version has no memory balloon device."
#define NO_MMDS	   "This version has no metadata service (MMDS)."
#define NO_PMEM	   "This version has no persistent memory device."
#define NO_HOTPLUG "Memory cannot be added or removed: this version has no virtio-mem device."

const struct route routes[] = {
	REQUEST(GET, "/", GET_INSTANCE, .reply = "Instance"),
	REQUEST(GET, "/version", GET_VERSION, .reply = "Version"),
	REQUEST(GET, "/vm", GET_VM, .whole = true, .reply = "Vm"),
	REQUEST(PATCH, "/vm", PATCH_VM, .body = "VmUpdate"),
	REQUEST(GET, "/vm/config", GET_VM_CONFIG, .reply = "VmConfig"),
	REQUEST(PUT, "/actions", PUT_ACTION, .body = "Action"),
	REQUEST(PUT, "/boot-source", PUT_BOOT_SOURCE, .body = "BootSource"),
	REQUEST(GET, "/machine-config", GET_MACHINE_CONFIG, .reply = "MachineConfig"),
	REQUEST(PUT, "/machine-config", PUT_MACHINE_CONFIG, .body = "MachineConfig"),
	REQUEST(PATCH, "/machine-config", PATCH_MACHINE_CONFIG, .body = "MachineConfigUpdate"),
	REQUEST(PUT, "/cpu-config", PUT_CPU_CONFIG, .body = "CpuConfig"),
	REQUEST(PUT, "/drives/{drive_id}", PUT_DISK, .body = "Drive"),
	REQUEST(PATCH, "/drives/{drive_id}", PATCH_DISK, .body = "DriveUpdate"),
	REQUEST(DELETE, "/drives/{drive_id}", DELETE_DISK),
	REQUEST(PUT, "/network-interfaces/{iface_id}", PUT_NET, .body = "NetworkInterface"),
	REQUEST(PATCH, "/network-interfaces/{iface_id}", PATCH_NET,
		.body = "NetworkInterfaceUpdate"),
	REQUEST(DELETE, "/network-interfaces/{iface_id}", DELETE_NET),
	REQUEST(PUT, "/serial", PUT_SERIAL, .body = "Serial"),
	REQUEST(PUT, "/entropy", PUT_ENTROPY, .body = "Entropy"),
	REQUEST(PUT, "/logger", PUT_LOGGER, .body = "Logger"),
	{ .method = HTTP_GET,
	  .path = "/metrics",
	  .kind = ROUTE_METRICS,
	  .whole = true,
	  .name = "GetMetrics",
	  .summary = "All figures in Prometheus' text format." },
	REQUEST(PUT, "/metrics", PUT_METRICS, .body = "Metrics"),

	LATER(PUT, "/vsock", "PutVsock", "Adds a vsock device.", NO_VSOCK),
	LATER(GET, "/balloon", "GetBalloon", "The memory balloon.", NO_BALLOON),
	LATER(PUT, "/balloon", "PutBalloon", "Adds a memory balloon.", NO_BALLOON),
	LATER(PATCH, "/balloon", "PatchBalloon", "Resizes the memory balloon.", NO_BALLOON),
	LATER(GET, "/balloon/statistics", "GetBalloonStatistics",
	      "What the guest says of its memory.", NO_BALLOON),
	LATER(PATCH, "/balloon/statistics", "PatchBalloonStatistics",
	      "Changes how often the guest is asked.", NO_BALLOON),
	LATER(PATCH, "/balloon/hinting/start", "StartBalloonHinting",
	      "Starts hinting of free pages.", NO_BALLOON),
	LATER(PATCH, "/balloon/hinting/stop", "StopBalloonHinting", "Stops hinting of free pages.",
	      NO_BALLOON),
	LATER(GET, "/balloon/hinting/status", "GetBalloonHinting",
	      "How far hinting of free pages is.", NO_BALLOON),
	LATER(GET, "/mmds", "GetMmds", "The metadata that the guest can read.", NO_MMDS),
	LATER(PUT, "/mmds", "PutMmds", "Sets the metadata that the guest can read.", NO_MMDS),
	LATER(PATCH, "/mmds", "PatchMmds", "Changes the metadata that the guest can read.",
	      NO_MMDS),
	LATER(PUT, "/mmds/config", "PutMmdsConfig", "Configures the metadata service.", NO_MMDS),
	LATER(PUT, "/pmem/{id}", "PutPmem", "Adds a persistent memory device.", NO_PMEM),
	LATER(PATCH, "/pmem/{id}", "PatchPmem", "Changes a persistent memory device.", NO_PMEM),
	LATER(DELETE, "/pmem/{id}", "DeletePmem", "Removes a persistent memory device.", NO_PMEM),
	LATER(GET, "/hotplug/memory", "GetHotplugMemory", "Memory that can be added.", NO_HOTPLUG),
	LATER(PUT, "/hotplug/memory", "PutHotplugMemory", "Prepares memory that can be added.",
	      NO_HOTPLUG),
	LATER(PATCH, "/hotplug/memory", "PatchHotplugMemory", "Adds or removes memory.",
	      NO_HOTPLUG),
	REQUEST(PUT, "/snapshot/create", PUT_SNAPSHOT, .body = "SnapshotCreate"),
	REQUEST(PUT, "/snapshot/load", PUT_SNAPSHOT_LOAD, .body = "SnapshotLoad"),
	REQUEST(PUT, "/snapshot/mark", PUT_SNAPSHOT_MARK, .ours = true),
	REQUEST(GET, "/migration", GET_MIGRATION, .ours = true, .reply = "Migration"),
	REQUEST(PUT, "/migration", PUT_MIGRATION, .ours = true, .body = "Migrate"),
	REQUEST(PATCH, "/migration", PATCH_MIGRATION, .ours = true, .body = "MigrationDecision"),
	REQUEST(PUT, "/migration/receive", PUT_MIGRATION_RECEIVE, .ours = true, .body = "Receive"),

	{ .method = HTTP_GET,
	  .path = "/events",
	  .kind = ROUTE_EVENTS,
	  .ours = true,
	  .name = "GetEvents",
	  .summary = "What happened and happens to the VM, one JSON object a line.",
	  .reply = "Event" },
	REQUEST(GET, "/jobs", GET_JOBS, .ours = true, .reply = "Job[]"),
	REQUEST(GET, "/jobs/{job_id}", GET_JOB, .ours = true, .reply = "Job"),
	REQUEST(DELETE, "/jobs/{job_id}", DELETE_JOB, .ours = true),
	REQUEST(PATCH, "/console", PATCH_CONSOLE, .ours = true, .body = "ConsoleUpdate"),
	{ .method = HTTP_GET,
	  .path = "/openapi.json",
	  .kind = ROUTE_DESCRIPTION,
	  .ours = true,
	  .name = "GetOpenapi",
	  .summary = "This description.",
	  .reply = "object" },
};
const size_t route_count = ARRAY_SIZE(routes);

const char *route_name(const struct route *route)
{
	return route->kind == ROUTE_REQUEST ? request_infos[route->request].name : route->name;
}

const char *route_summary(const struct route *route)
{
	return route->kind == ROUTE_REQUEST ? request_infos[route->request].help : route->summary;
}

const char *route_parameter(const struct route *route, size_t *len)
{
	const char *brace = strchr(route->path, '{');

	if (brace == NULL) {
		return NULL;
	}
	*len = strcspn(brace + 1, "}");
	return brace + 1;
}

/* How much of a path a pattern explains. */
struct fit {
	size_t segments; /* 0: nothing, or the path "/" */
	bool whole;	 /* no segment is left over */
	bool found;
	const char *id; /* NULL: the pattern has no parameter */
	size_t id_len;
};

/* What the first segment at `path` is long; 0 at the end, and between two slashes. */
static size_t segment(const char *path)
{
	return strcspn(path, "/");
}

/* Behind the segment at `path` and the slash that ends it. */
static const char *next(const char *path)
{
	path += segment(path);
	return *path == '/' ? path + 1 : path;
}

static void compare(struct fit *fit, const char *pattern, const char *path)
{
	*fit = (struct fit){ 0 };
	path += strspn(path, "/");
	for (pattern++; *pattern != '\0'; pattern = next(pattern)) {
		size_t len = segment(path);

		if (*pattern == '{') {
			fit->id = path;
			fit->id_len = len;
			fit->segments += *path != '\0';
		} else if (len != segment(pattern) || memcmp(pattern, path, len) != 0) {
			return;
		} else {
			fit->segments++;
		}
		path = next(path);
	}
	fit->whole = *path == '\0';
	/* Whatever is not "/" names something. */
	fit->found = fit->segments != 0 || fit->whole;
}

static bool is_better(const struct fit *fit, const struct fit *best)
{
	bool whole = fit->whole && (fit->id == NULL || fit->id_len != 0);

	return fit->found && (!best->found || fit->segments > best->segments ||
			      (fit->segments == best->segments && whole && !best->whole));
}

static void add_allowed(struct route_match *match, const char *method)
{
	size_t len = strlen(match->allow);

	(void)snprintf(match->allow + len, sizeof(match->allow) - len, "%s%s", len > 0 ? ", " : "",
		       method);
}

void routes_find(struct route_match *match, enum http_method method, const char *path)
{
	enum http_method wanted = method == HTTP_HEAD ? HTTP_GET : method;
	struct fit best = { 0 };
	size_t first = 0;

	*match = (struct route_match){ 0 };
	for (size_t i = 0; i < route_count; i++) {
		struct fit fit;

		compare(&fit, routes[i].path, path);
		if ((fit.whole || !routes[i].ours) && is_better(&fit, &best)) {
			best = fit;
			first = i;
		}
	}
	if (!best.found) {
		return;
	}
	match->found = true;
	match->ours = routes[first].ours;
	match->id = best.id;
	match->id_len = best.id_len;
	for (size_t i = first; i < route_count && strcmp(routes[i].path, routes[first].path) == 0;
	     i++) {
		if (routes[i].whole && !best.whole) {
			continue;
		}
		add_allowed(match, http_method_name(routes[i].method));
		if (routes[i].method == HTTP_GET) {
			add_allowed(match, http_method_name(HTTP_HEAD));
		}
		if (routes[i].method == wanted) {
			match->route = &routes[i];
		}
	}
	add_allowed(match, http_method_name(HTTP_OPTIONS));
}

int route_check_id(const char *id, size_t len, struct error *e)
{
	if (len == 0) {
		return error_set(e, ERROR_CONFIG, EINVAL, "The ID cannot be empty.");
	}
	for (size_t i = 0; i < len; i++) {
		/* Letters of other scripts are letters; which of the others are none, Unicode knows. */
		if (isascii((unsigned char)id[i]) && !isalnum((unsigned char)id[i]) &&
		    id[i] != '_') {
			return error_set(
				e, ERROR_CONFIG, EINVAL,
				"API Resource IDs can only contain alphanumeric characters "
				"and underscores.");
		}
	}
	if (len > ROUTE_ID_MAX) {
		return error_set(e, ERROR_CONFIG, EINVAL,
				 "API Resource IDs can have at most %d bytes.", ROUTE_ID_MAX);
	}
	return 0;
}
