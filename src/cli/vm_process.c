// SPDX-License-Identifier: Apache-2.0
/*
 * See vm_process.h. Everything here runs on main. The order of the start is that of design.md: what
 * needs a privilege or a path is opened first, the process enters its sandbox inside the instance's
 * start, main's filter comes last. What the end does is allowed by that filter.
 *
 * The guest controls when the VM ends and why; clients of the API what the instance lets them.
 */
#include "vm_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "disk_holder.h"
#include "end_words.h"
#include "exit_codes.h"
#include "exit_report.h"
#include "guest_watch.h"
#include "signals.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/trim.h"

LOG_DOMAIN("run");

/* Clients of the API and of the console, and what the process has besides. */
#define SOURCES_MAX (HTTP_CONNECTIONS_MAX + CONSOLE_HUB_CLIENTS + 32)

/* By then the start is over, also that of the workers. */
#define TRIM_AFTER_NS 100000000ULL

/* For answers and console output on their way when the VM has ended. */
#define LAST_WORDS_MS 500

static bool has_directory(const struct vm_process *process)
{
	return process->directory.fd >= 0;
}

static struct vm *running_vm(const struct vm_process *process)
{
	return process->instance != NULL ? instance_vm(process->instance) : NULL;
}

/* In reports. */
static const char *vm_name(const struct vm_process *process)
{
	return has_directory(process)	      ? process->directory.name
	       : process->config.name != NULL ? process->config.name
					      : "vm";
}

static int exit_code(const struct vm_process *process, const char **reason)
{
	static const int codes[] = {
		[VM_STOP_POWER_OFF] = EXIT_OK,	  [VM_STOP_REBOOT] = EXIT_REBOOT,
		[VM_STOP_PANIC] = EXIT_PANIC,	  [VM_STOP_TRIPLE_FAULT] = EXIT_TRIPLE_FAULT,
		[VM_STOP_ERROR] = EXIT_VMM_ERROR, [VM_STOP_BOOT_LOOP] = EXIT_BOOT_LOOP,
		[VM_STOP_MOVED] = EXIT_OK,
	};

	if (process->timed_out) {
		*reason = "timeout";
		return EXIT_TIMED_OUT;
	}
	*reason = stop_reason_name(process->stop.reason);
	switch (process->stop.reason) {
	case VM_STOP_DEBUG_EXIT:
		return process->stop.code;
	case VM_STOP_NONE: /* a signal came before the start */
	case VM_STOP_REQUESTED:
		*reason = process->signal != 0 ? "signal" : "stopped";
		return EXIT_SIGNAL_BASE + (process->signal != 0 ? process->signal : SIGKILL);
	default:
		return codes[process->stop.reason];
	}
}

static void write_reports(struct vm_process *process, const struct exit_report *report)
{
	struct error e = { 0 };

	process->code = report->exit_code;

	for (size_t i = 0; i < ARRAY_SIZE(process->crash.report_fds); i++) {
		int fd = process->crash.report_fds[i];

		if (fd >= 0 && exit_report_write(fd, report, &e) < 0) {
			log_error_object(&e);
			process->code = process->code == EXIT_OK ? EXIT_VMM_ERROR : process->code;
		}
	}
}

/* Once: of a VM as it ends, before anybody hears that it has; of a process that has had none, at the process's own end. */
static void report_end(struct vm_process *process, const struct error *failure)
{
	struct exit_report report = { .name = vm_name(process), .error = failure };
	struct vm *vm = running_vm(process);

	if (failure != NULL) {
		const bool loop = process->stop.reason == VM_STOP_BOOT_LOOP;

		report.reason = loop ? "boot-loop" : "error";
		report.exit_code = loop				  ? EXIT_BOOT_LOOP
				   : failure->code == ERROR_USAGE ? EXIT_USAGE
								  : EXIT_VMM_ERROR;
	} else {
		report.exit_code = exit_code(process, &report.reason);
	}
	if (vm != NULL) {
		report.uptime_ns = instance_uptime_ns(process->instance);
		vm_stats(vm, &report.stats);
	}
	crash_unwatch();
	write_reports(process, &report);
	process->report = report;
	process->reported = true;
}

/* NULL: the VM has ended as VMs do. */
static const struct error *stop_failure(const struct vm_stop *stop)
{
	return stop->reason == VM_STOP_ERROR || stop->reason == VM_STOP_BOOT_LOOP ? &stop->error
										  : NULL;
}

