// SPDX-License-Identifier: Apache-2.0
/*
 * vmm fork: children of a VM that goes on running, each as it was at one moment. A composition: the VM is
 * saved live into a directory of memory beside its own (the runtime directory is a tmpfs), with its disks copied in the
 * same moment, and each child is a `vmm restore` of that in a fresh process. They map the one memory file privately, so
 * what none of them writes they share; when all run the file has no name any more, and goes with the last of them.
 *
 * Their processes are started before that, as many as go at once, and have by then what any restore needs.
 *
 * Where the VM can do it they begin while its memory is still copied (vmm/snapshot.h, snapshot_writer_publish()); until the copy is whole they
 * need the VM, so this waits for that, unless it is told not to.
 *
 * Disks of a child: of one with an overlay a copy of the overlay, over the same base; of another one a reflink, and a
 * copy of all of it only if asked for, because the VM stands still meanwhile. Copies for the second child and on are made
 * here, of the first one's, before it runs. They lie beside the disk as DISK.CHILD. A failure removes what was made, but for
 * children that run.
 *
 * Main thread. The VM's answers are another process's: what is not there is an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "children.h"
#include "ended.h"
#include "exit_codes.h"
#include "snapshot_command.h"
#include "vmm/cleanup.h"
#include "vmm/disk_copy.h"
#include "vmm/log.h"
#include "vmm/run_directory.h"
#include "vmm/vm_config.h"

LOG_DOMAIN("fork");

#define TEXT_MAX 8192

struct fork_command {
	const char *name;
	uint32_t count;
	bool copy_disks, paused, no_wait, help;
	char *nets[VM_NETS_MAX]; /* "ID=tap:NAME", with %d */
	uint32_t net_count;
};

static int add_net(void *object, const char *value, struct error *e)
{
	struct fork_command *command = object;

	if (command->net_count == ARRAY_SIZE(command->nets)) {
		return error_set(e, ERROR_USAGE, E2BIG, "--net: more than %d", VM_NETS_MAX);
	}
	command->nets[command->net_count++] = (char *)(uintptr_t)value;
	return 0;
}

#define AT(member) .offset = offsetof(struct fork_command, member)
static const struct option option_list[] = {
	{ .name = "name",
	  .letter = 'n',
	  .type = OPTION_STRING,
	  AT(name),
	  .argument = "NAME",
	  .help = "name of the child; of several NAME-1, NAME-2, ... (default: PARENT-fork)" },
	{ .name = "count",
	  .type = OPTION_U32,
	  AT(count),
	  .min = 1,
	  .max = CHILDREN_MAX,
	  .argument = "N",
	  .fallback = "1",
	  .help = "so many children, all of the same moment" },
	{ .name = "net",
	  .type = OPTION_LIST,
	  .add = add_net,
	  .argument = "ID=tap:NAME",
	  .help = "the network card of that id is on this tap; %d in NAME is the child's number" },
	{ .name = "copy-disks",
	  .type = OPTION_FLAG,
	  AT(copy_disks),
	  .help = "copy all of a disk where the file system cannot share it; the VM stands still "
		  "meanwhile" },
	{ .name = "paused",
	  .type = OPTION_FLAG,
	  AT(paused),
	  .help = "do not let the children go on yet: vmm resume does" },
	{ .name = "no-wait",
	  .type = OPTION_FLAG,
	  AT(no_wait),
	  .help = "return when the children run: they end with the VM if that ends before all of "
		  "its "
		  "memory has been copied" },
	HELP_OPTION(struct fork_command, help),
};
static const struct option_table table = OPTION_TABLE("fork", option_list);

/* A disk that children get copies of. */
struct forked_disk {
	const char *id, *path; /* what the parent writes; of `config` */
	bool overlay;
};

struct forking {
	const struct fork_command *command;
	const char *parent;
	char name[VM_NAME_MAX + 1];
	struct ended vm;
	struct client client;
	struct progress progress;
	struct snapshot_taking taking;
	char directory[RUN_DIRECTORY_PATH_SIZE + 32], image[RUN_DIRECTORY_PATH_SIZE + 40];
	bool has_directory;
	json_t *config; /* the parent's */
	uint32_t disk_count;
	struct forked_disk disks[VM_DISKS_MAX];
	uint32_t copied; /* children whose disks are there */
	uint32_t run;	 /* children that were started */
	struct children children;
	struct starting *starting;
};

