// SPDX-License-Identifier: Apache-2.0
/*
 * vmm console: attaches standard input and output to the console of a VM that runs elsewhere.
 *
 * Bytes go over the console's socket in the VM's directory, everything else (power button, window
 * size, state) over its API, a connection for each. The terminal is raw only in this process, which
 * puts it back on every way out.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"
#include "client.h"
#include "command.h"
#include "end_report.h"
#include "exit_codes.h"
#include "vm_status.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/run_directory.h"

LOG_DOMAIN("console");

/* The user waits at a terminal meanwhile. */
#define ACTION_TIMEOUT_MS 3000
/* From the end of the console to that of the VM. */
#define END_TIMEOUT_MS 3000
#define LOOK_MS	       20
#define MS_PER_S       1000

struct console {
	const char *escape;
	bool help;
	bool interactive; /* standard input is a terminal */
	const char *name;
	int dir_fd, report_fd, socket_fd;
	pid_t process; /* whose console it is; 0: not known */
	struct terminal terminal;
	struct attach attach;
};

static const struct option option_list[] = {
	{ .name = "escape",
	  .letter = 'e',
	  .type = OPTION_STRING,
	  .offset = offsetof(struct console, escape),
	  .argument = "KEY",
	  .fallback = "ctrl-]",
	  .help = "the key before commands, such as ctrl-a; none: every key is for the guest" },
	HELP_OPTION(struct console, help),
};
static const struct option_table table = OPTION_TABLE("console", option_list);

static int call(const struct console *console, const char *method, const char *path,
		const json_t *body, json_t **ret, struct error *e)
{
	return client_call_at(console->dir_fd, ACTION_TIMEOUT_MS, method, path, body, ret, e);
}

static void command(struct attach *attach, enum escape_command number)
{
	static const char *const actions[] = {
		[ESCAPE_POWER_BUTTON] = "PowerButton",
		[ESCAPE_STOP] = "Stop",
		[ESCAPE_CTRL_ALT_DEL] = "SendCtrlAltDel",
		[ESCAPE_RESET] = "Reset",
	};
	auto_json json_t *body = json_pack("{s:s}", "action_type", actions[number]);
	struct error e = { 0 };

	if (call(attach->owner, "PUT", "/actions", body, NULL, &e) < 0) {
		log_error_object(&e);
	}
}

/* A guest without a window, or one that has not been started, does not mind. */
static void resized(struct attach *attach, unsigned short columns, unsigned short rows)
{
	auto_json json_t *body =
		json_pack("{s:i, s:i}", "columns", (int)columns, "rows", (int)rows);

	(void)call(attach->owner, "PATCH", "/console", body, NULL, NULL);
}

static void silent(struct attach *attach)
{
	auto_json json_t *vm = NULL;
	struct vm_status status;

	if (call(attach->owner, "GET", "/vm", NULL, &vm, NULL) < 0) {
		log_info("no output yet, and the VM does not say what it does");
		return;
	}
	vm_status_read(&status, vm);
	log_info("no output yet (state %s, %llu s)", status.state,
		 (unsigned long long)status.uptime_ms / MS_PER_S);
}

static pid_t process_of(const struct console *console)
{
	auto_close int pidfd = -1;
	pid_t pid = 0;

	return run_directory_process(console->dir_fd, &pidfd, &pid, NULL) == 0 ? pid : 0;
}

/*
 * The VM goes on in another process (vmm upgrade), whose console is at the same place. What was typed and not taken yet is sent there.
 * One that has closed this console for another reason is the same process.
 */
static bool comes_back(struct console *console)
{
	struct attach *attach = &console->attach;

	for (int waited = 0; waited < END_TIMEOUT_MS; waited += LOOK_MS) {
		pid_t now = process_of(console);
		int fd = -1;

		if (console->process != 0 && now != 0 && now != console->process &&
		    run_directory_connect(console->dir_fd, "console.sock", &fd, NULL) == 0) {
			close_fd(&console->socket_fd);
			console->socket_fd = attach->socket_fd = fd;
			console->process = now;
			attach->output_ended = attach->input_told = false;
			return true;
		}
		if (run_directory_wait(console->dir_fd, LOOK_MS, NULL) == 0) {
			return false;
		}
	}
	return false;
}

static int open_console(struct console *console, struct error *e)
{
	bool alive;
	int r = run_directory_find(console->name, &console->dir_fd, &alive, e);

	if (r == 0 && !alive) {
		r = error_set(e, ERROR_NOT_FOUND, ESRCH, "VM '%s' has ended", console->name);
		(void)error_hint(e, "vmm logs %s shows what it said", console->name);
	}
	if (r == 0) {
		/* Now: the VM may take it along. */
		console->report_fd = end_report_open(console->dir_fd);
		console->process = process_of(console);
		r = run_directory_connect(console->dir_fd, "console.sock", &console->socket_fd, e);
	}
	if (r == 0) {
		terminal_init(&console->terminal);
		r = terminal_guard(&console->terminal, e);
	}
	return r;
}

