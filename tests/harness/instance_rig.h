/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance for tests, in a directory of its own that is the current one: files "kernel" (the head
 * of one), "text", "disk" and "disk2" (1 MiB), "fifo". Requests are made from JSON, as the API does.
 */
#ifndef VMM_TESTS_INSTANCE_RIG_H
#define VMM_TESTS_INSTANCE_RIG_H

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/instance.h"
#include "vmm/options_json.h"

#define RIG_PATIENCE_NS (200 * 1000000000ULL)

struct rig {
	char directory[64];
	struct loop loop;
	struct instance_host host;
	struct instance_settings settings;
	struct instance *instance;
	struct error e;
	unsigned started, failed, ended, resized;
	unsigned heard; /* events of the end, when the host heard of it */
	struct vm_stop stop;
};

static struct rig rig;

static void rig_started(struct instance_host *host, const struct error *failure)
{
	(void)host;
	rig.started += failure == NULL;
	rig.failed += failure != NULL;
}

static inline unsigned rig_events(const char *name);

static void rig_ended(struct instance_host *host, const struct vm_stop *stop)
{
	(void)host;
	rig.ended++;
	rig.heard += rig_events("stopped");
	rig.stop = *stop;
}

static void rig_resized(struct instance_host *host, uint16_t columns, uint16_t rows)
{
	(void)host;
	(void)columns;
	(void)rows;
	rig.resized++;
}

static void rig_write_file(const char *name, const void *data, size_t len, off_t size)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	(void)close(fd);
}

static void rig_make_files(void)
{
	Elf64_Ehdr head = { .e_machine = EM_X86_64 };

	memcpy(head.e_ident, ELFMAG, SELFMAG);
	head.e_ident[EI_CLASS] = ELFCLASS64;
	head.e_ident[EI_DATA] = ELFDATA2LSB;
	head.e_ident[EI_VERSION] = EV_CURRENT;
	rig_write_file("kernel", &head, sizeof(head), 4096);
	rig_write_file("text", "words\n", 6, 6);
	rig_write_file("disk", "", 0, (off_t)MIB(1));
	rig_write_file("disk2", "", 0, (off_t)MIB(1));
	rig_write_file("qcow2", "QFI\xfb", 4, (off_t)MIB(1));
	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	ck_assert_int_eq(mkdir("directory", 0700), 0);
}

static void rig_create(void)
{
	rig.host = (struct instance_host){ .loop = &rig.loop,
					   .started = rig_started,
					   .ended = rig_ended,
					   .resized = rig_resized };
	check_ok(instance_create(&rig.instance, &rig.settings, &rig.host, &rig.e), &rig.e);
}

static void rig_setup(void)
{
	memset(&rig, 0, sizeof(rig));
	rig.settings = (struct instance_settings){ .id = "test",
						   .sandbox = SANDBOX_OFF,
						   .patience_ns = RIG_PATIENCE_NS };
	(void)snprintf(rig.directory, sizeof(rig.directory), "/tmp/vmm-test-instance-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(rig.directory));
	ck_assert_int_eq(chdir(rig.directory), 0);
	rig_make_files();
	check_ok(loop_init(&rig.loop, &rig.e), &rig.e);
	rig_create();
}

static void rig_empty_directory(const char *path)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;

	ck_assert_ptr_nonnull(directory);
	while ((entry = readdir(directory)) != NULL) {
		if (unlinkat(dirfd(directory), entry->d_name, 0) != 0) {
			(void)unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
		}
	}
	(void)closedir(directory);
}

static void rig_teardown(void)
{
	ck_assert(instance_destroy(rig.instance));
	rig.instance = NULL;
	loop_finish(&rig.loop);
	rig_empty_directory(rig.directory);
	ck_assert_int_eq(chdir("/"), 0);
	(void)rmdir(rig.directory);
}

/* Room for the object of any request. */
union rig_object {
	struct vm_boot_config boot;
	struct block_config drive;
	struct vm_net_config net;
	uint8_t bytes[2048];
};

/* A call that waits for its answer. */
struct rig_call {
	struct instance_call base;
	unsigned done;
	json_t *reply;
	bool failed;
	struct error failure;
};

static inline void rig_done(struct instance_call *base, json_t *reply, const struct error *failure)
{
	struct rig_call *call = container_of(base, struct rig_call, base);

	call->done++;
	call->reply = reply;
	call->failed = failure != NULL;
	call->failure = failure != NULL ? *failure : (struct error){ 0 };
}

