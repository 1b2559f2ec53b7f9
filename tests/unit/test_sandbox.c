/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox, in two ways. Children enter each role and make calls for real: a refused one ends
 * the child with 125 and a message that names the call. And each role's BPF program is run by a
 * small interpreter over all system calls, architectures and the arguments that matter, which finds
 * what nobody thought of calling.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "../../src/sandbox/filters.h"

#define CHILD_LIVES 42

/* A child's end and what it wrote to standard error. */
struct end {
	int status;
	char text[1024];
};

static void run_child(struct end *end, void (*body)(void *arg), void *arg)
{
	size_t used = 0;
	ssize_t n;
	int fds[2];
	pid_t pid;

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)dup2(fds[1], STDERR_FILENO);
		body(arg);
		_exit(CHILD_LIVES);
	}
	(void)close(fds[1]);
	while (used + 1 < sizeof(end->text) &&
	       (n = read(fds[0], end->text + used, sizeof(end->text) - 1 - used)) > 0) {
		used += (size_t)n;
	}
	end->text[used] = '\0';
	(void)close(fds[0]);
	ck_assert_int_eq(waitpid(pid, &end->status, 0), pid);
}

static void enter(enum sandbox_mode mode, enum sandbox_role role)
{
	struct error e = { 0 };

	if (sandbox_enter_process(mode, &e) < 0 || sandbox_enter_thread(mode, role, &e) < 0) {
		(void)!write(STDERR_FILENO, e.msg, strlen(e.msg));
		_exit(1);
	}
}

static long call_openat(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC | O_CREAT, 0600);
}

static long call_open(void)
{
	return syscall(SYS_open, "/dev/null", O_RDONLY | O_CLOEXEC, 0);
}