static int no_memory(struct error *e)
{
	return error_set(e, ERROR_NO_MEMORY, ENOMEM, "fork: out of memory");
}

static void name_of(const struct forking *forking, uint32_t number, char name[CHILD_NAME_SIZE])
{
	child_name(forking->name, forking->command->count, number, name);
}

static void copy_path(const struct forking *forking, const struct forked_disk *disk,
		      uint32_t number, char path[TEXT_MAX])
{
	char name[CHILD_NAME_SIZE];

	name_of(forking, number, name);
	(void)snprintf(path, TEXT_MAX, "%s.%s", disk->path, name);
}

/* --- what there is ------------------------------------------------------------------------------- */

static int choose_name(struct forking *forking, struct error *e)
{
	const char *given = forking->command->name;
	int n = given != NULL ? snprintf(forking->name, sizeof(forking->name), "%s", given)
			      : snprintf(forking->name, sizeof(forking->name), "%s-fork",
					 forking->parent);

	if (n < 0 || (size_t)n >= sizeof(forking->name)) {
		return error_set(e, ERROR_USAGE, ENAMETOOLONG,
				 "--name: the children's names are too long");
	}
	return child_name_check(forking->name, forking->command->count, e);
}

static int note_disk(struct forking *forking, const json_t *drive, struct error *e)
{
	const char *id = json_string_value(json_object_get(drive, "drive_id"));
	const char *path = json_string_value(json_object_get(drive, "path_on_host"));
	const char *overlay = json_string_value(json_object_get(drive, "overlay"));
	struct forked_disk *disk = &forking->disks[forking->disk_count];

	if (json_is_true(json_object_get(drive, "is_read_only"))) {
		return 0;
	}
	if (id == NULL || path == NULL || forking->disk_count == VM_DISKS_MAX) {
		return error_set(e, ERROR_HTTP, EPROTO, "the VM's drives are not to be understood");
	}
	*disk = (struct forked_disk){ .id = id,
				      .path = overlay != NULL ? overlay : path,
				      .overlay = overlay != NULL };
	forking->disk_count++;
	return 0;
}

/* A tap has one VM. */
static int check_net(const struct forking *forking, const json_t *net, struct error *e)
{
	const char *id = json_string_value(json_object_get(net, "iface_id"));
	const struct fork_command *command = forking->command;
	size_t len = id != NULL ? strlen(id) : 0;

	for (uint32_t i = 0; i < command->net_count; i++) {
		if (id != NULL && strncmp(command->nets[i], id, len) == 0 &&
		    command->nets[i][len] == '=') {
			if (command->count > 1 && strstr(command->nets[i], "%d") == NULL) {
				return error_set(e, ERROR_USAGE, EINVAL,
						 "--net '%.64s': the children need a tap each: %%d "
						 "in its name is the child's number",
						 command->nets[i]);
			}
			return 0;
		}
	}
	(void)error_set(e, ERROR_USAGE, EINVAL,
			"network card '%.64s' is on a tap that the VM goes on using",
			id != NULL ? id : "?");
	return error_hint(e, "--net %.64s=tap:NAME gives the child another one",
			  id != NULL ? id : "ID");
}

static int look_at_devices(struct forking *forking, struct error *e)
{
	const json_t *drives, *nets;
	int r = client_call(&forking->client, "GET", "/vm/config", NULL, &forking->config, e);

	drives = json_object_get(forking->config, "drives");
	nets = json_object_get(forking->config, "network-interfaces");
	for (size_t i = 0; r == 0 && i < json_array_size(drives); i++) {
		r = note_disk(forking, json_array_get(drives, i), e);
	}
	for (size_t i = 0; r == 0 && i < json_array_size(nets); i++) {
		r = check_net(forking, json_array_get(nets, i), e);
	}
	return r;
}

/* --- the moment ---------------------------------------------------------------------------------- */

