/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The figures of a VM: of its vCPUs and of each device, read while they run; as text, as sums, or one
 * by one. Any thread; every figure has one writer, is read by itself, and need not fit the one beside
 * it to the last frame. The guest controls the values.
 */
#include <stdio.h>
#include <time.h>

#include "machine.h"
#include "vcpu.h"
#include "vmm/cleanup.h"
#include "vmm/metrics.h"

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

/* What a kind's read() fills, as numbers. */
struct reading {
	uint64_t values[DEVICE_FIGURES_SIZE / sizeof(uint64_t)];
};

static void read_device(const struct device *device, struct reading *ret)
{
	device->kind->figures->read(device, ret->values);
}

static uint64_t value_of(const struct reading *reading, const struct device_figure *figure)
{
	return reading->values[figure->offset / sizeof(uint64_t)];
}

void machine_add_totals(struct machine *machine, uint64_t totals[DEVICE_TOTALS])
{
	SCOPED_LOCK(&machine->lock);
	for (uint32_t i = 0; i < machine->count; i++) {
		const struct device *device = machine->devices[i];
		const struct device_figures *figures = device->kind->figures;
		struct reading reading;

		if (figures == NULL) {
			continue;
		}
		read_device(device, &reading);
		for (size_t j = 0; j < figures->count; j++) {
			totals[figures->list[j].total] += value_of(&reading, &figures->list[j]);
		}
	}
}

void machine_visit_figures(struct machine *machine, vm_figure_visitor *visit, void *arg)
{
	SCOPED_LOCK(&machine->lock);
	for (uint32_t i = 0; i < machine->count; i++) {
		const struct device *device = machine->devices[i];
		const struct device_figures *figures = device->kind->figures;
		struct reading reading;

		if (figures == NULL) {
			continue;
		}
		read_device(device, &reading);
		for (size_t j = 0; j < figures->count; j++) {
			const struct vm_figure figure = {
				.group = figures->theirs,
				.each = figures->each,
				.id = device->id,
				.name = figures->list[j].name,
				.theirs = figures->list[j].theirs,
				.value = value_of(&reading, &figures->list[j]),
			};

			visit(arg, &figure);
		}
	}
}

/* One metric of a kind, with a sample of each of its devices. */
static void write_figure(struct device *const *devices, const struct reading *readings,
			 uint32_t count, size_t index, struct metrics_text *text)
{
	const struct device_figures *figures = devices[0]->kind->figures;
	const struct device_figure *figure = &figures->list[index];
	char name[64];

	(void)snprintf(name, sizeof(name), "vmm_%s_%s_total", figures->prefix, figure->name);
	metrics_begin(text, name, METRIC_COUNTER, figure->help);
	for (uint32_t i = 0; i < count; i++) {
		metrics_sample(text, "device", devices[i]->name, value_of(&readings[i], figure));
	}
}

void machine_write_metrics(struct machine *machine, struct metrics_text *text)
{
	struct reading readings[MACHINE_DEVICES_MAX];
	uint32_t count;

	SCOPED_LOCK(&machine->lock);
	/* Devices of a kind lie together. */
	for (uint32_t i = 0; i < machine->count; i += count) {
		struct device *const *devices = &machine->devices[i];
		const struct device_kind *kind = devices[0]->kind;

		for (count = 0; i + count < machine->count && devices[count]->kind == kind;
		     count++) {
			if (kind->figures != NULL) {
				read_device(devices[count], &readings[count]);
			}
		}
		for (size_t j = 0; kind->figures != NULL && j < kind->figures->count; j++) {
			write_figure(devices, readings, count, j, text);
		}
	}
}
