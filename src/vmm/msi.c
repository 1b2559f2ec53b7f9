// SPDX-License-Identifier: Apache-2.0
/*
 * Message interrupts of PCI functions, and their doorbells. A line is a GSI beyond those of
 * pins with an irqfd: a worker sends its message by one write(2). What a GSI sends stands in KVM's
 * routing table, of which there is one for the VM: KVM_SET_GSI_ROUTING replaces it as a whole, so the
 * routes of the pins of interrupt controllers are in it, as KVM makes them, and so is every message.
 *
 * Measured on a software KVM: 14 us a call and 0.15 us an entry; elsewhere it also waits for a grace
 * period of the VM. Therefore messages are only noted by route(), and commit() makes a call if one has
 * become another. Doorbells are ioeventfds without a value: adding one takes 2 us, removing one 0.3 to
 * 0.7 ms (a grace period), which a guest pays that moves a BAR or turns decoding off.
 *
 * A length of 0 (KVM_CAP_IOEVENTFD_ANY_LENGTH) matches a write of any width, and spares KVM to decode
 * the instruction on processors that do not say what it was. Without it a doorbell is for 2 bytes,
 * which is what a driver has to write; what others write comes as an access.
 *
 * A message is a write to memory, to anywhere. The architecture says which of them are interrupts; the
 * others are sent to nobody.
 *
 * Threads: open and close by main or the thread of a start, the rest by vCPUs too. Nothing is saved:
 * MSI-X tables are.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/platform.h"

LOG_DOMAIN("vm");

#define ROUTES_MAX (ARCH_PIN_ROUTES_MAX + MSI_LINES_MAX)

static struct msi *msi_of(struct msi_controller *controller)
{
	return container_of(controller, struct msi, controller);
}

static bool is_used(const struct msi *msi, uint32_t index)
{
	return (msi->used[index / 64] >> index % 64 & 1) != 0;
}

static void set_used(struct msi *msi, uint32_t index, bool used)
{
	const uint64_t bit = UINT64_C(1) << index % 64;

	msi->used[index / 64] = (msi->used[index / 64] & ~bit) | (used ? bit : 0);
}

/* Takes a free one; MSI_LINES_MAX: there is none. */
static uint32_t take_index(struct msi *msi)
{
	SCOPED_LOCK(&msi->lock);

	for (uint32_t i = 0; i < MSI_LINES_MAX; i++) {
		if (!is_used(msi, i)) {
			set_used(msi, i, true);
			msi->messages[i] = (struct msi_message){ 0 };
			return i;
		}
	}
	return MSI_LINES_MAX;
}

/* The routes of closed lines stay in KVM until the next commit: nobody triggers them. */
static void close_lines(struct msi_controller *controller, struct irq_line *lines, uint32_t count)
{
	struct msi *msi = msi_of(controller);

	for (uint32_t i = 0; i < count; i++) {
		if (lines[i].ops != NULL) {
			SCOPED_LOCK(&msi->lock);
			/* KVM lets go of an irqfd when it is closed. */
			close_fd(&lines[i].fd);
			set_used(msi, lines[i].gsi - PLATFORM_GSIS, false);
			msi->messages[lines[i].gsi - PLATFORM_GSIS].address = 0;
		}
	}
	free(lines);
}

static int open_lines(struct msi_controller *controller, uint32_t count, struct irq_line **ret,
		      struct error *e)
{
	struct msi *msi = msi_of(controller);
	struct irq_line *lines = calloc(count, sizeof(*lines));
	int r = 0;

	if (lines == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "message interrupts");
	}
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		uint32_t index = take_index(msi);

		if (index == MSI_LINES_MAX) {
			r = error_set(e, ERROR_CONFIG, ENOSPC,
				      "message interrupts: all %d of the machine are taken",
				      MSI_LINES_MAX);
			break;
		}
		r = irqfd_open(msi->kvm, &lines[i], PLATFORM_GSIS + index, e);
		if (r < 0) {
			set_used(msi, index, false);
		}
	}
	if (r < 0) {
		close_lines(controller, lines, count);
		return r;
	}
	*ret = lines;
	return 0;
}

