/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts from snapshots by request, with real KVM and a guest that notices what is lost. By the order of events, never by time.
 */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/un.h>

#include "harness/restore_rig.h"

#include "vmm/snapshot.h"

#define BY_BACKEND                                                          \
	"{\"snapshot_path\": \"s\", \"resume_vm\": true, \"mem_backend\": " \
	"{\"backend_path\": \"m\", \"backend_type\": \"File\"}}"
static const char *const loads[] = {
	"{\"directory\": \"snap\", \"resume_vm\": true}",
	"{\"snapshot_path\": \"s\", \"mem_file_path\": \"m\", \"resume_vm\": true}",
	BY_BACKEND, /* NOLINT(bugprone-suspicious-missing-comma) */
	"{\"directory\": \"snap\", \"resume_vm\": true, \"memory_mode\": \"verify\"}",
	"{\"directory\": \"snap\", \"resume_vm\": true, \"memory_mode\": \"read\"}",
	"{\"directory\": \"snap\", \"resume_vm\": true, \"memory_mode\": \"lazy\"}",
	"{\"directory\": \"snap\", \"resume_vm\": true, \"memory_mode\": \"lazy\", "
	"\"huge_pages\": \"None\"}",
	"{\"directory\": \"snap\", \"resume_vm\": true, \"memory_mode\": \"read\", "
	"\"huge_pages\": \"Transparent\"}",
	"{\"directory\": \"snap\", \"resume_vm\": true, \"clock\": \"step\"}",
	"{\"directory\": \"snap\", \"resume_vm\": true, \"clock_realtime\": true}",
};

START_TEST(test_load)
{
	json_t *config;

	make_snapshot();
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, loads[_i]);
	ck_assert(state_is(INSTANCE_RUNNING));
	ck_assert_uint_eq(rig.started, 1);
	expect_goes_on();
	config = rig_get(REQUEST_GET_VM_CONFIG, NULL);
	ck_assert_uint_eq(json_array_size(json_object_get(config, "drives")), 1);
	ck_assert_ptr_null(json_object_get(config, "vmm"));
	json_decref(config);
	/* A snapshot of one that was loaded is one, too. */
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"again\"}");
	pause_vm();
	anew();
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL,
	       "{\"directory\": \"again\", \"changed_disks\": \"accept\"}");
	ck_assert(state_is(INSTANCE_PAUSED));
	ck_assert_uint_eq(screen.len, 0);
	remove_snapshot("snap");
	remove_snapshot("again");
}
END_TEST

START_TEST(test_load_paused)
{
	make_snapshot();
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, "{\"directory\": \"snap\"}");
	ck_assert(state_is(INSTANCE_PAUSED));
	ck_assert_uint_eq(screen.len, 0);
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
	expect_goes_on();
	rig_refused(REQUEST_PUT_SNAPSHOT_LOAD, NULL, "{\"directory\": \"snap\"}", ERROR_WRONG_STATE,
		    "after starting");
	remove_snapshot("snap");
}
END_TEST

