/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions on disk: what a crash may have left, whose directories they are, and what the content of
 * a file must be. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "../../src/cli/definition.h"
#include "vmm/definition_store.h"

static struct error e;
static char top[40], root[64];

static void setup(void)
{
	e = (struct error){ 0 };
	(void)umask(022);
	(void)snprintf(top, sizeof(top), "/tmp/vmm-definition-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	(void)snprintf(root, sizeof(root), "%s/a/b/state", top);
	(void)setenv("VMM_STATE_DIR", root, 1);
}

static void teardown(void)
{
	char command[100];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", top);
	ck_assert_int_eq(system(command), 0); /* NOLINT(cert-env33-c): a path of ours */
}

static const char *below(const char *name)
{
	static char path[300];

	(void)snprintf(path, sizeof(path), "%s/%s", root, name);
	return path;
}

static void make_file(const char *name, const char *text)
{
	int fd = open(below(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	(void)close(fd);
}

static void put(const char *name, const char *text)
{
	check_ok(definition_write(name, text, strlen(text), &e), &e);
}

/* The number under "n". */
static json_int_t number(const char *name)
{
	auto_json json_t *object = NULL;

	check_ok(definition_read(name, &object, &e), &e);
	return json_integer_value(json_object_get(object, "n"));
}

START_TEST(test_write_and_read)
{
	struct stat first, second;

	put("web", "{\"n\": 1}");
	ck_assert_int_eq(number("web"), 1);
	ck_assert_int_eq(stat(below("web/vm.json"), &first), 0);
	ck_assert_int_eq(first.st_mode & 07777, 0600);
	/* The same: not touched. Another one: another file, the old one whole until then. */
	put("web", "{\"n\": 1}");
	ck_assert_int_eq(stat(below("web/vm.json"), &second), 0);
	ck_assert_uint_eq(first.st_ino, second.st_ino);
	put("web", "{\"n\": 2}");
	ck_assert_int_eq(number("web"), 2);
	ck_assert_int_lt(access(below("web/vm.json.new"), F_OK), 0);
}
END_TEST

START_TEST(test_missing)
{
	json_t *object = NULL;

	ck_assert_int_lt(definition_read("web", &object, &e), 0);
	ck_assert_int_eq(e.code, ERROR_NOT_FOUND);
	ck_assert(!definition_exists("web"));
	check_ok(definition_remove("web", &e), &e);
	put("web", "{}");
	ck_assert(definition_exists("web"));
	ck_assert(!definition_exists("db"));
	e = (struct error){ 0 };
	ck_assert_int_lt(definition_read("db", &object, &e), 0);
	ck_assert_int_eq(e.code, ERROR_NOT_FOUND);
	check_ok(definition_remove("web", &e), &e);
	ck_assert_int_lt(access(below("web"), F_OK), 0);
}
END_TEST

/* A writer was killed before its rename. */
START_TEST(test_unfinished)
{
	struct run_entry *list = NULL;
	size_t count = 9;

	put("web", "{\"n\": 1}");
	make_file("web/vm.json.new", "{\"n\": ");
	ck_assert_int_eq(number("web"), 1);
	put("web", "{\"n\": 2}");
	ck_assert_int_eq(number("web"), 2);
	/* Before its first one: there is none. */
	ck_assert_int_eq(mkdir(below("db"), 0700), 0);
	make_file("db/vm.json.new", "{");
	ck_assert(!definition_exists("db"));
	check_ok(definition_list(&list, &count, &e), &e);
	ck_assert_uint_eq(count, 1);
	ck_assert_str_eq(list[0].name, "web");
	free(list);
	check_ok(definition_remove("db", &e), &e);
	ck_assert_int_lt(access(below("db"), F_OK), 0);
}
END_TEST

static void write_for_ever(void)
{
	static const char *const texts[] = {
		"{\"n\": 1, \"x\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}", "{\"n\": 2}"
	};

	for (unsigned int i = 0;; i++) {
		if (definition_write("web", texts[i % 2], strlen(texts[i % 2]), NULL) < 0) {
			_exit(1);
		}
	}
}

/* Who reads while another one writes gets the old or the new, whole. */
START_TEST(test_read_while_written)
{
	pid_t pid;

	put("web", "{\"n\": 1}");
	pid = fork();
	if (pid == 0) {
		write_for_ever();
	}
	for (int i = 0; i < 2000; i++) {
		json_int_t n = number("web");

		ck_assert(n == 1 || n == 2);
	}
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	ck_assert(number("web") != 0);
}
END_TEST

START_TEST(test_list)
{
	struct run_entry *list = NULL;
	size_t count = 9;

	check_ok(definition_list(&list, &count, &e), &e);
	ck_assert_uint_eq(count, 0);
	put("vm10", "{}");
	put("vm2", "{}");
	ck_assert_int_eq(mkdir(below("empty"), 0700), 0);
	ck_assert_int_eq(mkdir(below(".hidden"), 0700), 0);
	make_file("file", "");
	make_file(".hidden/vm.json", "{}");
	check_ok(definition_list(&list, &count, &e), &e);
	ck_assert_uint_eq(count, 2);
	ck_assert_str_eq(list[0].name, "vm2");
	ck_assert_str_eq(list[1].name, "vm10");
	free(list);
}
END_TEST

START_TEST(test_links)
{
	json_t *object = NULL;
	char elsewhere[80];

	put("web", "{}");
	(void)snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", top);
	ck_assert_int_eq(rename(below("web"), elsewhere), 0);
	ck_assert_int_eq(symlink(elsewhere, below("web")), 0);
	ck_assert_int_lt(definition_read("web", &object, &e), 0);
	check_error(&e, ERROR_CONFIG, "is a symlink");
	ck_assert_int_lt(definition_write("web", "{}", 2, &e), 0);
	ck_assert_int_lt(definition_remove("web", &e), 0);
	(void)snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere/vm.json", top);
	ck_assert_int_eq(access(elsewhere, F_OK), 0);
}
END_TEST

static const char *const bad_names[] = { "", ".", "..", "../x", "a/b", "-x", ".state" };

START_TEST(test_bad_name)
{
	json_t *object = NULL;

	ck_assert_int_lt(definition_write(bad_names[_i], "{}", 2, &e), 0);
	ck_assert_int_lt(definition_read(bad_names[_i], &object, &e), 0);
	ck_assert(!definition_exists(bad_names[_i]));
	ck_assert_int_lt(access(root, F_OK), 0);
}
END_TEST

START_TEST(test_no_room)
{
	char long_root[400];

	memset(long_root, 'x', sizeof(long_root) - 1);
	long_root[0] = '/';
	long_root[sizeof(long_root) - 1] = '\0';
	(void)setenv("VMM_STATE_DIR", long_root, 1);
	ck_assert_int_lt(definition_write("web", "{}", 2, &e), 0);
	check_error(&e, ERROR_CONFIG, "too long");
	ck_assert(strstr(e.hint, "VMM_STATE_DIR") != NULL);
}
END_TEST

/* Every setting comes back; paths do not depend on where we are. */
START_TEST(test_round_trip)
{
	const struct run_settings settings = { .api_socket = "api.sock",
					       .timeout_ns = 1500000000,
					       .console = 1,
					       .process = { .exit_report = "/r.json",
							    .stop_timeout_ns = 2000000000,
							    .sandbox = 2 },
					       .debug_exit = true };
	struct definition definition;
	json_t *made;

	ck_assert_int_eq(chdir(top), 0);
	made = definition_make(json_pack("{s:{}}", "machine-config"), &settings, "quiet \xff",
			       true);
	check_ok(definition_save("web", made, &e), &e);
	json_decref(made);
	check_ok(definition_load(&definition, "web", &e), &e);
	ck_assert(definition.created);
	ck_assert(json_is_object(json_object_get(definition.config, "machine-config")));
	ck_assert_uint_eq(definition.settings.timeout_ns, settings.timeout_ns);
	ck_assert_uint_eq(definition.settings.process.stop_timeout_ns,
			  settings.process.stop_timeout_ns);
	ck_assert_int_eq(definition.settings.console, settings.console);
	ck_assert_int_eq(definition.settings.process.sandbox, settings.process.sandbox);
	ck_assert(definition.settings.debug_exit);
	ck_assert_str_eq(definition.settings.process.exit_report, "/r.json");
	ck_assert(strncmp(definition.settings.api_socket, top, strlen(top)) == 0);
	definition_finish(&definition);
	ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

CHECK_MAIN("definition", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_write_and_read);
	   CHECK_TEST(test_missing); CHECK_TEST(test_unfinished);
	   CHECK_TEST(test_read_while_written); CHECK_TEST(test_list); CHECK_TEST(test_links);
	   CHECK_TABLE(test_bad_name, bad_names); CHECK_TEST(test_no_room);
	   CHECK_TEST(test_round_trip))
