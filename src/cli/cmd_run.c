// SPDX-License-Identifier: Apache-2.0
/*
 * vmm run: boots a VM with its console on standard input and output, and ends when the guest does.
 *
 * Main's loop hears of: signals (signalfd), the console, timers, and the VM's end. SIGTERM, SIGINT
 * and SIGHUP press the power button; a second one, or the end of --stop-timeout, stops the VM at
 * once. Order of a start: everything is opened, the process enters the sandbox, threads start and
 * enter theirs, main enters its own, the guest runs.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "command.h"
#include "exit_codes.h"
#include "exit_report.h"
#include "run_config.h"
#include "stdio_console.h"
#include "terminal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/loop.h"
#include "vmm/trim.h"
#include "vmm/vm.h"

LOG_DOMAIN("run");

struct run {
	struct run_config config;
	struct loop loop;
	bool loop_ready;
	struct terminal terminal;
	struct stdio_console console;
	bool console_ready;
	struct vm_host host;
	struct vm *vm;
	int signal_fd, report_fd;
	struct loop_source signals;
	struct loop_timer timeout, stop_timeout, trim;
	uint64_t started_ns;

	/* How it ended. */
	bool timed_out;
	int signal; /* that began the end; 0: none */
	struct vm_stop stop;
};

static void stopped(struct vm_host *host, const struct vm_stop *stop)
{
	struct run *run = container_of(host, struct run, host);

	run->stop = *stop;
	loop_stop(&run->loop);
}

static void timeout_expired(struct loop_timer *timer)
{
	struct run *run = container_of(timer, struct run, timeout);

	run->timed_out = true;
	vm_stop(run->vm);
}

/* By then the start is over, also that of the workers. */
#define TRIM_AFTER_NS 100000000ULL

static void trim(struct loop_timer *timer)
{
	(void)timer;
	trim_program_text();
}

static void stop_timeout_expired(struct loop_timer *timer)
{
	struct run *run = container_of(timer, struct run, stop_timeout);

	log_warn("the guest has not powered off in time: stopped");
	vm_stop(run->vm);
}

static void press_power_button(struct run *run)
{
	struct error e = { 0 };

	if (vm_press_power_button(run->vm, &e) < 0) {
		vm_stop(run->vm);
		return;
	}
	loop_timer_set(&run->loop, &run->stop_timeout, run->config.stop_timeout_ns,
		       stop_timeout_expired);
}

static void asked_to_end(struct run *run, int signal_number)
{
	if (run->signal != 0) {
		vm_stop(run->vm);
		return;
	}
	run->signal = signal_number;
	press_power_button(run);
}

static void update_window(struct run *run)
{
	unsigned short columns;
	unsigned short rows;

	if (terminal_window_size(&columns, &rows)) {
		vm_console_resize(run->vm, columns, rows);
	}
}

static void signal_arrived(struct loop_source *source, uint32_t events)
{
	struct run *run = container_of(source, struct run, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(run->signal_fd, &info, sizeof(info)) != sizeof(info)) {
		return;
	}
	if (info.ssi_signo == SIGWINCH) {
		update_window(run);
	} else {
		asked_to_end(run, (int)info.ssi_signo);
	}
}

static size_t deliver(struct stdio_console *console, const uint8_t *data, size_t len)
{
	const struct run *run = console->owner;

	if (run->config.console == RUN_CONSOLE_HVC) {
		return vm_hvc_input(run->vm, data, len);
	}
	return vm_serial_input(run->vm, data, len);
}

static void writable(struct stdio_console *console)
{
	const struct run *run = console->owner;

	if (run->vm != NULL) {
		vm_hvc_output_ready(run->vm);
	}
}

static void command(struct stdio_console *console, enum escape_command escape)
{
	struct run *run = console->owner;
	struct error e = { 0 };
	int r = 0;

	switch (escape) {
	case ESCAPE_POWER_BUTTON:
		r = vm_press_power_button(run->vm, &e);
		break;
	case ESCAPE_STOP:
		vm_stop(run->vm);
		break;
	case ESCAPE_CTRL_ALT_DEL:
		r = vm_press_ctrl_alt_del(run->vm, &e);
		break;
	case ESCAPE_RESET:
		r = vm_reset(run->vm, &e);
		break;
	}
	/* What has stopped the VM is said at its end. */
	if (r < 0 && vm_state(run->vm) != VM_STOPPED) {
		log_error_object(&e);
	}
}

/* Before any thread exists: all inherit the mask. */
static int watch_signals(struct run *run, struct error *e)
{
	sigset_t set;

	(void)signal(SIGXFSZ, SIG_IGN);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGWINCH);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	run->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (run->signal_fd < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "signalfd");
	}
	return loop_source_add(&run->loop, &run->signals, run->signal_fd, EPOLLIN, signal_arrived,
			       e);
}