static json_t *copies(const struct forking *forking)
{
	auto_json json_t *list = json_array();

	for (uint32_t i = 0; i < forking->disk_count; i++) {
		const struct forked_disk *disk = &forking->disks[i];
		char path[TEXT_MAX];

		copy_path(forking, disk, 1, path);
		if (json_array_append_new(
			    list, json_pack("{s:s, s:s, s:b}", "drive_id", disk->id, "path_on_host",
					    path, "reflink",
					    !disk->overlay && !forking->command->copy_disks)) !=
		    0) {
			return NULL;
		}
	}
	return take_ptr(list);
}

static int make_directory(struct forking *forking, struct error *e)
{
	int r = run_directory_root(forking->directory, RUN_DIRECTORY_PATH_SIZE, e);
	size_t len;

	if (r < 0) {
		return r;
	}
	len = strlen(forking->directory);
	(void)snprintf(forking->directory + len, sizeof(forking->directory) - len, "/.fork-XXXXXX");
	if (mkdtemp(forking->directory) == NULL) {
		return error_set_sys(e, ERROR_CONFIG, errno, "make '%s'", forking->directory);
	}
	forking->has_directory = true;
	(void)snprintf(forking->image, sizeof(forking->image), "%s/image", forking->directory);
	return 0;
}

static int save(struct forking *forking, struct error *e)
{
	auto_json json_t *list = copies(forking);
	int r;

	if (list == NULL) {
		return no_memory(e);
	}
	forking->taking = (struct snapshot_taking){ .client = &forking->client,
						    .directory = forking->image,
						    .live = true,
						    .early = true,
						    .copies = list,
						    .progress = &forking->progress };
	r = snapshot_take(&forking->taking, e);
	forking->taking.copies = NULL;
	forking->copied = r == 0 ? 1 : 0;
	return r;
}

/* Of the first child's, which does not run yet. */
static int copy_disk(const struct forking *forking, const struct forked_disk *disk, uint32_t number,
		     struct error *e)
{
	char from[TEXT_MAX], to[TEXT_MAX];
	auto_close int fd = -1;
	struct disk_copy copy = { .path = from, .folder = AT_FDCWD, .name = to };

	copy_path(forking, disk, 1, from);
	copy_path(forking, disk, number, to);
	fd = open(from, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0) {
		return error_set_sys(e, ERROR_DISK, errno, "open '%.120s'", from);
	}
	copy.from = fd;
	return disk_copy(&copy, NULL, e);
}

static int copy_disks(struct forking *forking, struct error *e)
{
	int r = 0;

	for (uint32_t number = 2; r == 0 && number <= forking->command->count; number++) {
		/* What of them is made goes with them. */
		forking->copied = number;
		for (uint32_t i = 0; r == 0 && i < forking->disk_count; i++) {
			r = copy_disk(forking, &forking->disks[i], number, e);
		}
	}
	return r;
}

/* --- children ------------------------------------------------------------------------------------ */

static void fill(void *arg, uint32_t number, struct words *words)
{
	const struct forking *forking = arg;
	char text[TEXT_MAX];

	name_of(forking, number, text);
	words_add(words, "-n");
	words_add(words, "%s", text);
	if (forking->command->paused) {
		words_add(words, "--paused");
	}
	for (uint32_t i = 0; i < forking->disk_count; i++) {
		const struct forked_disk *disk = &forking->disks[i];

		copy_path(forking, disk, number, text);
		words_add(words, "--disk");
		words_add(words, "%s=%s%s", disk->id, disk->overlay ? "overlay:" : "", text);
	}
	for (uint32_t i = 0; i < forking->command->net_count; i++) {
		words_add(words, "--net");
		words_add_numbered(words, forking->command->nets[i], number);
	}
	words_add(words, "%s", forking->image);
}

static void remove_copies(void *arg, uint32_t number)
{
	const struct forking *forking = arg;
	char path[TEXT_MAX];

	for (uint32_t i = 0; i < forking->disk_count; i++) {
		copy_path(forking, &forking->disks[i], number, path);
		(void)unlink(path);
	}
}

/* The image, and copies for children that were never started. */
static void clean_up(struct forking *forking)
{
	for (uint32_t number = forking->run + 1; number <= forking->copied; number++) {
		remove_copies(forking, number);
	}
	if (forking->has_directory) {
		(void)snapshot_remove(&(const struct snapshot_paths){ .directory = forking->image },
				      NULL);
		(void)rmdir(forking->directory);
	}
}