static const struct {
	const char *body, *says;
	enum error_code code;
} bad_loads[] = {
	{ "{}", "snapshot_path", ERROR_CONFIG },
	{ "{\"snapshot_path\": \"s\"}", "mem_backend", ERROR_CONFIG },
	{ "{\"snapshot_path\": \"s\", \"mem_file_path\": \"m\", \"directory\": \"snap\"}",
	  "one or the other", ERROR_CONFIG },
	{ "{\"snapshot_path\": \"s\", \"mem_file_path\": \"m\", \"mem_backend\": "
	  "{\"backend_path\": "
	  "\"m\", \"backend_type\": \"File\"}}",
	  "exclusively", ERROR_CONFIG },
	{ "{\"directory\": \"nowhere\"}", "nowhere", ERROR_NOT_FOUND },
	{ "{\"directory\": \"text\"}", "text", ERROR_SNAPSHOT },
	{ "{\"snapshot_path\": \"text\", \"mem_file_path\": \"m\"}", "text", ERROR_SNAPSHOT },
	{ "{\"snapshot_path\": \"s\", \"mem_file_path\": \"text\"}", "text", ERROR_SNAPSHOT },
	{ "{\"directory\": \"snap\", \"network_overrides\": [{\"iface_id\": \"x\", "
	  "\"host_dev_name\": \"t\"}]}",
	  "no network card 'x'", ERROR_NOT_FOUND },
	{ "{\"directory\": \"snap\", \"drive_overrides\": [{\"drive_id\": \"x\", "
	  "\"path_on_host\": \"t\"}]}",
	  "no drive 'x'", ERROR_NOT_FOUND },
	{ "{\"directory\": \"snap\", \"drive_overrides\": [{\"drive_id\": \"data\", "
	  "\"path_on_host\": \"nowhere\"}]}",
	  "nowhere", ERROR_DISK },
	{ "{\"directory\": \"snap\", \"drive_overrides\": [{\"drive_id\": 1, "
	  "\"path_on_host\": \"t\"}]}",
	  "/drive_overrides/0/drive_id", ERROR_JSON },
	{ "{\"directory\": \"snap\", \"drive_overrides\": {}}", "an array of objects", ERROR_JSON },
	{ "{\"directory\": \"snap\", \"drive_overrides\": [3]}", "an object", ERROR_JSON },
	{ "{\"directory\": \"snap\", \"clock\": \"back\"}", "back", ERROR_JSON },
	{ "{\"directory\": \"snap\", \"huge_pages\": \"1G\"}", "1G", ERROR_JSON },
};

/* Whatever was wrong, the process answers, and the next try may succeed. */
START_TEST(test_bad_loads)
{
	make_snapshot();
	for (size_t i = 0; i < ARRAY_SIZE(bad_loads); i++) {
		rig_refused(REQUEST_PUT_SNAPSHOT_LOAD, NULL, bad_loads[i].body, bad_loads[i].code,
			    bad_loads[i].says);
		ck_assert(state_is(INSTANCE_NOT_STARTED));
	}
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, loads[0]);
	expect_goes_on();
	remove_snapshot("snap");
}
END_TEST

START_TEST(test_not_fresh)
{
	make_snapshot();
	put_disk("disk2");
	rig_refused(REQUEST_PUT_SNAPSHOT_LOAD, NULL, loads[0], ERROR_WRONG_STATE,
		    "not allowed after configuring boot-specific resources");
	remove_snapshot("snap");
}
END_TEST

/* A disk moves; its place does not. The guest would notice one with other content. */
START_TEST(test_other_disk)
{
	make_snapshot();
	ck_assert_int_eq(rename("disk", "moved"), 0);
	rig_refused(REQUEST_PUT_SNAPSHOT_LOAD, NULL, loads[0], ERROR_DISK, "disk");
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL,
	       "{\"directory\": \"snap\", \"resume_vm\": true, \"drive_overrides\": "
	       "[{\"drive_id\": "
	       "\"data\", \"path_on_host\": \"moved\"}]}");
	expect_goes_on();
	remove_snapshot("snap");
}
END_TEST

