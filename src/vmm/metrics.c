/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The figures of a VM as text: of its vCPUs and of each device, read while they run. Main thread;
 * every figure has one writer, is read by itself, and need not fit the one beside it to the last
 * frame. The guest controls the values.
 */
#include <stdio.h>
#include <time.h>

#include "machine.h"
#include "vcpu.h"
#include "vmm/metrics.h"
#include "vmm/virtio_blk.h"
#include "vmm/virtio_console.h"
#include "vmm/virtio_entropy.h"
#include "vmm/virtio_net.h"

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

uint64_t vcpu_cpu_time_ns(const struct vcpu *vcpu)
{
	struct timespec t;
	clockid_t clock;

	if (!vcpu->thread_started || pthread_getcpuclockid(vcpu->thread, &clock) != 0 ||
	    clock_gettime(clock, &t) != 0) {
		return 0;
	}
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void write_exits(const struct vcpus *all, struct metrics_text *text)
{
	metrics_begin(text, "vmm_vcpu_exits_total", METRIC_COUNTER,
		      "Exits from the guest to vmm, by virtual CPU and reason.");
	for (uint32_t i = 0; i < all->count; i++) {
		const struct vcpu *vcpu = &all->list[i];
		const struct {
			const char *reason;
			uint64_t value;
		} exits[] = {
			{ "io", load(&vcpu->exits_io) },
			{ "mmio", load(&vcpu->exits_mmio) },
			{ "other", load(&vcpu->exits_other) },
		};
		char labels[32];

		/* The last label's value is the sample's own. */
		(void)snprintf(labels, sizeof(labels), "vcpu=\"%u\",reason", i);
		for (size_t j = 0; j < ARRAY_SIZE(exits); j++) {
			metrics_sample(text, labels, exits[j].reason, exits[j].value);
		}
	}
}

void vcpus_write_metrics(const struct vcpus *all, struct metrics_text *text)
{
	write_exits(all, text);
	metrics_begin(text, "vmm_vcpu_cpu_seconds_total", METRIC_COUNTER,
		      "Processor time of the virtual CPU's thread.");
	for (uint32_t i = 0; i < all->count; i++) {
		char index[12];

		(void)snprintf(index, sizeof(index), "%u", i);
		metrics_sample_seconds(text, "vcpu", index, vcpu_cpu_time_ns(&all->list[i]));
	}
}

/* A counter that is a member of what `read` gives for a device. */
struct figure {
	const char *name, *help;
	size_t offset;
};

static void write_disks(const struct machine *machine, struct metrics_text *text)
{
#define FIGURE(name_, member, help_)                                  \
	{                                                             \
		.name = "vmm_disk_" name_ "_total", .help = (help_),  \
		.offset = offsetof(struct virtio_blk_metrics, member) \
	}
	static const struct figure figures[] = {
		FIGURE("reads", reads, "Reads that succeeded."),
		FIGURE("read_bytes", read_bytes, "Bytes read."),
		FIGURE("writes", writes, "Writes that succeeded."),
		FIGURE("written_bytes", written_bytes, "Bytes written."),
		FIGURE("flushes", flushes, "Flushes that succeeded."),
		FIGURE("discards", discards, "Discards, and writes of zeroes, that succeeded."),
		FIGURE("errors", errors, "Requests answered with an error."),
		FIGURE("unsupported", unsupported, "Requests of a kind that the disk has not."),
		FIGURE("malformed", malformed, "Requests without header or status."),
	};
#undef FIGURE

	for (size_t i = 0; machine->disk_count != 0 && i < ARRAY_SIZE(figures); i++) {
		metrics_begin(text, figures[i].name, METRIC_COUNTER, figures[i].help);
		for (uint32_t j = 0; j < machine->disk_count; j++) {
			const struct machine_device *slot = machine->devices[j];
			const char *metrics = (const char *)virtio_blk_metrics(slot->virtio);

			metrics_sample(
				text, "device", slot->name,
				load((const _Atomic uint64_t *)(const void *)(metrics +
									      figures[i].offset)));
		}
	}
}

static void write_nets(const struct machine *machine, struct metrics_text *text)
{
#define FIGURE(name_, member, help_)                                   \
	{                                                              \
		.name = "vmm_net_" name_ "_total", .help = (help_),    \
		.offset = offsetof(struct virtio_net_counters, member) \
	}
	static const struct figure figures[] = {
		FIGURE("rx_frames", rx_frames, "Frames that the guest has received."),
		FIGURE("rx_bytes", rx_bytes, "Bytes that the guest has received."),
		FIGURE("rx_invalid", rx_invalid, "Frames for the guest dropped as invalid."),
		FIGURE("rx_no_room", rx_no_room, "Frames for the guest dropped for want of room."),
		FIGURE("rx_errors", rx_errors,
		       "Frames for the guest that the host failed to give."),
		FIGURE("tx_frames", tx_frames, "Frames that the guest has sent."),
		FIGURE("tx_bytes", tx_bytes, "Bytes that the guest has sent."),
		FIGURE("tx_invalid", tx_invalid, "Frames of the guest dropped as invalid."),
		FIGURE("tx_errors", tx_errors, "Frames of the guest that the host did not take."),
		FIGURE("tx_waits", tx_waits, "Times that the host was full."),
	};
#undef FIGURE
	struct virtio_net_counters counters[VM_NETS_MAX];
	struct machine_device *const *cards = &machine->devices[machine->disk_count];

	for (uint32_t j = 0; j < machine->net_count; j++) {
		virtio_net_read_counters(cards[j]->virtio, &counters[j]);
	}
	for (size_t i = 0; machine->net_count != 0 && i < ARRAY_SIZE(figures); i++) {
		metrics_begin(text, figures[i].name, METRIC_COUNTER, figures[i].help);
		for (uint32_t j = 0; j < machine->net_count; j++) {
			const char *at = (const char *)&counters[j] + figures[i].offset;

			metrics_sample(text, "device", cards[j]->name,
				       *(const uint64_t *)(const void *)at);
		}
	}
}

void machine_add_traffic(const struct machine *machine, struct vm_stats *stats)
{
	for (uint32_t i = 0; i < machine->disk_count; i++) {
		const struct virtio_blk_metrics *disk =
			virtio_blk_metrics(machine->devices[i]->virtio);

		stats->disk_read += load(&disk->read_bytes);
		stats->disk_written += load(&disk->written_bytes);
	}
	for (uint32_t i = 0; i < machine->net_count; i++) {
		struct virtio_net_counters card;

		virtio_net_read_counters(machine->devices[machine->disk_count + i]->virtio, &card);
		stats->net_received += card.rx_bytes;
		stats->net_sent += card.tx_bytes;
	}
}

static void write_one(struct metrics_text *text, const struct machine_device *slot,
		      const char *name, const char *help, uint64_t value)
{
	metrics_begin(text, name, METRIC_COUNTER, help);
	metrics_sample(text, "device", slot->name, value);
}

void machine_write_metrics(const struct machine *machine, struct metrics_text *text)
{
	write_disks(machine, text);
	write_nets(machine, text);
	if (machine->console != NULL) {
		struct virtio_console_counters c;

		virtio_console_read_counters(machine->console->virtio, &c);
		write_one(text, machine->console, "vmm_console_input_bytes_total",
			  "Bytes typed into the console.", c.input_bytes);
		write_one(text, machine->console, "vmm_console_output_bytes_total",
			  "Bytes that the guest wrote to the console.", c.output_bytes);
		write_one(text, machine->console, "vmm_console_output_dropped_bytes_total",
			  "Bytes of the guest beyond what one request may hold.", c.output_dropped);
	}
	if (machine->entropy != NULL) {
		struct virtio_entropy_counters c;

		virtio_entropy_read_counters(machine->entropy->virtio, &c);
		write_one(text, machine->entropy, "vmm_entropy_requests_total",
			  "Requests for random bytes.", c.requests);
		write_one(text, machine->entropy, "vmm_entropy_bytes_total",
			  "Random bytes given to the guest.", c.bytes);
	}
}