static void route(struct msi_controller *controller, struct irq_line *line,
		  const struct msi_message *message)
{
	static const struct msi_message nothing;
	struct msi *msi = msi_of(controller);
	struct msi_message *mine = &msi->messages[line->gsi - PLATFORM_GSIS];

	if (!arch_is_interrupt(message)) {
		message = &nothing;
	}
	SCOPED_LOCK(&msi->lock);
	if (mine->address != message->address || mine->data != message->data) {
		*mine = *message;
		msi->changed = true;
	}
}

static void fill_table(const struct msi *msi)
{
	struct kvm_irq_routing *table = msi->table;

	table->nr = 0;
	arch_add_pin_routes(table);
	for (uint32_t i = 0; i < MSI_LINES_MAX; i++) {
		const struct msi_message *message = &msi->messages[i];

		if (message->address != 0) {
			table->entries[table->nr++] = (struct kvm_irq_routing_entry){
				.gsi = PLATFORM_GSIS + i,
				.type = KVM_IRQ_ROUTING_MSI,
				.u.msi = { .address_lo = (uint32_t)message->address,
					   .address_hi = (uint32_t)(message->address >> 32),
					   .data = message->data },
			};
		}
	}
}

static void commit(struct msi_controller *controller)
{
	struct msi *msi = msi_of(controller);
	int r;

	SCOPED_LOCK(&msi->lock);
	if (!msi->changed) {
		return;
	}
	fill_table(msi);
	r = kvm_ioctl(msi->kvm->vm_fd, KVM_SET_GSI_ROUTING, msi->table);
	/* Else the next one tries again; until then KVM sends what it sent before. */
	msi->changed = r < 0;
	if (r < 0) {
		log_guest(LOG_WARN,
			  "interrupts of PCI devices stay where they were: "
			  "KVM_SET_GSI_ROUTING: %s",
			  strerror(-r));
	}
}

static int bell(struct doorbells *doorbells, gpa_t address, int fd, uint32_t flags)
{
	struct msi *msi = container_of(doorbells, struct msi, doorbells);
	struct kvm_ioeventfd ioeventfd = {
		.addr = address, .len = msi->doorbell_len, .fd = fd, .flags = flags
	};

	return kvm_ioctl(msi->kvm->vm_fd, KVM_IOEVENTFD, &ioeventfd);
}

static void bell_add(struct doorbells *doorbells, gpa_t address, int fd)
{
	int r = bell(doorbells, address, fd, 0);

	if (r < 0) {
		log_guest(LOG_WARN,
			  "a PCI device's queue is slow, its driver's writes to 0x%llx leave the "
			  "guest: KVM_IOEVENTFD: %s",
			  (unsigned long long)address, strerror(-r));
	}
}

static void bell_remove(struct doorbells *doorbells, gpa_t address, int fd)
{
	(void)bell(doorbells, address, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

static bool has_capability(const struct kvm *kvm, int capability, int at_least)
{
	return kvm_ioctl(kvm->fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability) >= at_least;
}

int msi_init(struct msi *msi, struct kvm *kvm, struct error *e)
{
	static const struct msi_ops ops = {
		.open = open_lines, .close = close_lines, .route = route, .commit = commit
	};
	static const struct doorbell_ops doorbell_ops = { .add = bell_add, .remove = bell_remove };

	*msi = (struct msi){ .controller = { &ops }, .doorbells = { &doorbell_ops }, .kvm = kvm };
	if (!has_capability(kvm, KVM_CAP_IRQ_ROUTING, ROUTES_MAX)) {
		(void)error_set(e, ERROR_KVM_UNAVAILABLE, ENOTSUP,
				"/dev/kvm: KVM_CAP_IRQ_ROUTING has less than %d routes, which "
				"interrupts of PCI devices need",
				ROUTES_MAX);
		return error_hint(e, "--transport mmio does without");
	}
	msi->doorbell_len = has_capability(kvm, KVM_CAP_IOEVENTFD_ANY_LENGTH, 1) ? 0 : 2;
	msi->table = calloc(1, sizeof(*msi->table) + ROUTES_MAX * sizeof(msi->table->entries[0]));
	if (msi->table == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "interrupt routes");
	}
	(void)pthread_mutex_init(&msi->lock, NULL);
	return 0;
}

void msi_finish(struct msi *msi)
{
	if (msi->table != NULL) {
		(void)pthread_mutex_destroy(&msi->lock);
		free(msi->table);
		msi->table = NULL;
	}
}