/* A stranger's configuration names files that are no machine's: nobody opens or makes them. */
START_TEST(test_strange_config)
{
	static const char text[] = "{\"boot-source\": {\"kernel_image_path\": \"nowhere\"}, "
				   "\"cpu-config\": \"fifo\", "
				   "\"serial\": {\"serial_out_path\": \"evil\"}, "
				   "\"logger\": {\"log_path\": \"evil\"}, "
				   "\"metrics\": {\"metrics_path\": \"evil\"}, "
				   "\"vmm\": {\"console\": 7, \"disks\": 3}}";
	struct snapshot_load_request request = { .directory = "snap" };
	const struct disk_copies none = { .taken = false };
	struct config *draft = NULL;

	check_ok(saved_config_read(&draft, &rig.settings, text, &request, &none, &rig.e), &rig.e);
	ck_assert(!there("evil"));
	ck_assert(!draft->vm.has_serial && !draft->vm.has_logger && !draft->vm.has_metrics);
	ck_assert_ptr_null(draft->vm.cpu_config);
	ck_assert(!draft->vm.console);
	config_drop(draft, NULL);
	ck_assert_int_eq(saved_config_read(&draft, &rig.settings, "[]", &request, &none, &rig.e),
			 -EINVAL);
	ck_assert_ptr_nonnull(strstr(rig.e.msg, "not a JSON object"));
}
END_TEST

/* --- sizes --------------------------------------------------------------------------------------- */

static const unsigned int sizes[] = { 2048, 3072, 3584, 4096, 5120 };

/* A page of marks at both ends of each region and at each GiB in between. */
static void each_mark(struct guest_memory *mem, void (*use)(struct guest_memory *mem, gpa_t gpa))
{
	for (uint32_t i = 0; i < mem->region_count; i++) {
		const struct guest_region *region = &mem->regions[i];
		uint64_t size = region->size;

		for (uint64_t at = MIB(512); at < size; at += GIB(1)) {
			use(mem, region->gpa + at);
		}
		use(mem, region->gpa + size - PAGE_SIZE_4K);
		if (region->gpa != 0) {
			use(mem, region->gpa);
		}
	}
}

static void put_mark(struct guest_memory *mem, gpa_t gpa)
{
	uint64_t words[PAGE_SIZE_4K / 8];

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		words[i] = gpa * 0x9e3779b97f4a7c15 + i;
	}
	ck_assert(guest_memory_write(mem, gpa, words, sizeof(words)));
}

static void check_mark(struct guest_memory *mem, gpa_t gpa)
{
	uint64_t words[PAGE_SIZE_4K / 8];

	ck_assert(guest_memory_read(mem, gpa, words, sizeof(words)));
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		ck_assert_uint_eq(words[i], gpa * 0x9e3779b97f4a7c15 + i);
	}
	/* Nothing came along. */
	if (guest_memory_read(mem, gpa + 2 * PAGE_SIZE_4K, words, sizeof(words))) {
		for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
			ck_assert_uint_eq(words[i], 0);
		}
	}
}

/* Below the hole, up to it, and above it. */
START_TEST(test_sizes)
{
	char machine[80];
	struct stat st;

	put_guest("test=work");
	put_disk("disk");
	(void)snprintf(machine, sizeof(machine), "{\"vcpu_count\": 1, \"mem_size_mib\": %u}",
		       sizes[_i]);
	rig_ok(REQUEST_PUT_MACHINE_CONFIG, NULL, machine);
	check_ok(instance_start_now(rig.instance, true, &rig.e), &rig.e);
	each_mark(vm_memory(rig.instance->vm), put_mark);
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"snap\"}");
	ck_assert_int_eq(stat("snap/memory", &st), 0);
	/* What nobody has touched costs nothing. */
	ck_assert_int_lt(st.st_blocks * 512, (blkcnt_t)MIB(8));
	for (int mode = 0; mode < 4; mode++) {
		static const char *const modes[] = { "map", "verify", "read", "lazy" };
		char load[80];

		(void)snprintf(load, sizeof(load),
			       "{\"directory\": \"snap\", \"memory_mode\": \"%s\"}", modes[mode]);
		anew();
		rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, load);
		each_mark(vm_memory(rig.instance->vm), check_mark);
	}
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
	step_until(screen_has("round 1 "));
	remove_snapshot("snap");
}
END_TEST

/* The kernel is looked for at the reset, and only then. */
START_TEST(test_reset)
{
	make_snapshot();
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, loads[0]);
	expect_goes_on();
	rig_ok(REQUEST_PUT_ACTION, NULL, "{\"action_type\": \"Reset\"}");
	step_until(screen_has("work "));
	remove_snapshot("snap");
}
END_TEST

