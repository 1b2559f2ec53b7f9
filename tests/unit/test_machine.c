/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of devices, with real KVM and no vCPU: what the table of kinds promises of every entry. Each
 * has a name and an id of its own; what it saves it takes back, and a save of that is the same again;
 * a reset brings back what it was made with. A machine of all kinds is saved and loaded as a whole; what
 * was damaged is refused, and nothing changes.
 *
 * The tables of saved state are those of state_tables.txt, which only grows: see test_tables.
 */
#include "../../src/vmm/devices/virtio_node.h"
#include "../../src/vmm/places.h"
#include "../../src/vmm/x86/vcpu_state.h"
#include "harness/state_round_trip.h"
#include "harness/vm_rig.h"
#include "vmm/acpi_power.h"
#include "vmm/bytes.h"
#include "vmm/vmclock.h"
#include "vmm/vmgenid.h"

#include <sys/socket.h>

static struct kvm kvm;
static struct irqchip irqchip;
static struct guest_memory mem;
static struct machine machine;
static int net_peer = -1;

static void report_event(struct power_sink *sink, enum power_event event, uint8_t code)
{
	(void)sink;
	(void)event;
	(void)code;
}
static struct power_sink power = { report_event };

static bool with_pit = true;

static void make_vm(void)
{
	check_ok(kvm_open(&kvm, NULL, &e), &e);
	check_ok(kvm_create_vm(&kvm, &e), &e);
	check_ok(memslots_register(&kvm, &mem, &e), &e);
	check_ok(irqchip_init(&irqchip, &kvm, with_pit, &e), &e);
}

static void unmake_vm(void)
{
	machine_finish(&machine);
	irqchip_finish(&irqchip);
	kvm_close(&kvm);
}

static void build(void)
{
	int pair[2];

	setup();
	kvm.fd = kvm.vm_fd = -1;
	use_disk();
	config.disks[0].id = "root";
	config.disks[0].queues = 3;
	config.disks[1] = (struct block_config){ .path = "/dev/null" };
	config.disk_count = 2;
	config.console = config.entropy = true;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	net_peer = pair[0];
	config.nets[0] = (struct vm_net_config){
		.id = "lan",
		.kind = VM_NET_FD,
		.fd = pair[1],
		.mac = { 2, 0, 0, 0, 0, 1 },
	};
	config.net_count = 1;
	check_ok(guest_memory_init(&mem, MIB(64), GUEST_MEMORY_ANON, &e), &e);
	make_vm();
	check_ok(machine_init(&machine, &config, &kvm, &irqchip, &mem, &host, &power, &e), &e);
	check_ok(machine_start_workers(&machine, &e), &e);
}

static void take_down(void)
{
	unmake_vm();
	(void)close(net_peer);
	guest_memory_finish(&mem);
	teardown();
}

START_TEST(test_names)
{
	const struct device_kind *kind;

	for (uint32_t i = 0; (kind = device_kind_at(i)) != NULL; i++) {
		bool found = false;

		for (uint32_t j = 0; j < i; j++) {
			ck_assert_str_ne(kind->name, device_kind_at(j)->name);
		}
		for (uint32_t j = 0; j < machine.count; j++) {
			found |= machine.devices[j]->kind == kind;
		}
		found |= (kind == &pci_kind || kind == &pci_hotplug_kind) &&
			 config.machine.transport == VM_TRANSPORT_MMIO;
		ck_assert_msg(found, "no %s in the machine", kind->name);
	}
	for (uint32_t i = 0; i < machine.count; i++) {
		for (uint32_t j = 0; j < i; j++) {
			ck_assert_str_ne(machine.devices[i]->id, machine.devices[j]->id);
		}
	}
	ck_assert_str_eq(machine_find(&machine, &disk_kind, "root", &e)->name, "vda");
	ck_assert_uint_eq(virtio_of(machine_find(&machine, &disk_kind, "root", &e))->queue_count,
			  3);
	ck_assert_uint_eq(virtio_of(machine_find(&machine, &disk_kind, "vdb", &e))->queue_count,
			  vm_default_queues(&config));
	ck_assert_str_eq(machine_find(&machine, &disk_kind, "vdb", &e)->name, "vdb");
	ck_assert_ptr_null(machine_find(&machine, &disk_kind, "vda", &e));
	check_error(&e, ERROR_NOT_FOUND, "no disk 'vda'");
	ck_assert_ptr_null(machine_find(&machine, &net_kind, "root", &e));
	ck_assert_ptr_nonnull(machine_find(&machine, &net_kind, "lan", &e));
}
END_TEST