static long call_socket(void)
{
	return syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static long call_execve(void)
{
	/* Fails with ENOENT where it is allowed. */
	return syscall(SYS_execve, "/nonexistent/program", NULL, NULL) == -1 && errno == ENOENT
		       ? 0
		       : -1;
}

static long call_mmap_exec(void)
{
	return syscall(SYS_mmap, NULL, 4096UL, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0) == -1
		       ? -1
		       : 0;
}

static long call_ptrace(void)
{
	return syscall(SYS_ptrace, PTRACE_PEEKDATA, 1, NULL, NULL) == -1 ? 0 : 0;
}

static long call_kill(void)
{
	/* Signal 0: nobody is hurt if it works. */
	(void)syscall(SYS_kill, 1, 0);
	return 0;
}

static long call_io_uring_setup(void)
{
	struct io_uring_params params = { 0 };

	(void)syscall(SYS_io_uring_setup, 2, &params);
	return 0;
}

static long call_clone(void)
{
	/* Flags that the kernel refuses. */
	(void)syscall(SYS_clone, 0x00000800UL | 0x00010000UL, NULL, NULL, NULL, NULL);
	return 0;
}

static long call_ioctl(void)
{
	(void)syscall(SYS_ioctl, STDERR_FILENO, TIOCSTI, "x");
	return 0;
}

static const struct forbidden_row {
	const char *name;
	long (*call)(void);
} forbidden[] = {
	{ "openat", call_openat },  { "open", call_open },
	{ "socket", call_socket },  { "execve", call_execve },
	{ "mmap", call_mmap_exec }, { "ptrace", call_ptrace },
	{ "kill", call_kill },	    { "io_uring_setup", call_io_uring_setup },
	{ "clone", call_clone },    { "ioctl", call_ioctl },
};

struct attempt {
	enum sandbox_mode mode;
	enum sandbox_role role;
	long (*call)(void);
};

static void attempt(void *arg)
{
	const struct attempt *a = arg;

	enter(a->mode, a->role);
	if (a->call() < 0) {
		_exit(1);
	}
}

static enum sandbox_role role_of(int i)
{
	return (enum sandbox_role)((size_t)i / ARRAY_SIZE(forbidden));
}

static const struct forbidden_row *call_of(int i)
{
	return &forbidden[(size_t)i % ARRAY_SIZE(forbidden)];
}

START_TEST(test_forbidden)
{
	struct attempt a = { SANDBOX_ON, role_of(_i), call_of(_i)->call };
	char name[64];
	struct end end;

	if (a.role == SANDBOX_ROLE_MACHINE && a.call == call_io_uring_setup) {
		return; /* see test_only_machine_opens */
	}
	if (SANITIZED) {
		CHECK_SKIP("built with a sanitizer");
	}
	run_child(&end, attempt, &a);
	ck_assert_msg(WIFEXITED(end.status) && WEXITSTATUS(end.status) == 125,
		      "%s in role %s: status 0x%x: %s", call_of(_i)->name,
		      sandbox_role_name(a.role), (unsigned int)end.status, end.text);
	(void)snprintf(name, sizeof(name), " called %s ", call_of(_i)->name);
	ck_assert_msg(strstr(end.text, name) != NULL, "'%s'", end.text);
	ck_assert_ptr_nonnull(strstr(end.text, "hint: "));
}
END_TEST

START_TEST(test_log_mode)
{
	struct attempt a = { SANDBOX_LOG, role_of(_i), call_of(_i)->call };
	struct end end;

	run_child(&end, attempt, &a);
	ck_assert_msg(WIFEXITED(end.status) && WEXITSTATUS(end.status) == CHILD_LIVES,
		      "%s in role %s: status 0x%x: %s", call_of(_i)->name,
		      sandbox_role_name(a.role), (unsigned int)end.status, end.text);
}
END_TEST

START_TEST(test_off)
{
	struct attempt a = { SANDBOX_OFF, SANDBOX_ROLE_VCPU, call_openat };
	struct end end;

	run_child(&end, attempt, &a);
	ck_assert_int_eq(WEXITSTATUS(end.status), CHILD_LIVES);
	ck_assert_str_eq(end.text, "");
}
END_TEST

/* What every thread needs to do its work and to end. */
static void work(void *arg)
{
	const struct attempt *a = arg;
	int word = 0;

	enter(a->mode, a->role);
	if (syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) != 0 ||
	    write(STDERR_FILENO, "works", 5) != 5) {
		_exit(1);
	}
}

START_TEST(test_allowed)
{
	struct attempt a = { SANDBOX_ON, (enum sandbox_role)_i, NULL };
	struct end end;

	if (SANITIZED) {
		CHECK_SKIP("built with a sanitizer");
	}
	run_child(&end, work, &a);
	ck_assert_int_eq(WEXITSTATUS(end.status), CHILD_LIVES);
	ck_assert_str_eq(end.text, "works");
}
END_TEST

/* The number in a line of /proc/self/status, which was opened before. */
static unsigned long long status_number(const char *text, const char *key, int base)
{
	const char *line = strstr(text, key);

	return line != NULL ? strtoull(line + strlen(key), NULL, base) : ~0ULL;
}

static void show_status(void *arg)
{
	const struct attempt *a = arg;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	int bounded = open("/proc/self/limits", O_RDONLY | O_CLOEXEC);
	char text[4096];
	ssize_t n;

	enter(a->mode, a->role);
	n = pread(fd, text, sizeof(text) - 1, 0);
	text[MAX(n, (ssize_t)0)] = '\0';
	if (fd < 0 || bounded < 0 || status_number(text, "\nSeccomp:\t", 10) != 2 ||
	    status_number(text, "\nNoNewPrivs:\t", 10) != 1 ||
	    status_number(text, "\nCapEff:\t", 16) != 0 ||
	    status_number(text, "\nCapPrm:\t", 16) != 0 ||
	    status_number(text, "\nCapInh:\t", 16) != 0 ||
	    status_number(text, "\nCapAmb:\t", 16) != 0) {
		(void)!write(STDERR_FILENO, text, strlen(text));
		_exit(1);
	}
	n = pread(bounded, text, sizeof(text) - 1, 0);
	text[MAX(n, (ssize_t)0)] = '\0';
	if (strstr(text, "Max core file size        0                    0 ") == NULL) {
		(void)!write(STDERR_FILENO, text, strlen(text));
		_exit(1);
	}
}