static void ended(struct instance_host *host, const struct vm_stop *stop)
{
	struct vm_process *process = container_of(host, struct vm_process, host);

	process->stop = *stop;
	report_end(process, stop_failure(&process->stop));
	loop_stop(&process->loop);
}

int vm_process_request(struct vm_process *process, enum request_type type, const char *id,
		       const void *object, struct error *e)
{
	const struct request request = { .type = type, .id = id, .object = object };

	return instance_request_now(process->instance, &request, NULL, e);
}

static int act(struct vm_process *process, enum action_type type, struct error *e)
{
	const struct action action = { .type = type };

	return vm_process_request(process, REQUEST_PUT_ACTION, NULL, &action, e);
}

static void stop_now(struct vm_process *process)
{
	/* A VM that cannot be stopped has not been started, or has ended. */
	if (act(process, ACTION_STOP, NULL) < 0) {
		loop_stop(&process->loop);
	}
}

void vm_process_timeout(struct loop_timer *timer)
{
	struct vm_process *process = container_of(timer, struct vm_process, timeout);

	process->timed_out = true;
	stop_now(process);
}

static void trim(struct loop_timer *timer)
{
	(void)timer;
	trim_program_text();
}

static void stop_timeout_expired(struct loop_timer *timer)
{
	struct vm_process *process = container_of(timer, struct vm_process, stop_timeout);

	log_warn("the guest has not powered off in time: stopped");
	stop_now(process);
}

static void asked_to_end(struct vm_process *process, int signal_number, bool at_once)
{
	bool again = process->signal != 0;

	if (!again) {
		process->signal = signal_number;
	}
	notify_send(&process->notify, "STOPPING=1");
	if (again || at_once || act(process, ACTION_POWER_BUTTON, NULL) < 0) {
		stop_now(process);
		return;
	}
	loop_timer_set(&process->loop, &process->stop_timeout,
		       process->config.settings.process.stop_timeout_ns, stop_timeout_expired);
}

static void update_window(struct vm_process *process)
{
	struct vm *vm = running_vm(process);
	unsigned short columns;
	unsigned short rows;

	if (vm != NULL && process->terminal.present && terminal_window_size(&columns, &rows)) {
		vm_console_resize(vm, columns, rows);
	}
}

/* Of no use here, but it came. */
static void note_signal(struct vm_process *process, const struct signalfd_siginfo *info)
{
	int number = (int)info->ssi_signo;
	char buf[SIGNAL_NAME_SIZE];

	if (number == SIGPIPE) {
		instance_count_sigpipe(process->instance);
		log_guest(LOG_ERROR, "Received signal %d, code %d.", number, info->ssi_code);
	} else {
		log_guest(LOG_WARN, "%s from process %u: has no use here, the VM goes on",
			  signal_name(number, buf), info->ssi_pid);
	}
}

static void signal_arrived(struct loop_source *source, uint32_t events)
{
	struct vm_process *process = container_of(source, struct vm_process, signals);
	struct signalfd_siginfo info;
	int number;

	(void)events;
	if (read(process->signal_fd, &info, sizeof(info)) != sizeof(info)) {
		return;
	}
	number = (int)info.ssi_signo;
	switch (signal_meaning(number, process->config.instance.firecracker)) {
	case SIGNAL_WINDOW:
		update_window(process);
		break;
	case SIGNAL_ASK:
		asked_to_end(process, number, false);
		break;
	case SIGNAL_REOPEN:
		instance_reopen_outputs(process->instance);
		break;
	case SIGNAL_STOP:
		if (process->config.instance.firecracker) {
			log_error("Shutting down VM after intercepting signal %d, code %d.", number,
				  info.ssi_code);
		}
		asked_to_end(process, number, true);
		break;
	default:
		note_signal(process, &info);
		break;
	}
}

/* Before any thread exists: all inherit the mask. */
static int watch_signals(struct vm_process *process, struct error *e)
{
	int r = signals_watch(process->config.instance.firecracker, &process->signal_fd, e);

	if (r < 0) {
		return r;
	}
	process->crash.name = vm_name(process);
	process->crash.firecracker = process->config.instance.firecracker;
	crash_watch(&process->crash);
	return loop_source_add(&process->loop, &process->signals, process->signal_fd, EPOLLIN,
			       signal_arrived, e);
}

static size_t deliver(struct vm_process *process, const uint8_t *data, size_t len)
{
	struct vm *vm = running_vm(process);

	if (vm == NULL) {
		return 0;
	}
	return process->config.console == RUN_CONSOLE_HVC ? vm_hvc_input(vm, data, len)
							  : vm_serial_input(vm, data, len);
}

