/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of a line of Firecracker's metrics file (version 1.17, and mac_address_updates, which is
 * gone since 1.14): its readers expect all of them, also of devices that are not there. One text,
 * for it is a third of the size of a table: a group a line, then its fields; "#" at the end of a
 * name stands for "_count", "!" for "_fails", "@" for an object "NAME_agg" of three times. Constant;
 * main thread.
 */
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "vmm/cleanup.h"

static const char keys[] =
	"api_server process_startup_time_us process_startup_time_cpu_us\n"
	"balloon activate! inflate# stats_updates# stats_update! deflate# event! "
	"free_page_report# free_page_report_freed free_page_report! free_page_hint# "
	"free_page_hint_freed free_page_hint!\n"
	"block activate! cfg! no_avail_buffer event! execute! invalid_reqs# flush# "
	"queue_event# rate_limiter_event# update# update! read_bytes write_bytes read# write# "
	"read@ write@ rate_limiter_throttled_events io_engine_throttled_events "
	"remaining_reqs#\n"
	"deprecated_api deprecated_http_api_calls\n"
	"get_api_requests instance_info# machine_cfg# mmds# vmm_version# hotplug_memory#\n"
	"i8042 error# missed_read# missed_write# read# reset# write#\n"
	"uart error# flush# missed_read# missed_write# read# write# "
	"rate_limiter_dropped_bytes\n"
	"latencies_us full_create_snapshot diff_create_snapshot load_snapshot pause_vm "
	"resume_vm vmm_full_create_snapshot vmm_diff_create_snapshot vmm_load_snapshot "
	"vmm_pause_vm vmm_resume_vm\n"
	"logger missed_metrics# metrics! missed_log# rate_limited_log#\n"
	"mmds rx_accepted rx_accepted_err rx_accepted_unusual rx_bad_eth rx_invalid_token "
	"rx_no_token rx# tx_bytes tx# tx_errors tx_frames connections_created "
	"connections_destroyed\n"
	"net activate! cfg! no_rx_avail_buffer no_tx_avail_buffer event! rx_queue_event# "
	"rx_event_rate_limiter# rx_rate_limiter_throttled rx_tap_event# rx_bytes# rx_packets# "
	"rx! rx# tap_read! tap_write! tap_write@ tx_bytes# tx_malformed_frames tx! tx# "
	"tx_packets# tx_queue_event# tx_rate_limiter_event# tx_rate_limiter_throttled "
	"tx_spoofed_mac# tx_remaining_reqs# mac_address_updates\n"
	"patch_api_requests drive# drive! network# network! machine_cfg# machine_cfg! mmds# "
	"mmds! hotplug_memory# hotplug_memory! pmem# pmem!\n"
	"put_api_requests actions# actions! boot_source# boot_source! drive# drive! logger# "
	"logger! machine_cfg# machine_cfg! cpu_cfg# cpu_cfg! metrics# metrics! network# "
	"network! mmds# mmds! vsock# vsock! pmem# pmem! serial# serial! hotplug_memory# "
	"hotplug_memory!\n"
	"seccomp num_faults\n"
	"vcpu exit_io_in exit_io_out exit_mmio_read exit_mmio_write failures kvmclock_ctrl! "
	"exit_io_in@ exit_io_out@ exit_mmio_read@ exit_mmio_write@\n"
	"vmm panic#\n"
	"signals sigbus sigsegv sigxfsz sigxcpu sigpipe sighup sigill\n"
	"vsock activate! cfg! rx_queue_event! tx_queue_event! ev_queue_event! muxer_event! "
	"conn_event! rx_queue_event# tx_queue_event# rx_bytes# tx_bytes# rx_packets# "
	"tx_packets# conns_added conns_killed conns_removed killq_resync tx_flush! tx_write! "
	"rx_read!\n"
	"entropy activate! entropy_event! entropy_event# entropy_bytes host_rng! "
	"entropy_rate_limiter_throttled rate_limiter_event#\n"
	"pmem activate! cfg! event! queue_event# rate_limiter_throttled_events "
	"rate_limiter_event#\n"
	"interrupts triggers config_updates\n"
	"memory_hotplug activate! queue_event! queue_event# plug@ plug# plug_bytes plug! "
	"unplug@ unplug# unplug_bytes unplug! unplug_discard! unplug_all@ unplug_all# "
	"unplug_all! state@ state# state!\n";

#define NAME_MAX_BYTES 64

static void put_field(json_t *group, const char *name, size_t len)
{
	static const struct {
		char mark;
		const char *end;
	} marks[] = { { '#', "_count" }, { '!', "_fails" }, { '@', "_agg" } };
	const char mark = name[len - 1];
	const char *end = "";
	char key[NAME_MAX_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		end = marks[i].mark == mark ? marks[i].end : end;
	}
	(void)snprintf(key, sizeof(key), "%.*s%s", (int)(end[0] != '\0' ? len - 1 : len), name,
		       end);
	(void)json_object_set_new(
		group, key,
		mark == '@' ? json_pack("{s:i, s:i, s:i}", "min_us", 0, "max_us", 0, "sum_us", 0)
			    : json_integer(0));
}

json_t *figures_zeroes(void)
{
	json_t *all = json_object();

	for (const char *line = keys; *line != '\0'; line = strchr(line, '\n') + 1) {
		size_t len = strcspn(line, " ");
		json_t *group = json_object();
		char name[NAME_MAX_BYTES];

		(void)snprintf(name, sizeof(name), "%.*s", (int)len, line);
		for (const char *at = line + len; *at == ' '; at += len) {
			at++;
			len = strcspn(at, " \n");
			put_field(group, at, len);
		}
		(void)json_object_set_new(all, name, group);
	}
	return all;
}