/* In role main, which may read files that are open. */
START_TEST(test_status)
{
	struct attempt a = { SANDBOX_ON, SANDBOX_ROLE_MAIN, NULL };
	struct end end;

	if (SANITIZED) {
		CHECK_SKIP("built with a sanitizer");
	}
	run_child(&end, show_status, &a);
	ck_assert_msg(WEXITSTATUS(end.status) == CHILD_LIVES, "status 0x%x: %s",
		      (unsigned int)end.status, end.text);
}
END_TEST

/* What a program answers. Classic BPF as seccomp accepts it (Linux, kernel/seccomp.c:
 * seccomp_check_filter). */
static uint32_t run_program(const struct sandbox_filter *filter, const struct seccomp_data *data)
{
	uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = { 0 };

	for (uint32_t pc = 0; pc < filter->length; pc++) {
		const struct sock_filter *op = &filter->program[pc];
		uint32_t operand = BPF_SRC(op->code) == BPF_X ? x : op->k;
		bool taken;

		switch (BPF_CLASS(op->code)) {
		case BPF_LD:
			ck_assert_uint_le(op->k, sizeof(*data) - 4);
			ck_assert_uint_eq(op->code, BPF_LD | BPF_W | BPF_ABS);
			memcpy(&a, (const char *)data + op->k, 4);
			break;
		case BPF_ALU:
			ck_assert_uint_eq(BPF_OP(op->code), BPF_AND);
			a &= operand;
			break;
		case BPF_JMP:
			if (BPF_OP(op->code) == BPF_JA) {
				pc += op->k;
				break;
			}
			taken = BPF_OP(op->code) == BPF_JEQ   ? a == operand
				: BPF_OP(op->code) == BPF_JGT ? a > operand
				: BPF_OP(op->code) == BPF_JGE ? a >= operand
							      : (a & operand) != 0;
			pc += taken ? op->jt : op->jf;
			break;
		case BPF_RET:
			return BPF_RVAL(op->code) == BPF_A ? a : op->k;
		case BPF_ST:
			memory[op->k % BPF_MEMWORDS] = a;
			break;
		case BPF_MISC:
			x = a;
			break;
		default:
			ck_abort_msg("instruction 0x%x", op->code);
		}
	}
	(void)memory;
	ck_abort_msg("the program ends without an answer");
	return 0;
}

static bool allows_data(enum sandbox_role role, const struct seccomp_data *data)
{
	uint32_t answer = run_program(&sandbox_filters[role], data) & SECCOMP_RET_ACTION_FULL;

	ck_assert_msg(answer == SECCOMP_RET_ALLOW || answer == SECCOMP_RET_TRAP ||
			      answer == SECCOMP_RET_KILL_THREAD ||
			      answer == SECCOMP_RET_KILL_PROCESS ||
			      (answer == SECCOMP_RET_ERRNO && role == SANDBOX_ROLE_MACHINE &&
			       data->nr == SYS_clone3),
		      "answer 0x%x", answer);
	return answer == SECCOMP_RET_ALLOW;
}

static bool allows(enum sandbox_role role, uint32_t arch, long number, uint64_t arg1, uint64_t arg2)
{
	const struct seccomp_data data = {
		.nr = (int)number,
		.arch = arch,
		.args = { 0, arg1, arg2, 0, 0, 0 },
	};

	return allows_data(role, &data);
}