/* They need the VM as long as this takes. */
static int await_copy(struct forking *forking, struct error *e)
{
	int r = snapshot_await(&forking->taking, e);

	progress_wipe(&forking->progress);
	return r < 0 ? error_prefix(e, "the children have lost memory, and end") : 0;
}

static int do_fork(struct forking *forking, struct error *e)
{
	int r = choose_name(forking, e);

	if (r == 0) {
		r = ended_open_living(&forking->vm, forking->parent, e);
	}
	if (r == 0) {
		r = client_connect_at(&forking->client, forking->vm.dir_fd, CLIENT_TIMEOUT_MS, e);
	}
	if (r == 0) {
		r = look_at_devices(forking, e);
	}
	if (r == 0) {
		r = make_directory(forking, e);
	}
	forking->children = (struct children){ .count = forking->command->count,
					       .fill = fill,
					       .failed = remove_copies,
					       .arg = forking };
	if (r == 0) {
		r = children_prepare(&forking->starting, &forking->children, e);
	}
	if (r == 0) {
		r = save(forking, e);
	}
	progress_wipe(&forking->progress);
	if (r == 0) {
		r = copy_disks(forking, e);
	}
	if (r == 0) {
		r = children_start(forking->starting, &forking->run, e);
	}
	children_finish(forking->starting);
	clean_up(forking);
	if (r == 0 && !forking->command->no_wait) {
		r = await_copy(forking, e);
	}
	return r;
}

static int run(int argc, char **argv)
{
	struct fork_command command = { .name = NULL };
	struct forking forking = { .command = &command,
				   .client = { .fd = -1 },
				   .vm = { .dir_fd = -1, .report_fd = -1 } };
	struct error e = { 0 };
	int code;

	if (command_parse_exactly(&command_fork, &command, &command.help, 1, 1, argc, argv, &code) <
	    0) {
		return code;
	}
	json_prepare();
	forking.parent = argv[1];
	progress_begin(&forking.progress, false);
	code = EXIT_OK;
	if (do_fork(&forking, &e) < 0) {
		progress_wipe(&forking.progress);
		if (e.code != ERROR_USAGE && strstr(e.msg, forking.parent) == NULL) {
			(void)error_prefix(&e, "fork '%s'", forking.parent);
		}
		code = snapshot_fail(&forking.progress, &e);
	}
	progress_end(&forking.progress);
	client_close(&forking.client);
	ended_close(&forking.vm);
	json_decref(forking.config);
	return code;
}

static const struct command_example examples[] = {
	{ "vmm fork web --name copy", "one child, in the background" },
	{ "vmm fork web --name worker --count 8 --net net0=tap:worker%d",
	  "worker-1 to worker-8, all of the same moment, with a tap each" },
	{ NULL, NULL },
};

const struct command command_fork = {
	.name = "fork",
	.operands = " NAME",
	.help = "make children of a VM that goes on running",
	.options = &table,
	.run = run,
	.description =
		"Each child is a VM of its own that goes on where the one named stood at "
		"one moment: with "
		"its memory, its processors, and its disks as they were then. The VM itself "
		"stands still "
		"for about a millisecond. Children run in the background; their names are "
		"printed.\n\n"
		"They run before all of the VM's memory has been copied, where the host can do "
		"that (Linux 6.4 and userfaultfd): what a child touches first is copied first. "
		"Until the copy is whole they need the VM, and end if it does; the command waits "
		"for that, unless *--no-wait* is given.\n\n"
		"Disks that are written are copied. Of one with an overlay (*--disk "
		"BASE,overlay=FILE*) the "
		"overlay is copied, and the base shared; of another one the file system "
		"shares the blocks "
		"if it can (reflinks: Btrfs, XFS). Where it cannot, *--copy-disks* copies "
		"all of it while "
		"the VM stands still. A copy lies beside the disk as DISK.CHILD, and stays "
		"when the child "
		"has ended.\n\n"
		"Memory that nobody writes is there once for all children. Each is told "
		"that it is a copy "
		"(VMGenID), upon which its kernel draws new random numbers. A child can be "
		"forked again.",
	.examples = examples,
	.exits = "128+N it was interrupted by signal N",
};