static size_t deliver_typed(struct stdio_console *console, const uint8_t *data, size_t len)
{
	return deliver(console->owner, data, len);
}

static size_t deliver_sent(void *arg, const uint8_t *data, size_t len)
{
	return deliver(arg, data, len);
}

static void writable(struct stdio_console *console)
{
	struct vm *vm = running_vm(console->owner);

	if (vm != NULL) {
		vm_hvc_output_ready(vm);
	}
}

static void command(struct stdio_console *console, enum escape_command escape)
{
	static const enum action_type actions[] = {
		[ESCAPE_POWER_BUTTON] = ACTION_POWER_BUTTON,
		[ESCAPE_STOP] = ACTION_STOP,
		[ESCAPE_CTRL_ALT_DEL] = ACTION_SEND_CTRL_ALT_DEL,
		[ESCAPE_RESET] = ACTION_RESET,
	};
	struct vm_process *process = console->owner;
	struct error e = { 0 };

	/* What has stopped the VM is said at its end. */
	if (act(process, actions[escape], &e) < 0 &&
	    instance_state(process->instance) != INSTANCE_ENDED) {
		log_error_object(&e);
	}
}

static int open_stdio(struct vm_process *process, struct error *e)
{
	int r = stdio_console_init(&process->console, &process->loop, process->terminal.present, e);

	if (r < 0) {
		return r;
	}
	process->console_ready = true;
	process->console.deliver = deliver_typed;
	process->console.command = command;
	process->console.writable = writable;
	process->console.owner = process;
	return 0;
}

static int open_console(struct vm_process *process, struct error *e)
{
	struct console_hub_config config = {
		.loop = &process->loop,
		.deliver = deliver_sent,
		.arg = process,
	};
	int r = 0;

	if (process->config.stdio_output) {
		r = open_stdio(process, e);
		config.terminal = &process->console.channel;
	}
	return r == 0 ? console_hub_create(&process->hub, &config, e) : r;
}

static int open_directory(struct vm_process *process, struct error *e)
{
	struct error why = { 0 };
	int r;

	if (!process->config.directory) {
		return 0;
	}
	if (process->config.kept && process->config.name != NULL && !process->config.defined) {
		r = vm_keep_check(process->config.name, e);
		if (r < 0) {
			return r;
		}
	}
	r = process->config.kept && process->config.name == NULL
		    ? run_directory_claim_undefined(&process->directory, &why)
		    : run_directory_claim(&process->directory, process->config.name, &why);
	if (r == 0) {
		return 0;
	}
	if (process->config.directory_optional && why.code != ERROR_EXISTS) {
		log_warn("no control socket: %s", why.msg);
		return 0;
	}
	*e = why;
	return r;
}

/* What is on standard input and output has to be in the machine. */
static int check_console(const struct vm_process *process, struct error *e)
{
	if (process->config.console != RUN_CONSOLE_HVC ||
	    instance_boot(process->instance).console) {
		return 0;
	}
	(void)error_set(e, ERROR_CONFIG, ENODEV,
			"--console hvc: the snapshot's machine has no virtio console");
	return error_hint(e, "its serial port is --console serial, which is the default");
}

static int prepare(struct instance_host *host, struct error *e)
{
	struct vm_process *process = container_of(host, struct vm_process, host);
	int r = check_console(process, e);

	if (r == 0 && process->config.doors_at_start) {
		r = vm_process_open_doors(process, e);
	}
	if (r == 0 && process->config.kept) {
		struct run_settings settings = process->config.settings;
		const struct vm_keep_what what = {
			.settings = &settings,
			.created = process->config.created,
			.definition_stays = process->config.definition_stays,
		};

		settings.debug_exit = instance_boot(process->instance).debug_exit;
		r = vm_keep_prepare(&process->keep, &process->directory, process->instance, &what,
				    e);
	}
	return r;
}

void vm_process_tell_started(struct vm_process *process)
{
	void (*started)(struct vm_process * process) = process->started;

	if (process->must_arrive) {
		return;
	}
	process->started = NULL;
	if (started != NULL) {
		started(process);
	}
}

static void settled(void *arg)
{
	vm_process_tell_started(arg);
}

static void settle(struct instance_host *host)
{
	struct vm_process *process = container_of(host, struct vm_process, host);

	vm_keep_settle(&process->keep);
	loop_post(&process->loop, &process->settled);
}

static bool may_restart(struct instance_host *host, struct error *why)
{
	return guest_watch_may_restart(container_of(host, struct vm_process, host), why);
}