/* No role may, whatever the arguments. */
static const long never[] = {
	SYS_open,
	SYS_openat2,
	SYS_creat,
	SYS_execve,
	SYS_execveat,
	SYS_fork,
	SYS_vfork,
	SYS_clone,
	SYS_clone3,
	SYS_ptrace,
	SYS_kill,
	SYS_tkill,
	SYS_socket,
	SYS_connect,
	SYS_bind,
	SYS_listen,
	SYS_accept,
	SYS_accept4,
	SYS_mount,
	SYS_umount2,
	SYS_chroot,
	SYS_pivot_root,
	SYS_unshare,
	SYS_setns,
	SYS_setuid,
	SYS_setgid,
	SYS_setresuid,
	SYS_setresgid,
	SYS_setgroups,
	SYS_capset,
	SYS_bpf,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_keyctl,
	SYS_add_key,
	SYS_request_key,
	SYS_unlink,
	SYS_unlinkat,
	SYS_rename,
	SYS_renameat2,
	SYS_link,
	SYS_symlink,
	SYS_chmod,
	SYS_fchmod,
	SYS_chown,
	SYS_fchown,
	SYS_mknod,
	SYS_mkdir,
	SYS_truncate,
	SYS_personality,
	SYS_ioperm,
	SYS_iopl,
	SYS_kexec_load,
	SYS_reboot,
	SYS_swapon,
	SYS_sethostname,
	SYS_memfd_create,
	SYS_pidfd_open,
	SYS_pidfd_getfd,
	SYS_pidfd_send_signal,
	SYS_modify_ldt,
	SYS_shmat,
	SYS_pkey_mprotect,
	SYS_seccomp,
	SYS_quotactl,
	SYS_syslog,
	SYS_acct,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_adjtimex,
	SYS_move_pages,
	SYS_open_by_handle_at,
	SYS_fanotify_init,
};

/* What a new thread begins with, on the thread that starts it alone: it can give up what it has not. */
static bool needed_by_machine(enum sandbox_role role, int number)
{
	return role == SANDBOX_ROLE_MACHINE && number == SYS_capset;
}

/* What the API and the VM's directory need, on main alone: taking connections, answering, removing
 * sockets at the end. */
static bool needed_by_main(enum sandbox_role role, int number)
{
	return role == SANDBOX_ROLE_MAIN &&
	       (number == SYS_accept4 || number == SYS_unlinkat || number == SYS_sendto ||
		number == SYS_recvfrom || number == SYS_sendmsg);
}

/* A snapshot's files take the places of others, and those of one that has failed go; the machine thread
 * starts the job. */
static bool needed_by_snapshots(enum sandbox_role role, int number)
{
	return (role == SANDBOX_ROLE_JOB || role == SANDBOX_ROLE_MACHINE) &&
	       (number == SYS_unlinkat || number == SYS_renameat2);
}

/* Where a VM goes to is a client's word, or that of who started vmm-tls; who waits for one accepts it. */
static bool needed_by_migration(enum sandbox_role role, int number)
{
	return number == SYS_connect && (role == SANDBOX_ROLE_JOB || role == SANDBOX_ROLE_MACHINE ||
					 role == SANDBOX_ROLE_TLS);
}

START_TEST(test_never)
{
	static const uint64_t args[] = { 0, 1, 2, 4, 0xffffffff, ~0ULL };

	for (size_t i = 0; i < ARRAY_SIZE(never); i++) {
		if (needed_by_main((enum sandbox_role)_i, never[i]) ||
		    needed_by_machine((enum sandbox_role)_i, never[i]) ||
		    needed_by_snapshots((enum sandbox_role)_i, never[i]) ||
		    needed_by_migration((enum sandbox_role)_i, never[i])) {
			continue;
		}
		for (size_t k = 0; k < ARRAY_SIZE(args); k++) {
			ck_assert_msg(!allows((enum sandbox_role)_i, AUDIT_ARCH_X86_64, never[i],
					      args[k], args[k]),
				      "role %s may call %s",
				      sandbox_role_name((enum sandbox_role)_i),
				      sandbox_syscall_names[never[i]]);
		}
	}
}
END_TEST

