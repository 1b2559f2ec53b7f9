/* SPDX-License-Identifier: Apache-2.0 */
/* Giving memory back to the host that only the start needed. */
#ifndef VMM_TRIM_H
#define VMM_TRIM_H

/* Drops resident pages of read-only program segments; they return when they are used. Any thread,
 * any time; never fails. */
void trim_program_text(void);

#endif