/* --- pages from another process ------------------------------------------------------------------ */

/* Firecracker's protocol, spoken by a thread: it could as well be another process. */
static struct handler {
	int listener;
	pthread_t thread;
	json_t *regions;
	int faults; /* the userfaultfd */
	_Atomic uint64_t served;
	_Atomic bool stop;
} handler;

static void take_message(int fd)
{
	static char text[KIB(8)];
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { text, sizeof(text) - 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(fd, &message, 0);
	const struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	ck_assert_ptr_nonnull(header);
	memcpy(&handler.faults, CMSG_DATA(header), sizeof(int));
	text[n] = '\0';
	handler.regions = json_loads(text, 0, NULL);
	ck_assert_ptr_nonnull(handler.regions);
}

static uint64_t number(size_t region, const char *key)
{
	return (uint64_t)json_integer_value(
		json_object_get(json_array_get(handler.regions, region), key));
}

/* Two who touch a page at the same time are two faults. */
static void place(struct uffdio_copy *copy)
{
	struct uffdio_range range = { .start = copy->dst, .len = copy->len };

	if (ioctl(handler.faults, UFFDIO_COPY, copy) != 0) {
		ck_assert_int_eq(errno, EEXIST);
		ck_assert_int_eq(ioctl(handler.faults, UFFDIO_WAKE, &range), 0);
	}
}

static void serve_page(const uint8_t *file, uint64_t address)
{
	for (size_t i = 0; i < json_array_size(handler.regions); i++) {
		uint64_t base = number(i, "base_host_virt_addr");
		struct uffdio_copy copy = { .dst = address, .len = PAGE_SIZE_4K };

		if (address - base < number(i, "size")) {
			copy.src = (uintptr_t)file + number(i, "offset") + (address - base);
			place(&copy);
			handler.served++;
			return;
		}
	}
	ck_abort_msg("a fault outside of all regions");
}

static void *handle(void *arg)
{
	int memory = open("m", O_RDONLY | O_CLOEXEC), fd = accept(handler.listener, NULL, NULL);
	const uint8_t *file = mmap(NULL, MIB(64), PROT_READ, MAP_PRIVATE, memory, 0);

	(void)arg;
	take_message(fd);
	while (!atomic_load(&handler.stop)) {
		struct pollfd wait = { .fd = handler.faults, .events = POLLIN };
		struct uffd_msg fault;

		if (poll(&wait, 1, 10) == 1 &&
		    read(handler.faults, &fault, sizeof(fault)) == sizeof(fault)) {
			ck_assert_int_eq(fault.event, UFFD_EVENT_PAGEFAULT);
			serve_page(file, ALIGN_DOWN(fault.arg.pagefault.address, PAGE_SIZE_4K));
		}
	}
	(void)close(fd);
	(void)close(memory);
	(void)munmap((void *)(uintptr_t)file, MIB(64));
	return NULL;
}

static void start_handler(void)
{
	const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "handler" };

	memset(&handler, 0, sizeof(handler));
	handler.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(handler.listener, (const struct sockaddr *)&address, sizeof(address)),
			 0);
	ck_assert_int_eq(listen(handler.listener, 1), 0);
	ck_assert_int_eq(pthread_create(&handler.thread, NULL, handle, NULL), 0);
}

static void stop_handler(void)
{
	atomic_store(&handler.stop, true);
	ck_assert_int_eq(pthread_join(handler.thread, NULL), 0);
	json_decref(handler.regions);
	(void)close(handler.faults);
	(void)close(handler.listener);
	(void)unlink("handler");
}

#define BY_HANDLER                                                          \
	"{\"snapshot_path\": \"s\", \"resume_vm\": true, \"mem_backend\": " \
	"{\"backend_path\": \"handler\", \"backend_type\": \"Uffd\"}}"