/* Sockets that are there: nobody says where to, nor asks from where. */
START_TEST(test_no_addresses)
{
	static const long calls[] = { SYS_sendto, SYS_recvfrom };
	enum sandbox_role role = (enum sandbox_role)_i;

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct seccomp_data data = { .nr = (int)calls[i], .arch = AUDIT_ARCH_X86_64 };

		ck_assert(allows_data(role, &data) || role != SANDBOX_ROLE_MAIN);
		data.args[4] = 0x7f0000001000;
		ck_assert_msg(!allows_data(role, &data), "role %s: %s", sandbox_role_name(role),
			      sandbox_syscall_names[calls[i]]);
		data.args[4] = 1ULL << 32;
		ck_assert(!allows_data(role, &data));
	}
}
END_TEST

/* The machine thread opens another file behind a disk, which neither makes nor cuts one, and makes its
 * ring. Main, which hears clients, may do neither, nor touch a vCPU. */
START_TEST(test_only_machine_opens)
{
	static const uint64_t making[] = { O_CREAT, O_TRUNC, O_TMPFILE };
	static const uint64_t opcodes[] = { 2, 4, 11 }; /* files, eventfd, restrictions */
	enum sandbox_role role = (enum sandbox_role)_i;
	bool machine = role == SANDBOX_ROLE_MACHINE;

	ck_assert_int_eq(allows(role, AUDIT_ARCH_X86_64, SYS_openat, 0, O_RDWR | O_CLOEXEC),
			 machine);
	ck_assert_int_eq(allows(role, AUDIT_ARCH_X86_64, SYS_openat, 0, O_RDONLY | O_CLOEXEC),
			 machine);
	ck_assert_int_eq(allows(role, AUDIT_ARCH_X86_64, SYS_io_uring_setup, 0, 0), machine);
	ck_assert_int_eq(allows(role, AUDIT_ARCH_X86_64, SYS_ioctl, KVM_SET_REGS, 0), machine);
	ck_assert_int_eq(allows(role, AUDIT_ARCH_X86_64, SYS_ioctl, KVM_GET_REGS, 0), machine);
	ck_assert_int_eq(allows(role, AUDIT_ARCH_X86_64, SYS_tgkill, 0, 0),
			 machine || role == SANDBOX_ROLE_MAIN || role == SANDBOX_ROLE_PAGER ||
				 role == SANDBOX_ROLE_PAGES);
	for (size_t i = 0; i < ARRAY_SIZE(making); i++) {
		ck_assert(!allows(role, AUDIT_ARCH_X86_64, SYS_openat, 0, O_RDWR | making[i]));
		ck_assert(!allows(role, AUDIT_ARCH_X86_64, SYS_openat, 0, making[i]));
	}
	for (uint64_t opcode = 0; opcode < 64; opcode++) {
		bool known = false;

		for (size_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
			known |= opcode == opcodes[i];
		}
		ck_assert_int_eq(allows(role, AUDIT_ARCH_X86_64, SYS_io_uring_register, opcode, 0),
				 (machine && known) ||
					 (opcode == 12 && (machine || role == SANDBOX_ROLE_BLOCK)));
	}
}
END_TEST

static bool allows_first(enum sandbox_role role, long number, uint64_t arg)
{
	return allows_data(role, &(struct seccomp_data){ .nr = (int)number,
							 .arch = AUDIT_ARCH_X86_64,
							 .args = { arg } });
}

/* Disks that go to another process: pages of their files are forgotten, and nothing else of that kind. */
START_TEST(test_only_machine_moves_disks)
{
	enum sandbox_role role = (enum sandbox_role)_i;
	bool machine = role == SANDBOX_ROLE_MACHINE;

	for (uint64_t advice = 0; advice < 16; advice++) {
		struct seccomp_data data = { .nr = SYS_fadvise64,
					     .arch = AUDIT_ARCH_X86_64,
					     .args = { 3, 0, 0, advice } };

		ck_assert_int_eq(allows_data(role, &data),
				 machine && advice == POSIX_FADV_DONTNEED);
	}
	/* Jobs write snapshots that way. */
	ck_assert_int_eq(
		allows_data(role,
			    &(struct seccomp_data){ .nr = SYS_sync_file_range,
						    .arch = AUDIT_ARCH_X86_64,
						    .args = { 3, 0, 0, SYNC_FILE_RANGE_WRITE } }),
		machine || role == SANDBOX_ROLE_JOB);
}
END_TEST

