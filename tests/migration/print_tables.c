/* SPDX-License-Identifier: Apache-2.0 */
/*
 * print_tables: the tables of the hand-over as the model spells them, one line each, for tests/migration/model:
 *
 *	message NAME to SIDE
 *	state NAME awaits ACTION
 *	row FROM TRIGGER NEXT ACTION...
 */
#include <stdio.h>
#include <stdlib.h>

#include "vmm/handover.h"

/* A state's name, with what Promela has in names. */
static void print_state(enum handover_state state)
{
	putchar(' ');
	for (const char *p = handover_state_info(state)->name; *p != '\0'; p++) {
		putchar(*p == '-' ? '_' : *p);
	}
}

static void print_row(const struct handover_row *row)
{
	printf("row");
	print_state(row->from);
	printf(" %s", row->event == HANDOVER_MESSAGE ? handover_message_info(row->message)->name
						     : handover_event_name(row->event));
	print_state(row->next);
	for (size_t i = 0; i < row->action_count; i++) {
		const struct handover_action *action = &row->actions[i];

		if (action->kind == HANDOVER_SEND) {
			printf(" SAY(%s)", handover_message_info(action->message)->name);
		} else {
			printf(" DO(%s)", handover_action_name(action->kind));
		}
	}
	putchar('\n');
}

int main(void)
{
	struct handover_row row;

	for (uint32_t message = 1; message < HANDOVER_MESSAGES; message++) {
		const struct handover_message_info *info = handover_message_info(message);

		printf("message %s to %s\n", info->name,
		       info->to == HANDOVER_SOURCE ? "source" : "destination");
	}
	for (enum handover_state state = 0; state < HANDOVER_STATES; state++) {
		printf("state");
		print_state(state);
		printf(" awaits %s\n", handover_action_name(handover_state_info(state)->awaits));
	}
	for (size_t i = 0; handover_row(i, &row); i++) {
		print_row(&row);
	}
	return ferror(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
