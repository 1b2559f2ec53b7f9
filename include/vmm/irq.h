/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interrupt line as a device sees it. What is behind it (an irqfd, KVM_IRQ_LINE, a counter in a
 * test) is the business of whoever wired the device up. All calls are safe from any thread and
 * never block.
 */
#ifndef VMM_IRQ_H
#define VMM_IRQ_H

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

#endif