/* The console is closed: with the VM, or not. */
static int say_end(const struct console *console, struct error *e)
{
	auto_json json_t *root = NULL;
	struct end_report report;

	if (run_directory_wait(console->dir_fd, END_TIMEOUT_MS, NULL) < 0) {
		(void)error_set(e, ERROR_CONSOLE, EPIPE,
				"VM '%s' has closed this console, but has not ended",
				console->name);
		return error_hint(e, "vmm console %s attaches again", console->name);
	}
	root = end_report_load(console->report_fd);
	end_report_take(&report, root);
	if (!console->interactive) {
		return 0;
	}
	if (report.reason[0] != '\0') {
		log_info("VM '%s' has ended: %s, exit code %d", console->name, report.reason,
			 report.exit_code);
	} else {
		log_info("VM '%s' has ended", console->name);
	}
	return 0;
}

static int attach_user(struct console *console, int *code, struct error *e)
{
	struct attach *attach = &console->attach;
	enum attach_end end = ATTACH_CLOSED;
	char key[8];
	int r;

	attach->socket_fd = console->socket_fd;
	attach->terminal = &console->terminal;
	attach->owner = console;
	attach->command = command;
	attach->resized = resized;
	attach->silent = silent;
	console->interactive = console->terminal.present;
	if (!console->interactive) {
		attach->escape.key = ESCAPE_KEY_NONE;
	} else if (attach->escape.key != ESCAPE_KEY_NONE) {
		escape_key_name(attach->escape.key, key);
		log_info("attached to '%s'; %s d detaches, %s ? shows help", console->name, key,
			 key);
	}
	r = terminal_enter_raw(&console->terminal, e);
	if (r == 0) {
		r = attach_run(attach, &end, e);
	}
	while (r == 0 && end == ATTACH_CLOSED && comes_back(console)) {
		r = attach_run(attach, &end, e);
	}
	/* The terminal first: whatever follows prints. */
	terminal_finish(&console->terminal);
	if (r < 0) {
		return r;
	}
	if (console->interactive) {
		(void)!write(STDERR_FILENO, "\n", 1);
	}
	switch (end) {
	case ATTACH_CLOSED:
		return say_end(console, e);
	case ATTACH_DETACHED:
		log_info("detached; vmm console %s comes back", console->name);
		return 0;
	case ATTACH_OUTPUT_GONE:
		*code = EXIT_SIGNAL_BASE + SIGPIPE;
		return 0;
	default:
		*code = EXIT_SIGNAL_BASE + attach->signal;
		return 0;
	}
}

static int run(int argc, char **argv)
{
	struct console console = { .dir_fd = -1,
				   .report_fd = -1,
				   .socket_fd = -1,
				   .terminal = { .guardian_fd = -1 },
				   .attach = { .signal_fd = -1 } };
	struct error e = { 0 };
	int code, r;

	if (command_parse_exactly(&command_console, &console, &console.help, 1, 1, argc, argv,
				  &code) < 0) {
		return code;
	}
	console.name = argv[1];
	code = EXIT_OK;
	r = escape_parse_key(console.escape, &console.attach.escape.key, &e);
	if (r == 0) {
		r = open_console(&console, &e);
	}
	if (r == 0) {
		r = attach_user(&console, &code, &e);
	}
	terminal_finish(&console.terminal);
	close_fd(&console.socket_fd);
	close_fd(&console.report_fd);
	close_fd(&console.dir_fd);
	return r < 0 ? command_fail(&e) : code;
}

static const struct command_example examples[] = {
	{ "vmm console web", "come to the VM; leave it with Ctrl-] d" },
	{ "vmm console --escape ctrl-a web", "for a guest in which Ctrl-] is needed" },
	{ "echo uptime | vmm console web", "type a line, print what comes until the VM ends" },
	{ NULL, NULL },
};

const struct command command_console = {
	.name = "console",
	.operands = " NAME",
	.help = "attach to the console of a VM",
	.options = &table,
	.run = run,
	.description =
		"Connects standard input and output to the console of a VM. What the guest said "
		"last is shown first. Any number of users may be attached, all see the same, and "
		"what they type arrives in the order in which they type it. The guest's window "
		"gets the size of the terminal that changed last.\n\n"
		"On a terminal, Ctrl-] begins a command: d detaches, q presses the power button, k "
		"stops the VM at once, r resets the machine, c sends Ctrl-Alt-Del, ? shows this "
		"list, and Ctrl-] once more sends Ctrl-] itself. Without a second key within a "
		"second, Ctrl-] is for the guest, too.\n\n"
		"If standard input is no terminal, every byte is for the guest, and after its end "
		"the output goes on until the VM ends.",
	.examples = examples,
	.exits = "0 detached, or the VM has ended",
};