/* All that the machine saves, one device after the other. */
static void save_all(struct state_buf *buf)
{
	for (uint32_t i = 0; i < machine.count; i++) {
		struct device *device = machine.devices[i];
		const struct device_ops *ops = device->kind->ops;
		struct state_part states[STATE_PARTS_MAX];
		uint32_t count = ops->states != NULL ? ops->states(device, states) : 0;

		if (ops->capture != NULL) {
			check_ok(ops->capture(device, &e), &e);
		}
		for (uint32_t j = 0; j < count; j++) {
			check_ok(state_desc_check(states[j].desc, &e), &e);
			check_ok(state_save(states[j].desc, states[j].object, buf, &e), &e);
		}
	}
}

static void use_on_mmio(const struct virtio_node *node)
{
	static const struct {
		uint32_t reg, value;
	} steps[] = {
		{ 0x70, 1 }, { 0x70, 3 }, { 0x14, 1 }, { 0x24, 1 }, { 0x20, 1 }, { 0x30, 0 }
	};

	for (size_t j = 0; j < ARRAY_SIZE(steps); j++) {
		ck_assert(bus_write(&machine.mmio, node->base + steps[j].reg, &steps[j].value, 4));
	}
}

/* Decoding on, status and selectors, a vector with its message, MSI-X on, the BAR elsewhere. */
static void use_on_pci(const struct virtio_node *node)
{
	const struct pci_function *function = &node->pci.function;
	gpa_t config_space = PLATFORM_PCI_ECAM + ((gpa_t)function->config.devfn << 12);
	const struct {
		bool bar;
		uint32_t reg, size, value;
	} steps[] = {
		{ false, 4, 2, 6 },
		{ true, 20, 1, 1 },
		{ true, 20, 1, 3 },
		{ true, 0, 4, 1 },
		{ true, 8, 4, 1 },
		{ true, 12, 4, 1 },
		{ true, 22, 2, 0 },
		{ true, 16, 2, 1 },
		{ true, 0x4010, 4, 0xfee00000 },
		{ true, 0x4018, 4, 0x41 },
		{ true, 0x401c, 4, 0 },
		{ false, node->pci.msix_capability + 2, 2, 0x8000 },
		{ false, 0x10, 4, (uint32_t)function->config.devfn << 20 },
	};

	for (size_t j = 0; j < ARRAY_SIZE(steps); j++) {
		gpa_t at = (steps[j].bar ? function->base : config_space) + steps[j].reg;

		ck_assert(bus_write(&machine.mmio, at, &steps[j].value, steps[j].size));
	}
	ck_assert_uint_eq(function->base, GIB(4) + ((gpa_t)function->config.devfn << 20));
	ck_assert_uint_eq(atomic_load(&node->virtio->state.status), 3);
}

/* What is in a register of each, so that it is not the state of the first moment. */
static void use_devices(void)
{
	static const struct {
		uint16_t port;
		uint8_t value;
	} writes[] = { { PLATFORM_PORT_SERIAL + 7, 0x5a },
		       { PLATFORM_PORT_RTC, 0x33 },
		       { PLATFORM_PORT_I8042_COMMAND, 0x60 } };
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		ck_assert(bus_write(&machine.ports, writes[i].port, &writes[i].value, 1));
	}
	for (uint32_t i = 0; i < machine.count; i++) {
		if (!device_is_virtio(machine.devices[i])) {
			continue;
		}
		if (virtio_node_of(machine.devices[i])->host != NULL) {
			use_on_pci(virtio_node_of(machine.devices[i]));
		} else {
			use_on_mmio(virtio_node_of(machine.devices[i]));
		}
	}
}