/* A reset wants none of it, not even when a vCPU waits for a page of it just then: several times, for that is by chance. */
START_TEST(test_handler_reset)
{
	make_snapshot();
	start_handler();
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, BY_HANDLER);
	expect_goes_on();
	rig_ok(REQUEST_PUT_ACTION, NULL, "{\"action_type\": \"Reset\"}");
	step_until(screen_has("work "));
	step_until(screen_has("round 3 "));
	ck_assert(!screen_has("FAIL"));
	anew();
	stop_handler();
	remove_snapshot("snap");
}
END_TEST

/* What of the memory nobody has touched is saved by a snapshot of it, too. */
START_TEST(test_handler)
{
	uint64_t few;

	make_snapshot();
	rig_refused(REQUEST_PUT_SNAPSHOT_LOAD, NULL, BY_HANDLER, ERROR_SNAPSHOT, "'handler'");
	ck_assert(state_is(INSTANCE_NOT_STARTED));
	start_handler();
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, BY_HANDLER);
	expect_goes_on();
	ck_assert_uint_eq(json_array_size(handler.regions), 1);
	ck_assert_uint_eq(number(0, "size"), MIB(64));
	ck_assert_uint_eq(number(0, "page_size"), KIB(4));
	pause_vm();
	few = handler.served;
	ck_assert_uint_gt(few, 0);
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"again\"}");
	ck_assert_uint_gt(handler.served, few);
	anew();
	stop_handler();
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL,
	       "{\"directory\": \"again\", \"resume_vm\": true, \"changed_disks\": \"accept\"}");
	expect_goes_on();
	remove_snapshot("snap");
	remove_snapshot("again");
}
END_TEST

/* --- what is touched first ----------------------------------------------------------------------- */

#define RECORD                                                                       \
	"{\"directory\": \"snap\", \"resume_vm\": true, \"memory_mode\": \"lazy\", " \
	"\"record_working_set\": true}"

/* A guest that goes on notices a disk that is not as it was. */
static void copy_disk(const char *from, const char *to)
{
	static char bytes[MIB(1)];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_eq(read(in, bytes, sizeof(bytes)), sizeof(bytes));
	ck_assert_int_eq(write(out, bytes, sizeof(bytes)), sizeof(bytes));
	(void)close(in);
	(void)close(out);
}

/* A record, and loads that begin with it; one that is cut off is none. */
START_TEST(test_record)
{
	make_snapshot();
	copy_disk("disk", "kept");
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, RECORD);
	expect_goes_on();
	ck_assert_uint_eq(count_files("snap"), 2);
	rig_ok(REQUEST_PUT_SNAPSHOT_MARK, NULL, NULL);
	ck_assert_uint_eq(count_files("snap"), 3);
	ck_assert(there("snap/working-set"));
	pause_vm();
	rig_ok(REQUEST_PUT_SNAPSHOT_MARK, NULL, NULL);
	ck_assert_uint_eq(count_files("snap"), 3);
	for (int i = 0; i < 2; i++) {
		anew();
		copy_disk("kept", "disk");
		rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL,
		       "{\"directory\": \"snap\", \"resume_vm\": true, \"memory_mode\": \"lazy\", "
		       "\"changed_disks\": \"accept\"}");
		expect_goes_on();
		rig_refused(REQUEST_PUT_SNAPSHOT_MARK, NULL, NULL, ERROR_WRONG_STATE,
			    "not recorded");
		pause_vm();
		/* What is saved of it has no record. */
		rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"snap2\"}");
		ck_assert_uint_eq(count_files("snap2"), 2);
		ck_assert_int_eq(truncate("snap/working-set", 65), 0);
	}
	(void)unlink("kept");
	remove_snapshot("snap");
	remove_snapshot("snap2");
}
END_TEST