/* The machine thread makes threads, and neither a process nor a namespace; nobody else makes any. */
START_TEST(test_only_machine_spawns)
{
	const uint64_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND |
				CLONE_THREAD | CLONE_SETTLS | CLONE_PARENT_SETTID |
				CLONE_CHILD_CLEARTID;
	const struct seccomp_data clone3 = { .nr = SYS_clone3, .arch = AUDIT_ARCH_X86_64 };
	enum sandbox_role role = (enum sandbox_role)_i;
	bool machine = role == SANDBOX_ROLE_MACHINE;
	unsigned int options = 0;

	ck_assert_int_eq(allows_first(role, SYS_clone, thread), machine);
	for (unsigned int bit = 0; bit < 64; bit++) {
		ck_assert_msg(!allows_first(role, SYS_clone, thread ^ 1ULL << bit), "bit %u", bit);
	}
	ck_assert_int_eq(run_program(&sandbox_filters[role], &clone3) ==
				 (SECCOMP_RET_ERRNO | ENOSYS),
			 machine);
	ck_assert_int_eq(allows_first(role, SYS_seccomp, SECCOMP_SET_MODE_FILTER), machine);
	ck_assert(!allows_first(role, SYS_seccomp, SECCOMP_SET_MODE_STRICT));
	ck_assert(!allows_first(role, SYS_seccomp, SECCOMP_GET_NOTIF_SIZES));
	for (uint64_t option = 0; option < 128; option++) {
		options += allows_first(role, SYS_prctl, option);
	}
	ck_assert_uint_le(options, machine ? 3 : 1);
}
END_TEST

START_TEST(test_foreign_architectures)
{
	enum sandbox_role role = (enum sandbox_role)_i;

	for (long number = 0; number < 1024; number++) {
		ck_assert(!allows(role, AUDIT_ARCH_I386, number, 0, 0));
		ck_assert(!allows(role, AUDIT_ARCH_AARCH64, number, 0, 0));
		/* The x32 numbers of the same architecture. */
		ck_assert(!allows(role, AUDIT_ARCH_X86_64, number | 0x40000000, 0, 0));
	}
	for (long number = SANDBOX_SYSCALL_NAMES; number < 4096; number++) {
		ck_assert(!allows(role, AUDIT_ARCH_X86_64, number, 0, 0));
	}
}
END_TEST

/* ioctl requests that are allowed anywhere: those of KVM while it runs, the terminal and tap;
 * nothing that creates. */