/* Runs the loop until it is answered. `reply` may be NULL. */
static inline int rig_wait(struct rig_call *call, json_t **reply)
{
	uint64_t deadline = loop_now_ns() + RIG_PATIENCE_NS;

	while (call->done == 0) {
		ck_assert_msg(loop_now_ns() < deadline, "no answer");
		ck_assert_int_eq(loop_step(&rig.loop, 10), 0);
	}
	ck_assert_uint_eq(call->done, 1);
	rig.e = call->failure;
	if (reply != NULL) {
		*reply = call->reply;
	} else {
		json_decref(call->reply);
	}
	return call->failed ? -EINVAL : 0;
}

static int rig_request(enum request_type type, const char *id, const json_t *json, json_t **reply)
{
	const struct request_info *info = &request_infos[type];
	union rig_object object;
	struct request request = { .type = type, .id = id, .json = json };
	int r = 0;

	memset(&object, 0, sizeof(object));
	rig.e = (struct error){ 0 };
	if (info->body != NULL) {
		ck_assert_uint_le(info->size, sizeof(object));
		r = info->query ? options_defaults(info->body, &object, &rig.e)
				: options_from_json(info->body, &object, json,
						    info->patch ? OPTIONS_JSON_PATCH : 0, &rig.e);
		request.object = &object;
	}
	if (r == 0) {
		struct rig_call call = { .base.done = rig_done };

		instance_request(rig.instance, &request, &call.base);
		/* What a request lends is gone when it has been made. */
		memset(&object, 0x5a, sizeof(object));
		r = rig_wait(&call, reply);
	}
	return r;
}

static int rig_put(enum request_type type, const char *id, const char *text)
{
	json_t *json = text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
	int r;

	ck_assert_msg((text == NULL) == (json == NULL), "not JSON: %s", text);
	r = rig_request(type, id, json, NULL);
	json_decref(json);
	return r;
}

static void rig_ok(enum request_type type, const char *id, const char *text)
{
	int r = rig_put(type, id, text);

	ck_assert_msg(r == 0, "%s %s: %s", request_infos[type].name, text != NULL ? text : "",
		      rig.e.msg);
}

static void rig_refused(enum request_type type, const char *id, const char *text,
			enum error_code code, const char *says)
{
	ck_assert_msg(rig_put(type, id, text) < 0, "%s %s was accepted", request_infos[type].name,
		      text != NULL ? text : "");
	check_error(&rig.e, code, says);
}

static json_t *rig_get(enum request_type type, const char *id)
{
	json_t *reply = NULL;
	int r = rig_request(type, id, NULL, &reply);

	ck_assert_msg(r == 0, "%s: %s", request_infos[type].name, rig.e.msg);
	ck_assert_ptr_nonnull(reply);
	return reply;
}

/* Text with sorted keys; free() it. */
static char *rig_text(enum request_type type)
{
	json_t *reply = rig_get(type, NULL);
	size_t len;
	char *text = json_text(reply, &len);

	ck_assert_ptr_nonnull(text);
	json_decref(reply);
	return text;
}

static inline void rig_expect(enum request_type type, const char *expected)
{
	char *text = rig_text(type);

	ck_assert_str_eq(text, expected);
	free(text);
}

static inline void rig_action(const char *name)
{
	char text[80];

	(void)snprintf(text, sizeof(text), "{\"action_type\": \"%s\"}", name);
	rig_ok(REQUEST_PUT_ACTION, NULL, text);
}

static inline void rig_action_refused(const char *name, enum error_code code, const char *says)
{
	char text[80];

	(void)snprintf(text, sizeof(text), "{\"action_type\": \"%s\"}", name);
	rig_refused(REQUEST_PUT_ACTION, NULL, text, code, says);
}

/* How many events of that name are kept. */
static inline unsigned rig_events(const char *name)
{
	struct event_log *log = instance_events(rig.instance);
	char pattern[64];
	unsigned count = 0;

	(void)snprintf(pattern, sizeof(pattern), "\"event\":\"%s\"", name);
	for (uint64_t seq = 1; seq <= log->last; seq++) {
		const char *line = event_log_line(log, seq);

		count += line != NULL && strstr(line, pattern) != NULL;
	}
	return count;
}

#endif
