/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message interrupts and doorbells by KVM. The linker puts ioctl() of this file in place of the C
 * library's: a KVM that keeps its routing table, irqfds and ioeventfds, and fails on request. Guests
 * on the machine's KVM: tests/guest.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "../../src/vmm/kvm.h"
#include "vmm/platform.h"

int __wrap_ioctl(int fd, unsigned long request, ...);

#define ROUTES_MAX 2048

static struct {
	int any_length, routes; /* answers of KVM_CHECK_EXTENSION */
	unsigned long fails;	/* this request does */
	uint32_t routings, irqfds, bells;
	uint32_t route_count;
	struct kvm_irq_routing_entry table[ROUTES_MAX];
	struct kvm_irqfd irqfd;
	struct kvm_ioeventfd bell;
} host;

static struct kvm kvm;
static struct msi msi;
static struct error e;

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	(void)fd;
	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == KVM_CHECK_EXTENSION) {
		return (uintptr_t)arg == KVM_CAP_IRQ_ROUTING ? host.routes : host.any_length;
	}
	if (request == host.fails) {
		errno = ENOMEM;
		return -1;
	}
	if (request == KVM_SET_GSI_ROUTING) {
		const struct kvm_irq_routing *routing = arg;

		ck_assert_uint_eq(routing->flags, 0);
		ck_assert_uint_le(routing->nr, ROUTES_MAX);
		memcpy(host.table, routing->entries, routing->nr * sizeof(host.table[0]));
		host.route_count = routing->nr;
		host.routings++;
	} else if (request == KVM_IRQFD) {
		host.irqfd = *(const struct kvm_irqfd *)arg;
		host.irqfds++;
	} else if (request == KVM_IOEVENTFD) {
		host.bell = *(const struct kvm_ioeventfd *)arg;
		host.bells++;
	} else {
		ck_abort_msg("unexpected ioctl 0x%lx", request);
	}
	return 0;
}

static void setup(void)
{
	memset(&host, 0, sizeof(host));
	host.any_length = 1;
	host.routes = 4096;
	e = (struct error){ 0 };
	kvm = (struct kvm){ .fd = -1, .vm_fd = -1 };
	check_ok(msi_init(&msi, &kvm, &e), &e);
}

static void teardown(void)
{
	msi_finish(&msi);
}

static struct irq_line *open_lines(uint32_t count)
{
	struct irq_line *lines = NULL;

	check_ok(msi.controller.ops->open(&msi.controller, count, &lines, &e), &e);
	return lines;
}

static void close_lines(struct irq_line *lines, uint32_t count)
{
	msi.controller.ops->close(&msi.controller, lines, count);
}

static void route(struct irq_line *line, uint64_t address, uint32_t data)
{
	const struct msi_message message = { .address = address, .data = data };

	msi.controller.ops->route(&msi.controller, line, &message);
}

static void commit(void)
{
	msi.controller.ops->commit(&msi.controller);
}

/* The one message route of a GSI; NULL: there is none. */
static const struct kvm_irq_routing_entry *find_route(uint32_t gsi)
{
	const struct kvm_irq_routing_entry *found = NULL;

	for (uint32_t i = 0; i < host.route_count; i++) {
		if (host.table[i].gsi == gsi) {
			ck_assert_ptr_null(found);
			ck_assert_uint_eq(host.table[i].type, KVM_IRQ_ROUTING_MSI);
			found = &host.table[i];
		}
	}
	return found;
}

START_TEST(test_lines)
{
	struct irq_line *lines = open_lines(3), *more;
	uint64_t count;

	ck_assert_uint_eq(host.irqfds, 3);
	for (uint32_t i = 0; i < 3; i++) {
		ck_assert_uint_eq(lines[i].gsi, PLATFORM_GSIS + i);
		ck_assert_int_ge(lines[i].fd, 0);
	}
	ck_assert_uint_eq(host.irqfd.gsi, lines[2].gsi);
	ck_assert_uint_eq(host.irqfd.fd, (uint32_t)lines[2].fd);
	ck_assert_uint_eq(host.irqfd.flags, 0);
	irq_trigger(&lines[1]);
	ck_assert_int_eq((int)read(lines[1].fd, &count, sizeof(count)), sizeof(count));
	ck_assert_uint_eq(count, 1);
	/* Given back, and given to the next one who asks. */
	more = open_lines(2);
	ck_assert_uint_eq(more[0].gsi, PLATFORM_GSIS + 3);
	close_lines(lines, 3);
	lines = open_lines(4);
	ck_assert_uint_eq(lines[2].gsi, PLATFORM_GSIS + 2);
	ck_assert_uint_eq(lines[3].gsi, PLATFORM_GSIS + 5);
	close_lines(lines, 4);
	close_lines(more, 2);
	ck_assert_uint_eq(host.routings, 0);
}
END_TEST