static bool same(const struct state_buf *a, const struct state_buf *b)
{
	return a->len == b->len && a->data != NULL && memcmp(a->data, b->data, a->len) == 0;
}

START_TEST(test_save_and_load)
{
	struct state_buf fresh = { 0 }, used = { 0 }, again = { 0 };

	check_ok(machine_reset(&machine, &e), &e);
	save_all(&fresh);
	use_devices();
	for (uint32_t i = 0; i < machine.count; i++) {
		struct device *device = machine.devices[i];
		const struct device_ops *ops = device->kind->ops;
		struct state_part states[STATE_PARTS_MAX];
		uint32_t count = ops->states != NULL ? ops->states(device, states) : 0;
		struct state_buf before = { 0 }, after = { 0 };
		size_t ends[STATE_PARTS_MAX + 1] = { 0 };

		if (count == 0) {
			continue;
		}
		if (ops->capture != NULL) {
			check_ok(ops->capture(device, &e), &e);
		}
		for (uint32_t j = 0; j < count; j++) {
			check_ok(state_save(states[j].desc, states[j].object, &before, &e), &e);
			ends[j + 1] = before.len;
		}
		if (ops->reset != NULL) {
			check_ok(ops->reset(device, &e), &e);
		}
		for (uint32_t j = 0; j < count; j++) {
			check_ok(state_load(states[j].desc, states[j].object, before.data + ends[j],
					    ends[j + 1] - ends[j], states[j].desc->version, &e),
				 &e);
		}
		if (ops->loaded != NULL) {
			check_ok(ops->loaded(device, &e), &e);
		}
		for (uint32_t j = 0; j < count; j++) {
			check_ok(state_save(states[j].desc, states[j].object, &after, &e), &e);
		}
		ck_assert_msg(same(&before, &after), "%s: another state after a load",
			      device->name);
		state_buf_finish(&before);
		state_buf_finish(&after);
	}
	save_all(&used);
	ck_assert(!same(&fresh, &used));
	check_ok(machine_reset(&machine, &e), &e);
	save_all(&again);
	ck_assert_uint_eq(fresh.len, again.len);
	state_buf_finish(&fresh);
	state_buf_finish(&used);
	state_buf_finish(&again);
}
END_TEST

/* Without an entry that is never the same twice: clocks run. */
static void leave_out(struct state_buf *buf, const char *name)
{
	char start[40];
	size_t len = strlen(name);

	/* As id and as kind. */
	store_le16(start, (uint16_t)len);
	memcpy(start + 2, name, len);
	memcpy(start + 2 + len, start, 2 + len);
	for (size_t at = 0, next; at < buf->len; at = next) {
		next = at + 4 + load_le32(buf->data + at);
		if (memcmp(buf->data + at + 4, start, 2 * (2 + len)) == 0) {
			memmove(buf->data + at, buf->data + next, buf->len - next);
			buf->len -= next - at;
			return;
		}
	}
	ck_abort_msg("no %s", name);
}

static void save(struct state_buf *buf)
{
	buf->len = 0;
	check_ok(machine_save(&machine, NULL, buf, &e), &e);
}

static void copy_but_clocks(struct state_buf *to, const struct state_buf *from)
{
	uint8_t *at = state_buf_grow(to, from->len);

	ck_assert_ptr_nonnull(at);
	memcpy(at, from->data, from->len);
	leave_out(to, "pm-timer");
	leave_out(to, "kvm-clock");
}

static bool alike(const struct state_buf *a, const struct state_buf *b)
{
	struct state_buf copies[2] = { 0 };
	bool result;

	copy_but_clocks(&copies[0], a);
	copy_but_clocks(&copies[1], b);
	result = same(&copies[0], &copies[1]);
	state_buf_finish(&copies[0]);
	state_buf_finish(&copies[1]);
	return result;
}