/* Who may never start a VM, or does it by a request, has its API answer sooner without a fork. */
static int starting(struct instance_host *host, struct error *e)
{
	return terminal_guard(&container_of(host, struct vm_process, host)->terminal, e);
}

/* The VM runs. */
static void vm_started(struct instance_host *host, const struct error *failure)
{
	struct vm_process *process = container_of(host, struct vm_process, host);
	struct error e = { 0 };
	bool paused;

	if (failure != NULL) {
		return;
	}
	paused = instance_state(process->instance) == INSTANCE_PAUSED;
	process->directory.keep = process->config.kept;
	if (process->config.settings.timeout_ns != 0) {
		loop_timer_set(&process->loop, &process->timeout,
			       process->config.settings.timeout_ns, vm_process_timeout);
	}
	loop_timer_set(&process->loop, &process->trim, TRIM_AFTER_NS, trim);
	guest_watch_begin(process);
	/* Of a start by request: vm_process_start() has done it already. */
	if (!process->terminal.raw && terminal_enter_raw(&process->terminal, &e) < 0) {
		log_error_object(&e);
	}
	update_window(process);
	console_hub_start(process->hub);
	if (process->console_ready && process->config.stdio_input &&
	    stdio_console_start(&process->console, &e) < 0) {
		log_error_object(&e);
	}
	if (!process->config.ready_when_listening) {
		notify_send(&process->notify, paused ? "READY=1\nSTATUS=The VM is paused"
						     : "READY=1\nSTATUS=The VM runs");
	}
	if (process->receives) {
		log_info("a VM comes");
	} else if (paused) {
		log_info("paused%s: vmm resume %s lets it go",
			 process->restored ? "" : " before the first instruction",
			 vm_name(process));
	}
	if (!process->config.kept) {
		vm_process_tell_started(process);
	}
}

/*
 * Which VM of this host it is, the same at every start: its directory's name among those of its user;
 * or its socket's place and its id, where Firecracker's clients have no names. NULL if nobody knows.
 */
static char *make_identity(const struct vm_process *process, const char *id)
{
	auto_free char *here = NULL;
	const char *socket = process->config.api_socket;
	char *identity = NULL;

	if (has_directory(process) || process->config.takes_over) {
		return asprintf(&identity, "name %s of user %u", vm_name(process),
				(unsigned int)geteuid()) < 0
			       ? NULL
			       : identity;
	}
	if (socket == NULL && process->config.instance.id == NULL) {
		return NULL;
	}
	if (socket != NULL && socket[0] != '/') {
		here = getcwd(NULL, 0);
	}
	return asprintf(&identity, "id %s at %s/%s", id, here != NULL ? here : "",
			socket != NULL ? socket : "") < 0
		       ? NULL
		       : identity;
}

static void explain(struct instance_host *host, struct error *e)
{
	const struct vm_process *process = container_of(host, struct vm_process, host);

	disk_holder_explain(e, process->restored
				       ? "or give it a copy of that moment: --disk ID=PATH, "
					 "or --disks-to FOLDER if the snapshot has one"
				       : "many can share a disk if all use it with ',ro'");
}

static int open_instance(struct vm_process *process, struct error *e)
{
	struct instance_settings settings = process->config.instance;
	struct console_channel *channel = console_hub_channel(process->hub);

	if (settings.id == NULL) {
		settings.id = vm_name(process);
	}
	process->identity = make_identity(process, settings.id);
	settings.identity = process->identity;
	process->host = (struct instance_host){
		.loop = &process->loop,
		.starting = starting,
		.prepare = prepare,
		.started = vm_started,
		.arrived = vm_process_arrived,
		.explain = explain,
		.settle = process->config.kept ? settle : NULL,
		.may_restart = may_restart,
		.ended = ended,
	};
	vm_process_share_place(process);
	if (process->config.console == RUN_CONSOLE_HVC) {
		process->host.hvc = channel;
	} else {
		process->host.serial = channel;
	}
	return instance_create(&process->instance, &settings, &process->host, e);
}

int vm_process_init(struct vm_process *process, const struct vm_process_config *config,
		    struct error *e)
{
	int r;