/* The pins of PICs and IOAPIC as KVM wires them itself, in every table. */
START_TEST(test_default_routes)
{
	struct irq_line *lines = open_lines(1);
	uint32_t ioapic = 0, pics = 0;

	route(&lines[0], 0xfee00000, 0x41);
	commit();
	ck_assert_uint_eq(host.route_count, 24 + 16 + 1);
	for (uint32_t i = 0; i < host.route_count; i++) {
		const struct kvm_irq_routing_entry *entry = &host.table[i];

		if (entry->type != KVM_IRQ_ROUTING_IRQCHIP) {
			continue;
		}
		if (entry->u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC) {
			ioapic |= 1U << entry->gsi;
			ck_assert_uint_eq(entry->u.irqchip.pin, entry->gsi);
		} else {
			pics |= 1U << entry->gsi;
			ck_assert_uint_eq(entry->u.irqchip.irqchip,
					  entry->gsi < 8 ? KVM_IRQCHIP_PIC_MASTER
							 : KVM_IRQCHIP_PIC_SLAVE);
			ck_assert_uint_eq(entry->u.irqchip.pin, entry->gsi % 8);
		}
	}
	ck_assert_uint_eq(ioapic, 0xffffff);
	ck_assert_uint_eq(pics, 0xffff);
	close_lines(lines, 1);
}
END_TEST

START_TEST(test_routes)
{
	struct irq_line *lines = open_lines(3);

	commit(); /* nothing */
	ck_assert_uint_eq(host.routings, 0);
	route(&lines[0], 0xfee01000, 0x30);
	route(&lines[2], 0xfee02000, 0x32);
	ck_assert_uint_eq(host.routings, 0);
	commit();
	ck_assert_uint_eq(host.routings, 1);
	ck_assert_uint_eq(find_route(lines[0].gsi)->u.msi.address_lo, 0xfee01000);
	ck_assert_uint_eq(find_route(lines[0].gsi)->u.msi.address_hi, 0);
	ck_assert_uint_eq(find_route(lines[0].gsi)->u.msi.data, 0x30);
	ck_assert_ptr_null(find_route(lines[1].gsi));
	/* The same message is no change. */
	route(&lines[0], 0xfee01000, 0x30);
	commit();
	ck_assert_uint_eq(host.routings, 1);
	route(&lines[0], 0xfee01000, 0x31);
	commit();
	ck_assert_uint_eq(host.routings, 2);
	ck_assert_uint_eq(find_route(lines[0].gsi)->u.msi.data, 0x31);
	ck_assert_uint_eq(find_route(lines[2].gsi)->u.msi.data, 0x32);
	/* Closed lines are in no later table. */
	close_lines(lines, 3);
	lines = open_lines(1);
	route(&lines[0], 0xfee00000, 0x55);
	commit();
	ck_assert_uint_eq(host.route_count, 41);
	close_lines(lines, 1);
}
END_TEST

/* Writes to RAM, to the IOAPIC, to the reserved upper half: no interrupts. */
START_TEST(test_wild_messages)
{
	static const uint64_t wild[] = {
		0,	    0x1000,	 0xfec00000,	     0xfedffffc,
		0xfef00000, 0x1fee00000, 0xfee0000000000000, 0xfffffffffffffffc
	};
	struct irq_line *lines = open_lines(1);

	for (size_t i = 0; i < ARRAY_SIZE(wild); i++) {
		route(&lines[0], 0xfeefffff, 0xffffffff); /* KVM takes any data */
		commit();
		ck_assert_ptr_nonnull(find_route(lines[0].gsi));
		route(&lines[0], wild[i], 0x30);
		commit();
		ck_assert_ptr_null(find_route(lines[0].gsi));
		ck_assert_uint_eq(host.route_count, 40);
	}
	close_lines(lines, 1);
}
END_TEST