static int load(const uint8_t *data, size_t len)
{
	e = (struct error){ 0 };
	return machine_load(&machine, NULL, data, len, &e);
}

/* What is loaded into a PIT starts at the moment of the load: KVM notes when that was. */
static void build_without_pit(void)
{
	unmake_vm();
	(void)close(net_peer);
	guest_memory_finish(&mem);
	teardown();
	with_pit = false;
	build();
}

START_TEST(test_whole)
{
	struct state_buf fresh = { 0 }, used = { 0 }, again = { 0 };

	build_without_pit();
	check_ok(machine_reset(&machine, &e), &e);
	machine_quiesce(&machine);
	save(&fresh);
	use_devices();
	save(&used);
	ck_assert(!alike(&fresh, &used));
	check_ok(machine_reset(&machine, &e), &e);
	check_ok(load(used.data, used.len), &e);
	save(&again);
	ck_assert(alike(&used, &again));
	/* And a state with nothing in it into a machine that is in use. */
	check_ok(load(fresh.data, fresh.len), &e);
	save(&again);
	ck_assert_uint_eq(fresh.len, again.len);
	machine_resume(&machine);
	state_buf_finish(&fresh);
	state_buf_finish(&used);
	state_buf_finish(&again);
}
END_TEST

/* Whatever is damaged: all of it is taken, or the machine is as it was. */
START_TEST(test_damaged)
{
	struct state_buf good = { 0 }, after = { 0 };
	size_t refused = 0;

	build_without_pit();
	machine_quiesce(&machine);
	use_devices();
	save(&good);
	for (size_t at = 0; at < good.len; at += 5) {
		uint8_t *exact = malloc(good.len);

		ck_assert_ptr_nonnull(exact);
		memcpy(exact, good.data, good.len);
		exact[at] ^= (uint8_t)(1U << at % 8);
		if (load(exact, good.len) < 0) {
			refused++;
			ck_assert(e.code == ERROR_STATE || e.code == ERROR_KVM);
			save(&after);
			ck_assert_msg(alike(&good, &after), "byte %zu: refused (%s), and changed",
				      at, e.msg);
		} else {
			check_ok(load(good.data, good.len), &e);
		}
		free(exact);
	}
	ck_assert_uint_gt(refused, 50);
	for (size_t len = 0; len < good.len; len += 1 + len / 64) {
		uint8_t *exact = malloc(len + 1);

		ck_assert_ptr_nonnull(exact);
		memcpy(exact, good.data, len);
		ck_assert_int_lt(load(exact, len), 0);
		ck_assert_int_eq(e.code, ERROR_STATE);
		free(exact);
	}
	save(&after);
	ck_assert(alike(&good, &after));
	state_buf_finish(&good);
	state_buf_finish(&after);
}
END_TEST

/* Into a machine of other devices: the message names the one that is missing, or too much. */
START_TEST(test_other_machine)
{
	struct state_buf buf = { 0 };

	machine_quiesce(&machine);
	save(&buf);
	unmake_vm();
	config.net_count = 0;
	make_vm();
	check_ok(machine_init(&machine, &config, &kvm, &irqchip, &mem, &host, &power, &e), &e);
	ck_assert_int_lt(load(buf.data, buf.len), 0);
	check_error(&e, ERROR_STATE, "the saved state has a net 'lan', which is not here");
	ck_assert_ptr_nonnull(strstr(e.hint, "devices of the one that was saved"));
	save(&buf);
	unmake_vm();
	config.disks[0].queues = 2;
	config.disks[2] = (struct block_config){ .path = "/dev/null", .id = "more" };
	make_vm();
	check_ok(machine_init(&machine, &config, &kvm, &irqchip, &mem, &host, &power, &e), &e);
	ck_assert_int_lt(load(buf.data, buf.len), 0);
	check_error(&e, ERROR_STATE, "disk 'root': the saved state has");
	unmake_vm();
	config.disks[0].queues = 3;
	config.disk_count = 3;
	make_vm();
	check_ok(machine_init(&machine, &config, &kvm, &irqchip, &mem, &host, &power, &e), &e);
	ck_assert_int_lt(load(buf.data, buf.len), 0);
	state_buf_finish(&buf);
}
END_TEST