	*process = (struct vm_process){
		.config = *config,
		.terminal = { .guardian_fd = -1 },
		.directory = { .fd = -1, .lock_fd = -1 },
		.api_lock_fd = -1,
		.notify = { .fd = -1 },
		.signal_fd = -1,
		.crash = { .report_fds = { -1, -1 } },
		.keep = { .events_fd = -1, .directory_fd = -1 },
		.settled = { .run = settled, .arg = process },
	};
	for (int i = 0; i < INSTANCE_PLACES; i++) {
		process->place[i] = -1;
	}
	json_prepare();
	if (config->watch_terminal) {
		terminal_init(&process->terminal);
		r = config->ready_when_listening ? 0 : terminal_guard(&process->terminal, e);
		if (r < 0) {
			return r;
		}
	}
	r = loop_init_sized(&process->loop, SOURCES_MAX, e);
	if (r < 0) {
		return r;
	}
	process->loop_ready = true;
	if (config->settings.process.exit_report != NULL) {
		int fd = -1;

		r = exit_report_open(config->settings.process.exit_report, &fd, e);
		process->crash.report_fds[VM_PROCESS_REPORT_GIVEN] = fd;
	}
	if (r == 0) {
		r = notify_open(&process->notify, e);
	}
	if (r == 0) {
		r = open_directory(process, e);
	}
	if (r == 0) {
		r = watch_signals(process, e);
	}
	if (r == 0) {
		r = open_console(process, e);
	}
	if (r == 0) {
		r = open_instance(process, e);
	}
	if (r == 0 && config->prepare != NULL) {
		r = config->prepare(process, e);
	}
	if (r == 0 && !config->doors_at_start) {
		r = vm_process_open_doors(process, e);
	}
	if (r == 0 && config->ready_when_listening) {
		notify_send(&process->notify, "READY=1\nSTATUS=The API answers");
	}
	return r;
}

/* Before the guest says its first word. */
static int take_terminal(struct vm_process *process, struct error *e)
{
	int r = terminal_enter_raw(&process->terminal, e);

	if (r == 0 && process->terminal.raw && process->config.announce_escape) {
		log_info("Ctrl-] ? shows help");
	}
	return r;
}

int vm_process_start(struct vm_process *process, struct error *e)
{
	int r = take_terminal(process, e);

	return r == 0 ? instance_start_now(process->instance, process->config.settings.paused, e)
		      : r;
}

int vm_process_load(struct vm_process *process, const struct snapshot_load_request *request,
		    struct error *e)
{
	int r = take_terminal(process, e);

	process->restored = true;
	return r == 0 ? vm_process_request(process, REQUEST_PUT_SNAPSHOT_LOAD, NULL, request, e)
		      : r;
}

int vm_process_run(struct vm_process *process, struct error *e)
{
	int r = loop_run(&process->loop);

	if (r < 0) {
		return error_set_sys(e, ERROR_INTERNAL, -r, "event loop");
	}
	if (stop_failure(&process->stop) != NULL) {
		*e = process->stop.error;
		return -EIO;
	}
	return 0;
}

/* What no thread of the VM knows. */
static void close_doors(struct vm_process *process)
{
	if (process->api_socket_ours) {
		socket_release(process->config.api_socket, &process->api_lock_fd);
	}
	for (size_t i = 0; i < ARRAY_SIZE(process->crash.report_fds); i++) {
		int fd = process->crash.report_fds[i];

		process->crash.report_fds[i] = -1;
		close_fd(&fd);
	}
	run_directory_finish(&process->directory);
	notify_close(&process->notify);
	close_fd(&process->signal_fd);
}

int vm_process_finish(struct vm_process *process, const struct error *failure)
{
	/* The terminal first: whatever follows may print. */
	terminal_finish(&process->terminal);
	if (!process->reported) {
		report_end(process, failure);
	}
	if (failure != NULL) {
		log_error_object(failure);
	}
	end_words_say(process, &process->report);
	if (process->config.ending != NULL) {
		process->config.ending(process, failure, process->code);
	}
	vm_keep_events(&process->keep, process->instance);
	api_destroy(process->api);
	process->stuck = !instance_destroy(process->instance);
	/* It is settled by now, or will not be. */
	if (process->directory.keep) {
		vm_process_tell_started(process);
	}
	if (process->stuck) {
		console_hub_close(process->hub, LAST_WORDS_MS);
		close_doors(process);
		return process->code;
	}
	if (process->stop.reason == VM_STOP_MOVED && !process->left) {
		vm_keep_forget(&process->keep);
	}
	free(take_ptr(process->identity));
	vm_keep_finish(&process->keep);
	console_hub_destroy(process->hub, LAST_WORDS_MS);
	if (process->console_ready) {
		stdio_console_finish(&process->console);
	}
	close_doors(process);
	if (process->loop_ready) {
		loop_finish(&process->loop);
	}
	return process->code;
}
