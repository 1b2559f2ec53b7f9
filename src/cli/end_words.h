/* SPDX-License-Identifier: Apache-2.0 */
/* What is said on standard error when a VM has ended otherwise than by its power-off: what happened,
 * where the vCPU stood, how often the machine was reset. Main thread. */
#ifndef VMM_SRC_CLI_END_WORDS_H
#define VMM_SRC_CLI_END_WORDS_H

#include "exit_report.h"
#include "vm_process.h"

/* `report` has reason, time and figures already; its `error` has been said. */
void end_words_say(const struct vm_process *process, const struct exit_report *report);

#endif