/* One line a field of every table, as it is on the wire. */
static void list_tables(FILE *file, const struct state_desc *desc)
{
	(void)fprintf(file, "%s %u\n", desc->name, desc->version);
	for (size_t i = 0; i < desc->count; i++) {
		const struct state_field *field = &desc->fields[i];
		bool whole = field->kind == STATE_KIND_BLOB;

		(void)fprintf(file, "%s.%u %s kind %d size %zu count %zu since %u\n", desc->name,
			      field->tag, field->name, (int)field->kind,
			      field->kind == STATE_KIND_STRUCTS || whole ? 0 : field->size,
			      field->count, field->since);
	}
	for (size_t i = 0; i < desc->count; i++) {
		if (desc->fields[i].nested != NULL) {
			list_tables(file, desc->fields[i].nested);
		}
	}
}

/* The line that begins with `start` and a blank; NULL: there is none. */
static const char *find_line(const char *text, const char *start, size_t len)
{
	for (const char *at = text; (at = strstr(at, start)) != NULL; at++) {
		if ((at == text || at[-1] == '\n') && at[len] == ' ') {
			return at;
		}
	}
	return NULL;
}

/* Which of two lines of one field the older one may become: the count may grow, but a blob's. */
static bool may_follow(const char *old, const char *new)
{
	char old_name[64], new_name[64];
	unsigned int o[4], n[4];
	int fields = sscanf(old, "%*s %63s kind %u size %u count %u since %u", old_name, &o[0],
			    &o[1], &o[2], &o[3]);

	if (fields != 5) {
		/* A table with its version. */
		return sscanf(old, "%*s %u", &o[0]) == 1 && sscanf(new, "%*s %u", &n[0]) == 1 &&
		       n[0] >= o[0];
	}
	return sscanf(new, "%*s %63s kind %u size %u count %u since %u", new_name, &n[0], &n[1],
		      &n[2], &n[3]) == 5 &&
	       strcmp(old_name, new_name) == 0 && o[0] == n[0] && o[1] == n[1] && o[3] == n[3] &&
	       (o[0] == STATE_KIND_BLOB || o[2] == 1 ? n[2] == o[2] : n[2] >= o[2]);
}