START_TEST(test_record_refused)
{
	static const char *const bodies[] = {
		"{\"directory\": \"snap\", \"record_working_set\": true}",
		"{\"directory\": \"snap\", \"memory_mode\": \"read\", \"record_working_set\": "
		"true}",
		"{\"snapshot_path\": \"s\", \"mem_file_path\": \"m\", \"memory_mode\": \"lazy\", "
		"\"record_working_set\": true}",
	};

	make_snapshot();
	rig_refused(REQUEST_PUT_SNAPSHOT_MARK, NULL, NULL, ERROR_WRONG_STATE, "before starting");
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		rig_refused(REQUEST_PUT_SNAPSHOT_LOAD, NULL, bodies[i], ERROR_CONFIG,
			    "record_working_set");
	}
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, RECORD);
	expect_goes_on();
	remove_snapshot("snap");
	rig_refused(REQUEST_PUT_SNAPSHOT_MARK, NULL, NULL, ERROR_NOT_FOUND, "no longer there");
	/* It runs on all the same. */
	ck_assert(state_is(INSTANCE_RUNNING));
	rig_ok(REQUEST_PUT_ACTION, NULL, "{\"action_type\": \"Stop\"}");
	step_until(rig.ended == 1);
	rig_refused(REQUEST_PUT_SNAPSHOT_MARK, NULL, NULL, ERROR_WRONG_STATE, "ended");
}
END_TEST

/* --- memory that turns out to be damaged --------------------------------------------------------- */

/* The first page that is stored, or the last: behind it is what binds the file. */
static void damage(const char *path, bool last)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	off_t at = lseek(fd, 0, SEEK_DATA), next = at;
	const off_t end = lseek(fd, 0, SEEK_END) - (off_t)PAGE_SIZE_4K;
	uint8_t byte;

	while (last && next >= 0 && next < end) {
		at = next;
		next = lseek(fd, lseek(fd, at, SEEK_HOLE), SEEK_DATA);
	}

	ck_assert_int_eq(pread(fd, &byte, 1, at + 100), 1);
	byte ^= 1;
	ck_assert_int_eq(pwrite(fd, &byte, 1, at + 100), 1);
	(void)close(fd);
}

/* The load is refused if it has met the damage itself; else the VM ends when it comes up, and nothing hangs. */
START_TEST(test_lost)
{
	json_t *json = json_loads("{\"directory\": \"snap\", \"resume_vm\": true, "
				  "\"memory_mode\": \"lazy\"}",
				  0, NULL);
	int r;

	make_snapshot();
	damage("snap/memory", _i == 1);
	r = rig_request(REQUEST_PUT_SNAPSHOT_LOAD, NULL, json, NULL);
	json_decref(json);
	if (r == 0) {
		step_until(rig.ended == 1);
		ck_assert_int_eq(rig.stop.reason, VM_STOP_ERROR);
		ck_assert_ptr_nonnull(strstr(rig.stop.error.msg, "checksum"));
	} else {
		ck_assert_ptr_nonnull(strstr(rig.e.msg, "checksum"));
		ck_assert(state_is(INSTANCE_NOT_STARTED));
	}
	remove_snapshot("snap");
}
END_TEST

CHECK_MAIN("instance_restore", skip_without_kvm(); CHECK_FIXTURE(setup, rig_teardown);
	   CHECK_TABLE(test_load, loads); CHECK_TEST(test_load_paused); CHECK_TEST(test_bad_loads);
	   CHECK_TEST(test_not_fresh); CHECK_TEST(test_other_disk); CHECK_TEST(test_strange_config);
	   CHECK_TABLE(test_sizes, sizes); CHECK_TEST(test_reset);
	   CHECK_LOOP(test_handler_reset, 10); CHECK_TEST(test_handler); CHECK_TEST(test_record);
	   CHECK_TEST(test_record_refused); CHECK_LOOP(test_lost, 2))