static int open_host(struct run *run, struct error *e)
{
	int r = terminal_init(&run->terminal, e);

	if (r < 0) {
		return r;
	}
	r = loop_init(&run->loop, e);
	if (r < 0) {
		return r;
	}
	run->loop_ready = true;
	if (run->config.exit_report != NULL) {
		r = exit_report_open(run->config.exit_report, &run->report_fd, e);
		if (r < 0) {
			return r;
		}
	}
	r = stdio_console_init(&run->console, &run->loop, run->terminal.present, e);
	if (r < 0) {
		return r;
	}
	run->console_ready = true;
	run->console.deliver = deliver;
	run->console.command = command;
	run->console.writable = writable;
	run->console.owner = run;
	run->host = (struct vm_host){ .loop = &run->loop, .stopped = stopped };
	if (run->config.console == RUN_CONSOLE_HVC) {
		run->host.hvc = &run->console.channel;
	} else {
		run->host.serial = &run->console.channel;
	}
	return watch_signals(run, e);
}

static int start(struct run *run, struct error *e)
{
	int r = open_host(run, e);

	if (r == 0) {
		r = vm_create(&run->vm, &run->config.vm, &run->host, e);
	}
	if (r == 0) {
		r = terminal_enter_raw(&run->terminal, e);
	}
	if (r == 0) {
		r = sandbox_enter_process(run->config.vm.sandbox, e);
	}
	if (r < 0) {
		return r;
	}
	if (run->config.timeout_ns != 0) {
		loop_timer_set(&run->loop, &run->timeout, run->config.timeout_ns, timeout_expired);
	}
	run->started_ns = loop_now_ns();
	r = vm_start(run->vm, e);
	if (r < 0) {
		return r;
	}
	if (run->terminal.raw && !run->config.quiet) {
		log_info("Ctrl-] ? shows help");
	}
	update_window(run);
	r = stdio_console_start(&run->console, e);
	loop_timer_set(&run->loop, &run->trim, TRIM_AFTER_NS, trim);
	return r;
}

static int exit_code(const struct run *run, const char **reason)
{
	if (run->timed_out) {
		*reason = "timeout";
		return EXIT_TIMED_OUT;
	}
	switch (run->stop.reason) {
	case VM_STOP_POWER_OFF:
		*reason = "power-off";
		return EXIT_OK;
	case VM_STOP_REBOOT:
		*reason = "reboot";
		return EXIT_REBOOT;
	case VM_STOP_PANIC:
		*reason = "panic";
		return EXIT_PANIC;
	case VM_STOP_TRIPLE_FAULT:
		*reason = "triple-fault";
		return EXIT_TRIPLE_FAULT;
	case VM_STOP_DEBUG_EXIT:
		*reason = "debug-exit";
		return run->stop.code;
	case VM_STOP_REQUESTED:
		*reason = run->signal != 0 ? "signal" : "stopped";
		return EXIT_SIGNAL_BASE + (run->signal != 0 ? run->signal : SIGKILL);
	default:
		*reason = "error";
		return EXIT_VMM_ERROR;
	}
}

static int report_end(struct run *run, const struct error *failure)
{
	struct exit_report report = {
		.name = run->config.vm.name != NULL ? run->config.vm.name : "vm",
		.error = failure,
	};
	struct error e = { 0 };

	if (failure != NULL) {
		report.reason = "error";
		report.exit_code = failure->code == ERROR_USAGE ? EXIT_USAGE : EXIT_VMM_ERROR;
		log_error_object(failure);
	} else {
		report.exit_code = exit_code(run, &report.reason);
	}
	if (run->started_ns != 0) {
		report.uptime_ns = loop_now_ns() - run->started_ns;
		vm_stats(run->vm, &report.stats);
	}
	if (run->report_fd >= 0 && exit_report_write(run->report_fd, &report, &e) < 0) {
		log_error_object(&e);
		return report.exit_code == EXIT_OK ? EXIT_VMM_ERROR : report.exit_code;
	}
	return report.exit_code;
}

static void finish(struct run *run)
{
	vm_destroy(run->vm);
	if (run->console_ready) {
		stdio_console_finish(&run->console);
	}
	close_fd(&run->report_fd);
	close_fd(&run->signal_fd);
	if (run->loop_ready) {
		loop_finish(&run->loop);
	}
	run_config_finish(&run->config);
}

static int boot(struct run *run)
{
	struct error e = { 0 };
	int code;
	int r = start(run, &e);

	if (r == 0) {
		r = loop_run(&run->loop);
		if (r < 0) {
			(void)error_set_sys(&e, ERROR_INTERNAL, -r, "event loop");
		} else if (run->stop.reason == VM_STOP_ERROR) {
			e = run->stop.error;
			r = -EIO;
		}
	}
	/* The terminal first: whatever follows may print. */
	terminal_finish(&run->terminal);
	code = report_end(run, r < 0 ? &e : NULL);
	finish(run);
	return code;
}

static int run_command(int argc, char **argv)
{
	struct run run = { .signal_fd = -1, .report_fd = -1, .terminal = { .guardian_fd = -1 } };
	struct error e = { 0 };
	int r = run_config_parse(&run.config, argc, argv, &e);

	if (r < 0) {
		run_config_finish(&run.config);
		return command_fail(&e);
	}
	if (run.config.help) {
		command_print_help(&command_run);
		run_config_finish(&run.config);
		return EXIT_OK;
	}
	log_init(run.config.quiet ? LOG_ERROR : LOG_INFO, STDERR_FILENO);
	return boot(&run);
}

const struct command command_run = {
	.name = "run",
	.operands = "",
	.help = "boot a VM with its console on standard input and output",
	.options = &run_options,
	.run = run_command,
};