static char *read_released(void)
{
	FILE *file = fopen(environment("VMM_TEST_STATE_TABLES"), "re");
	static char text[KIB(64)];
	size_t len;

	ck_assert_ptr_nonnull(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	ck_assert_uint_lt(len, sizeof(text) - 1);
	text[len] = '\0';
	(void)fclose(file);
	return text;
}

/*
 * What has been released stays readable: a table keeps its fields with tag, kind and width, gets new ones
 * behind them, and a version with each. A new line goes into state_tables.txt; none is changed there but
 * for a version and a count that grow.
 */
START_TEST(test_tables)
{
	const struct state_desc *const others[] = { &vcpu_saved_state, &vcpu_saved_cpuid,
						    &vcpu_saved_tsc, &places_state };
	const char *released = read_released();
	char *now = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&now, &size);
	unsigned int tables = 0;

	ck_assert_ptr_nonnull(file);
	for (uint32_t i = 0; i < machine.count; i++) {
		struct state_part states[STATE_PARTS_MAX];
		const struct device_ops *ops = machine.devices[i]->kind->ops;
		uint32_t count = ops->states != NULL ? ops->states(machine.devices[i], states) : 0;

		for (uint32_t j = 0; j < count; j++) {
			check_ok(state_desc_check(states[j].desc, &e), &e);
			list_tables(file, states[j].desc);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		check_ok(state_desc_check(others[i], &e), &e);
		list_tables(file, others[i]);
	}
	(void)fclose(file);
	for (const char *line = now, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		const char *old;
		char start[64];

		ck_assert_int_eq(sscanf(line, "%63s", start), 1);
		old = find_line(released, start, strlen(start));
		ck_assert_msg(old != NULL, "not in state_tables.txt: %.*s", (int)(end - line),
			      line);
		ck_assert_msg(may_follow(old, line), "state_tables.txt has %.*s, now: %.*s",
			      (int)strcspn(old, "\n"), old, (int)(end - line), line);
		tables++;
	}
	ck_assert_uint_gt(tables, 80);
	/* Nothing of a table that is here has gone. */
	for (const char *line = released, *end; (end = strchr(line, '\n')) != NULL;
	     line = end + 1) {
		char start[64], table[64];

		if (line[0] == '#') {
			continue;
		}
		ck_assert_int_eq(sscanf(line, "%63s", start), 1);
		ck_assert_int_eq(sscanf(line, "%63[^. ]", table), 1);
		ck_assert_msg(find_line(now, table, strlen(table)) == NULL ||
				      find_line(now, start, strlen(start)) != NULL,
			      "gone: %.*s", (int)(end - line), line);
	}
	free(now);
}
END_TEST

/* Each device that a guest finds by ACPI is in the tables once, and what is not there is not. */
START_TEST(test_described)
{
	const size_t size = PLATFORM_ACPI_END - PLATFORM_ACPI;
	const uint8_t *area = guest_memory_read_pointer(&mem, PLATFORM_ACPI, size);
	bool pci = pci_host_of(&machine) != NULL;
	const struct {
		const char *text;
		size_t count;
	} rows[] = {
		{ "COM1\x08", 1 },
		{ "RTC_\x08", 1 },
		{ "KBD_\x08", 1 },
		{ "PEVT\x08", 1 },
		{ "PWRB\x08", 1 },
		{ "GED_\x08", 1 },
		{ "VMGENCTR", 1 },
		{ "AMZNC10C", 1 },
		{ "PCI0\x08", pci },
		{ "ECAM\x08", pci },
		{ "LNRO0005", pci ? 0 : machine.virtio_count },
	};
	gpa_t rsdp;

	check_ok(machine_write_acpi(&machine, 1, &rsdp, &e), &e);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t count = 0, len = strlen(rows[i].text);

		for (size_t at = 0; at + len <= size; at++) {
			count += memcmp(area + at, rows[i].text, len) == 0 ? 1 : 0;
		}
		ck_assert_msg(count == rows[i].count, "%s: %zu times, not %zu", rows[i].text, count,
			      rows[i].count);
	}
}
END_TEST

/* What the guest sees of its generation. */
struct seen {
	uint8_t guid[VMGENID_SIZE], page[VMCLOCK_USED];
};

static struct seen look(void)
{
	struct seen seen;

	ck_assert(guest_memory_read(&mem, PLATFORM_VMGENID, seen.guid, sizeof(seen.guid)));
	ck_assert(guest_memory_read(&mem, PLATFORM_VMCLOCK, seen.page, sizeof(seen.page)));
	return seen;
}

static bool in_page(const struct seen *a, const struct seen *b, size_t offset)
{
	return memcmp(a->page + offset, b->page + offset, sizeof(uint64_t)) == 0;
}

/* Each time others than ever before, and one event a time, whether or not the guest has heard of the last. */
static void check_other(const struct seen *before, const struct seen *now)
{
	ck_assert_mem_ne(before->guid, now->guid, VMGENID_SIZE);
	ck_assert(!in_page(before, now, VMCLOCK_AT_DISRUPTION));
	ck_assert(!in_page(before, now, VMCLOCK_AT_GENERATION));
}

static uint32_t take_events(void)
{
	uint32_t events = 0;

	ck_assert(bus_read(&machine.ports, PLATFORM_PORT_ACPI + ACPI_POWER_EVENTS, &events, 4));
	return events;
}

