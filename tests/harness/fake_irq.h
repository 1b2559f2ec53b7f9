/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interrupt line that counts. `line.ops->set_level` is there unless the test asks for an
 * edge-only line; pulses and rising edges are counted atomically, so that worker threads may raise
 * it too.
 */
#ifndef TESTS_FAKE_IRQ_H
#define TESTS_FAKE_IRQ_H

#include <stdatomic.h>

#include "vmm/irq.h"

struct fake_irq {
	struct irq_line line;	      /* hand &fake.line to the device */
	_Atomic unsigned int pulses;  /* trigger() */
	_Atomic unsigned int edges;   /* set_level() from low to high */
	_Atomic unsigned int changes; /* every call of set_level() */
	_Atomic bool level;
};

static inline void fake_irq_trigger_(struct irq_line *line)
{
	struct fake_irq *irq = (struct fake_irq *)line->owner;

	atomic_fetch_add(&irq->pulses, 1);
}

static inline void fake_irq_set_level_(struct irq_line *line, bool high)
{
	struct fake_irq *irq = (struct fake_irq *)line->owner;

	atomic_fetch_add(&irq->changes, 1);
	if (!atomic_exchange(&irq->level, high) && high) {
		atomic_fetch_add(&irq->edges, 1);
	}
}

static inline void fake_irq_init_ops_(struct fake_irq *irq, const struct irq_ops *ops, uint32_t gsi)
{
	irq->line = (struct irq_line){ .ops = ops, .gsi = gsi, .fd = -1, .owner = irq };
	atomic_init(&irq->pulses, 0);
	atomic_init(&irq->edges, 0);
	atomic_init(&irq->changes, 0);
	atomic_init(&irq->level, false);
}

/* A line that knows levels and pulses. */
static inline void fake_irq_init(struct fake_irq *irq, uint32_t gsi)
{
	static const struct irq_ops ops = { .trigger = fake_irq_trigger_,
					    .set_level = fake_irq_set_level_ };

	fake_irq_init_ops_(irq, &ops, gsi);
}

/* A line that only knows pulses, as one behind an irqfd. */
static inline void fake_irq_init_edge(struct fake_irq *irq, uint32_t gsi)
{
	static const struct irq_ops ops = { .trigger = fake_irq_trigger_ };

	fake_irq_init_ops_(irq, &ops, gsi);
}

static inline unsigned int fake_irq_count(const struct fake_irq *irq)
{
	return atomic_load(&irq->pulses) + atomic_load(&irq->edges);
}

#endif