START_TEST(test_ioctls)
{
	enum sandbox_role role = (enum sandbox_role)_i;
	static const unsigned long creating[] = {
		KVM_CREATE_VM,	       KVM_CREATE_VCPU,		  KVM_CREATE_DEVICE, TIOCSTI,
		KVM_ASSIGN_PCI_DEVICE, KVM_SET_IDENTITY_MAP_ADDR, TIOCSCTTY,
	};
	/* What a disk or card that comes while the guest runs is made with. */
	static const unsigned long plugging[] = { KVM_SET_USER_MEMORY_REGION, KVM_IRQFD, TUNSETIFF,
						  TUNSETVNETHDRSZ, SIOCGIFMTU };
	/* Interrupts and doorbells of PCI functions move with their registers. */
	static const unsigned long moving[] = { KVM_IOEVENTFD, KVM_SET_GSI_ROUTING };
	size_t count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(creating); i++) {
		ck_assert_msg(!allows(role, AUDIT_ARCH_X86_64, SYS_ioctl, creating[i], 0),
			      "role %s: ioctl 0x%lx", sandbox_role_name(role), creating[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(moving); i++) {
		ck_assert_int_eq(allows(role, AUDIT_ARCH_X86_64, SYS_ioctl, moving[i], 0),
				 role == SANDBOX_ROLE_VCPU || role == SANDBOX_ROLE_MACHINE);
	}
	for (size_t i = 0; i < ARRAY_SIZE(plugging); i++) {
		ck_assert_int_eq(allows(role, AUDIT_ARCH_X86_64, SYS_ioctl, plugging[i], 0),
				 role == SANDBOX_ROLE_MACHINE);
	}
	/* All of KVM's with every size, and all terminal requests. */
	for (uint64_t nr = 0; nr < 256; nr++) {
		count += allows(role, AUDIT_ARCH_X86_64, SYS_ioctl, 0x5400 | nr, 0);
		count += allows(role, AUDIT_ARCH_X86_64, SYS_ioctl, (unsigned long)_IO(KVMIO, nr),
				0);
	}
	ck_assert_uint_le(count, 12);
	ck_assert_int_eq(allows(role, AUDIT_ARCH_X86_64, SYS_ioctl, KVM_RUN, 0),
			 role == SANDBOX_ROLE_VCPU);
}
END_TEST

START_TEST(test_no_executable_memory)
{
	enum sandbox_role role = (enum sandbox_role)_i;

	for (uint64_t prot = 0; prot < 16; prot++) {
		if ((prot & PROT_EXEC) != 0) {
			ck_assert(!allows(role, AUDIT_ARCH_X86_64, SYS_mmap, 4096, prot));
			ck_assert(!allows(role, AUDIT_ARCH_X86_64, SYS_mprotect, 4096, prot));
		}
	}
}
END_TEST

START_TEST(test_size)
{
	enum sandbox_role role = (enum sandbox_role)_i;
	size_t allowed = 0;

	for (long number = 0; number < SANDBOX_SYSCALL_NAMES; number++) {
		allowed += allows(role, AUDIT_ARCH_X86_64, number, 0, 0);
	}
	/* Enough to end, few enough to be a sandbox. */
	ck_assert(allows(role, AUDIT_ARCH_X86_64, SYS_exit_group, 0, 0));
	ck_assert(allows(role, AUDIT_ARCH_X86_64, SYS_write, 0, 0));
	ck_assert(allows(role, AUDIT_ARCH_X86_64, SYS_futex, 0, 0));
	/* That of the machine thread has those of all whose threads it starts. */
	ck_assert_msg(allowed <= (role == SANDBOX_ROLE_MACHINE ? 65 : 45),
		      "role %s allows %zu calls", sandbox_role_name(role), allowed);
	ck_assert_str_ne(sandbox_role_name(role), "unknown");
}
END_TEST

CHECK_MAIN("sandbox", CHECK_LOOP(test_forbidden, SANDBOX_ROLES *ARRAY_SIZE(forbidden));
	   CHECK_LOOP(test_log_mode, SANDBOX_ROLES *ARRAY_SIZE(forbidden)); CHECK_TEST(test_off);
	   CHECK_LOOP(test_allowed, SANDBOX_ROLES); CHECK_TEST(test_status);
	   CHECK_LOOP(test_never, SANDBOX_ROLES); CHECK_LOOP(test_no_addresses, SANDBOX_ROLES);
	   CHECK_LOOP(test_only_machine_opens, SANDBOX_ROLES);
	   CHECK_LOOP(test_only_machine_moves_disks, SANDBOX_ROLES);
	   CHECK_LOOP(test_only_machine_spawns, SANDBOX_ROLES);
	   CHECK_LOOP(test_foreign_architectures, SANDBOX_ROLES);
	   CHECK_LOOP(test_ioctls, SANDBOX_ROLES);
	   CHECK_LOOP(test_no_executable_memory, SANDBOX_ROLES);
	   CHECK_LOOP(test_size, SANDBOX_ROLES))