/* A life: boot, reset, two copies of what was saved, a copy of one of them, and its reset. */
START_TEST(test_generations)
{
	static const struct seen nothing;
	struct seen first, copies[3];
	struct state_buf buf = { 0 };
	struct vmclock *clock = machine_object(&machine, &vmclock_kind);

	check_ok(machine_begin_generation(&machine, &e), &e);
	check_ok(machine_write_generation(&machine, &e), &e);
	first = look();
	check_other(&nothing, &first);
	ck_assert_uint_eq(take_events(), 0);
	check_ok(machine_reset(&machine, &e), &e);
	check_ok(guest_memory_discard(&mem, &e), &e);
	check_ok(machine_write_generation(&machine, &e), &e);
	copies[0] = look();
	ck_assert_mem_eq(&copies[0], &first, sizeof(first));
	machine_quiesce(&machine);
	save(&buf);
	for (size_t i = 0; i < ARRAY_SIZE(copies); i++) {
		const struct seen *saved = i < 2 ? &first : &copies[1];
		uint32_t seq = i < 2 ? 0 : 2;

		check_ok(load(buf.data, buf.len), &e);
		ck_assert(guest_memory_write(&mem, PLATFORM_VMGENID, saved->guid, VMGENID_SIZE));
		ck_assert(guest_memory_write(&mem, PLATFORM_VMCLOCK, saved->page, VMCLOCK_USED));
		ck_assert_uint_eq(clock->state.seq_count, seq);
		check_ok(machine_new_generation(&machine, &e), &e);
		copies[i] = look();
		ck_assert_uint_eq(load_le32(copies[i].page + VMCLOCK_AT_SEQ_COUNT), seq + 2);
		check_other(&first, &copies[i]);
		for (size_t j = 0; j < i; j++) {
			check_other(&copies[j], &copies[i]);
		}
		/* Saved before the guest has heard of it: it hears in the copy, and once. */
		if (i == 1) {
			save(&buf);
		}
	}
	ck_assert_uint_eq(take_events(), ACPI_EVENT_VMGENID | ACPI_EVENT_VMCLOCK);
	ck_assert_uint_eq(take_events(), 0);
	check_ok(machine_reset(&machine, &e), &e);
	check_ok(guest_memory_discard(&mem, &e), &e);
	check_ok(machine_write_generation(&machine, &e), &e);
	first = look();
	ck_assert_mem_eq(&first, &copies[2], sizeof(first));
	machine_resume(&machine);
	state_buf_finish(&buf);
}
END_TEST

/* Quiesced twice, resumed, reset while quiesced: as vm_pause() and vm_reset() may follow each other. */
START_TEST(test_quiesce)
{
	use_devices();
	machine_quiesce(&machine);
	machine_quiesce(&machine);
	machine_resume(&machine);
	machine_quiesce(&machine);
	check_ok(machine_reset(&machine, &e), &e);
	machine_resume(&machine);
}
END_TEST

/* A second disk that cannot be opened leaves a half-made machine. */
START_TEST(test_half_made)
{
	unmake_vm();
	make_vm();
	config.disks[1].path = "/nowhere/disk";
	ck_assert_int_lt(machine_init(&machine, &config, &kvm, &irqchip, &mem, &host, &power, &e),
			 0);
	check_error(&e, ERROR_DISK, "disk vdb: open '/nowhere/disk'");
}
END_TEST

CHECK_MAIN("machine", skip_without_kvm(); CHECK_FIXTURE(build, take_down); CHECK_TEST(test_names);
	   CHECK_TEST(test_save_and_load); CHECK_TEST(test_whole); CHECK_TEST(test_damaged);
	   CHECK_TEST(test_other_machine); CHECK_TEST(test_tables); CHECK_TEST(test_described);
	   CHECK_TEST(test_generations); CHECK_TEST(test_quiesce); CHECK_TEST(test_half_made))
