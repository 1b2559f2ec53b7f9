// SPDX-License-Identifier: Apache-2.0
/*
 * Entering the sandbox. Process-wide first: no capability left, no way to gain privileges, no core
 * dump, no ptrace by others of the same user. Then each thread loads the filter of its role
 * (seccomp(2)), which nothing can take off again.
 *
 * A system call outside the filter raises SIGSYS on the offending thread. The handler only uses
 * async-signal-safe calls that every role is allowed: it writes one line and ends the process with
 * 125. In SANDBOX_LOG mode the same programs run with their trap replaced by "log and allow".
 */
#include <errno.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filters.h"
#include "vmm/sandbox.h"

#define EXIT_VMM_ERROR	  125
#define FILTER_LENGTH_MAX 1024
#define FROM_A_FILTER	  1 /* si_code: SYS_SECCOMP of <asm/siginfo.h> */

/* For the message of a refused call. */
static _Thread_local enum sandbox_role thread_role;
static _Thread_local bool thread_entered;
static void (*end_after_refusal)(bool of_a_filter);

static void append(char *buf, size_t size, size_t *used, const char *text)
{
	while (*text != '\0' && *used + 1 < size) {
		buf[(*used)++] = *text++;
	}
}

static void append_number(char *buf, size_t size, size_t *used, unsigned int number)
{
	char digits[12];
	size_t i = sizeof(digits);

	digits[--i] = '\0';
	do {
		digits[--i] = (char)('0' + number % 10);
		number /= 10;
	} while (number != 0);
	append(buf, size, used, &digits[i]);
}

static _Noreturn void end(const char *line, size_t len, bool of_a_filter)
{
	(void)!write(STDERR_FILENO, line, len);
	if (end_after_refusal != NULL) {
		end_after_refusal(of_a_filter);
	}
	_exit(EXIT_VMM_ERROR);
}

/* Which call it was: name if known, else its number. */
static void refuse(int signal_number, siginfo_t *info, void *context)
{
	unsigned int number = (unsigned int)info->si_syscall;
	char line[240];
	size_t used = 0;

	(void)signal_number;
	(void)context;
	if (info->si_code != FROM_A_FILTER) {
		static const char sent[] = "vmm: somebody has sent SIGSYS\n";

		end(sent, sizeof(sent) - 1, false);
	}
	append(line, sizeof(line), &used, "vmm: sandbox: a thread of role '");
	append(line, sizeof(line), &used, sandbox_role_name(thread_role));
	append(line, sizeof(line), &used, "' called ");
	if (number < SANDBOX_SYSCALL_NAMES && sandbox_syscall_names[number] != NULL) {
		append(line, sizeof(line), &used, sandbox_syscall_names[number]);
		append(line, sizeof(line), &used, " ");
	}
	append(line, sizeof(line), &used, "(system call ");
	append_number(line, sizeof(line), &used, number);
	append(line, sizeof(line), &used,
	       "), which its filter refuses\n"
	       "hint: this is a bug in vmm; --sandbox log shows all such calls in the kernel's "
	       "log\n");
	end(line, used, true);
}

static int install_handler(struct error *e)
{
	struct sigaction action = { .sa_sigaction = refuse, .sa_flags = SA_SIGINFO };

	if (sigaction(SIGSYS, &action, NULL) < 0) {
		return error_set_sys(e, ERROR_SANDBOX, errno, "sandbox: sigaction");
	}
	return 0;
}

/*
 * Of the calling thread. The bounding set stays: with no_new_privs no exec can gain from it.
 * capset(2) itself rather than libcap-ng, which reads /proc four times and makes 50 calls for the
 * same (0.1 ms of every start).
 */
static int drop_capabilities(struct error *e)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL) {
		return error_set_sys(e, ERROR_SANDBOX, errno, "sandbox: PR_CAP_AMBIENT_CLEAR_ALL");
	}
	if (syscall(SYS_capset, &header, none) < 0) {
		return error_set_sys(e, ERROR_SANDBOX, errno, "sandbox: drop capabilities");
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		return error_set_sys(e, ERROR_SANDBOX, errno, "sandbox: PR_SET_NO_NEW_PRIVS");
	}
	return 0;
}

int sandbox_enter_process(enum sandbox_mode mode, struct error *e)
{
	const struct rlimit no_core = { 0, 0 };

	if (mode == SANDBOX_OFF) {
		return 0;
	}
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
		return error_set_sys(e, ERROR_SANDBOX, errno, "sandbox: PR_SET_DUMPABLE");
	}
	if (setrlimit(RLIMIT_CORE, &no_core) < 0) {
		return error_set_sys(e, ERROR_SANDBOX, errno, "sandbox: RLIMIT_CORE");
	}
	return install_handler(e);
}

static int load(const struct sock_filter *program, unsigned short length, struct error *e)
{
	struct sock_fprog prog = {
		.len = length,
		.filter = (struct sock_filter *)(uintptr_t)program,
	};

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0) {
		(void)error_set_sys(e, ERROR_SANDBOX, errno, "sandbox: load a system call filter");
		return error_hint(
			e, "the kernel needs CONFIG_SECCOMP_FILTER; --sandbox off runs without");
	}
	return 0;
}

static int load_logging(const struct sandbox_filter *filter, struct error *e)
{
	struct sock_filter program[FILTER_LENGTH_MAX];

	if (filter->length > FILTER_LENGTH_MAX) {
		return error_set(e, ERROR_INTERNAL, E2BIG, "sandbox: a filter of %u instructions",
				 filter->length);
	}
	memcpy(program, filter->program, filter->length * sizeof(program[0]));
	for (unsigned int i = 0; i < filter->length; i++) {
		if (program[i].code == (BPF_RET | BPF_K) && program[i].k == SECCOMP_RET_TRAP) {
			program[i].k = SECCOMP_RET_LOG;
		}
	}
	return load(program, filter->length, e);
}

int sandbox_enter_thread(enum sandbox_mode mode, enum sandbox_role role, struct error *e)
{
	const struct sandbox_filter *filter = &sandbox_filters[role];
	int r;

	if (mode == SANDBOX_OFF) {
		return 0;
	}
	thread_role = role;
	r = drop_capabilities(e);
	if (r < 0) {
		return r;
	}
	r = mode == SANDBOX_LOG ? load_logging(filter, e)
				: load(filter->program, filter->length, e);
	thread_entered = r == 0;
	return r < 0 ? error_prefix(e, "role %s", sandbox_role_name(role)) : 0;
}

void sandbox_on_refusal(void (*end_process)(bool of_a_filter))
{
	end_after_refusal = end_process;
}

bool sandbox_thread_entered(void)
{
	return thread_entered;
}
