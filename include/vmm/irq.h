/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interrupt line as a device sees it. What is behind it (an irqfd, KVM_IRQ_LINE, a counter in a
 * test) is the business of whoever wired the device up. All calls are safe from any thread and
 * never block.
 *
 * A PCI function's interrupts are messages: each of its vectors is an edge line, and a controller
 * knows which message a line sends. A doorbell is the way back: an address that the guest writes,
 * and an eventfd that becomes readable.
 */
#ifndef VMM_IRQ_H
#define VMM_IRQ_H

#include "vmm/error.h"
#include "vmm/types.h"

struct irq_line;

struct irq_ops {
	/* Edge-triggered lines: one pulse. */
	void (*trigger)(struct irq_line *line);
	/* Level lines (ISA devices of the full irqchip): NULL for lines that only know trigger().
	 */
	void (*set_level)(struct irq_line *line, bool high);
};

struct irq_line {
	const struct irq_ops *ops;
	uint32_t gsi;
	int fd;	     /* irqfd, -1 if the implementation has none */
	void *owner; /* of the implementation */
};

static inline void irq_trigger(struct irq_line *line)
{
	line->ops->trigger(line);
}

static inline void irq_set_level(struct irq_line *line, bool high)
{
	if (line->ops->set_level != NULL) {
		line->ops->set_level(line, high);
	} else if (high) {
		line->ops->trigger(line);
	}
}

struct msi_message {
	uint64_t address;
	uint32_t data;
};

struct msi_controller;

struct msi_ops {
	/* Makes `count` lines without messages. Main, or the thread of a start; close() when nobody
	 * triggers them any more. */
	int (*open)(struct msi_controller *controller, uint32_t count, struct irq_line **lines,
		    struct error *e);
	void (*close)(struct msi_controller *controller, struct irq_line *lines, uint32_t count);
	/*
	 * What the line sends from the next commit() on: any message, as a guest writes them; one
	 * that is no interrupt is sent to nobody. commit() costs nothing if no line's message is
	 * another one than before. vCPU threads and main, several at once; a line's own calls do not
	 * overlap. Neither fails: what the host refuses is a line that sends nothing.
	 */
	void (*route)(struct msi_controller *controller, struct irq_line *line,
		      const struct msi_message *message);
	void (*commit)(struct msi_controller *controller);
};

struct msi_controller {
	const struct msi_ops *ops;
};

struct doorbells;

struct doorbell_ops {
	/* A write of any width at exactly `address` makes `fd` readable, and nothing else happens. If
	 * the host cannot, the write comes as an access to whoever has the address. Any thread. */
	void (*add)(struct doorbells *doorbells, gpa_t address, int fd);
	void (*remove)(struct doorbells *doorbells, gpa_t address, int fd);
};

struct doorbells {
	const struct doorbell_ops *ops;
};

#endif