START_TEST(test_refused_routing)
{
	struct irq_line *lines = open_lines(1);

	host.fails = KVM_SET_GSI_ROUTING;
	route(&lines[0], 0xfee00000, 0x30);
	commit();
	ck_assert_uint_eq(host.routings, 0);
	host.fails = 0;
	commit(); /* tried again, though nothing has changed since */
	ck_assert_uint_eq(host.routings, 1);
	ck_assert_ptr_nonnull(find_route(lines[0].gsi));
	close_lines(lines, 1);
}
END_TEST

static void all_lines(void)
{
	struct irq_line *lines = open_lines(MSI_LINES_MAX - 1), *more = NULL;

	ck_assert_int_lt(msi.controller.ops->open(&msi.controller, 2, &more, &e), 0);
	check_error(&e, ERROR_CONFIG, "1024");
	more = open_lines(1); /* the one of the two that there was has been given back */
	close_lines(more, 1);
	host.fails = KVM_IRQFD;
	ck_assert_int_lt(msi.controller.ops->open(&msi.controller, 1, &more, &e), 0);
	check_error(&e, ERROR_KVM, "KVM_IRQFD");
	host.fails = 0;
	more = open_lines(1);
	for (uint32_t i = 0; i < MSI_LINES_MAX - 1; i++) {
		route(&lines[i], 0xfee00000, i);
	}
	commit();
	ck_assert_uint_eq(host.route_count, 40 + MSI_LINES_MAX - 1);
	close_lines(more, 1);
	close_lines(lines, MSI_LINES_MAX - 1);
}

START_TEST(test_no_more_lines)
{
	struct rlimit files;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
	if (files.rlim_max < MSI_LINES_MAX + 100) {
		CHECK_SKIP("the hard limit of open files is too low");
	}
	files.rlim_cur = files.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
	all_lines();
}
END_TEST
static const struct {
	int any_length;
	uint32_t len;
} lengths[] = { { 1, 0 }, { 0, 2 } };

START_TEST(test_doorbells)
{
	msi_finish(&msi);
	host.any_length = lengths[_i].any_length;
	check_ok(msi_init(&msi, &kvm, &e), &e);
	msi.doorbells.ops->add(&msi.doorbells, 0x123456780, 77);
	ck_assert_uint_eq(host.bells, 1);
	ck_assert_uint_eq(host.bell.addr, 0x123456780);
	ck_assert_uint_eq(host.bell.len, lengths[_i].len);
	ck_assert_int_eq(host.bell.fd, 77);
	ck_assert_uint_eq(host.bell.flags, 0);
	msi.doorbells.ops->remove(&msi.doorbells, 0x123456780, 77);
	ck_assert_uint_eq(host.bell.flags, KVM_IOEVENTFD_FLAG_DEASSIGN);
	ck_assert_uint_eq(host.bell.addr, 0x123456780);
	ck_assert_uint_eq(host.bell.len, lengths[_i].len);
	host.fails = KVM_IOEVENTFD; /* said, and kicks come as accesses */
	msi.doorbells.ops->add(&msi.doorbells, 0x1000, 77);
}
END_TEST

START_TEST(test_no_routing)
{
	msi_finish(&msi);
	host.routes = 1024;
	ck_assert_int_lt(msi_init(&msi, &kvm, &e), 0);
	check_error(&e, ERROR_KVM_UNAVAILABLE, "--transport mmio");
	check_error(&e, ERROR_KVM_UNAVAILABLE, "KVM_CAP_IRQ_ROUTING");
}
END_TEST

CHECK_MAIN("msi", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_lines);
	   CHECK_TEST(test_default_routes); CHECK_TEST(test_routes); CHECK_TEST(test_wild_messages);
	   CHECK_TEST(test_refused_routing); CHECK_TEST(test_no_more_lines);
	   CHECK_TABLE(test_doorbells, lengths); CHECK_TEST(test_no_routing))
