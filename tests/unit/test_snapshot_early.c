/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children of a memory that goes on, by a snapshot that is still being written, with the host's userfaultfd: a parent whose pages are written all
 * the time, one who copies as slowly as the test lets him, and memories that are loaded meanwhile.
 */
#include "harness/snapshot_rig.h"

#include <linux/magic.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "vmm/freezer.h"

#define SIZE   (MIB(16) + KIB(12)) /* its last chunk is a short one */
#define PAGES  (SIZE / PAGE)
#define CHUNKS 9
/* Of which nothing is in use, and of which only zeroes are. */
#define FRESH	  5
#define ZEROES	  6
#define WRITERS	  2
#define CHILDREN  50
#define ENOUGH	  1000000
#define DIRECTORY "image"

static struct guest_memory mem, child;
static struct freezer *freezer;
static struct snapshot_writer *writer;
static int freezer_fd = -1;
static uint8_t *want;

/* --- the parent: each of its pages has a number at both ends, which goes up again and again ------ */

static struct {
	pthread_t threads[WRITERS];
	pthread_rwlock_t at_rest; /* held to write by who stops them */
	_Atomic bool end;
	uint32_t count;
} writers;

static bool is_in_use(uint64_t page)
{
	return page / FREEZER_CHUNK_PAGES != FRESH && page / FREEZER_CHUNK_PAGES != ZEROES;
}

static void *write_pages(void *arg)
{
	const uintptr_t which = (uintptr_t)arg;

	while (!atomic_load(&writers.end)) {
		for (uint64_t page = which; page < PAGES; page += WRITERS) {
			uint8_t *bytes = mem.regions[0].host + page * PAGE;

			if (!is_in_use(page)) {
				continue;
			}
			(void)pthread_rwlock_rdlock(&writers.at_rest);
			atomic_fetch_add((_Atomic uint32_t *)(void *)bytes, 1);
			atomic_fetch_add((_Atomic uint32_t *)(void *)(bytes + PAGE - 4), 1);
			(void)pthread_rwlock_unlock(&writers.at_rest);
		}
	}
	return NULL;
}

static void start_writers(void)
{
	for (uintptr_t i = 0; i < WRITERS; i++) {
		ck_assert_int_eq(pthread_create(&writers.threads[i], NULL, write_pages, (void *)i),
				 0);
		writers.count++;
	}
}

static void stop_writers(void)
{
	atomic_store(&writers.end, true);
	while (writers.count > 0) {
		(void)pthread_join(writers.threads[--writers.count], NULL);
	}
}

static void make_parent(void)
{
	const struct guest_region_config config = { .size = SIZE, .backing = GUEST_MEMORY_ANON };

	check_ok(guest_memory_add(&mem, &config, &err), &err);
	for (uint64_t page = 0; page < PAGES; page++) {
		if (is_in_use(page) && page % 5 != 4) {
			memset(mem.regions[0].host + page * PAGE + 8, (int)(page % 250 + 1), 100);
		}
	}
	mem.regions[0].host[ZEROES * SNAPSHOT_CHUNK] = 0;
}

/* --- who copies ---------------------------------------------------------------------------------- */

/* Each lets him write a chunk more; with `give_up` he is told to stop. */
static sem_t tickets;
static _Atomic bool give_up, published;
static struct {
	pthread_t thread;
	bool runs;
	int result;
	struct error error;
} copier;

static bool step(void *arg, const char *phase, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)done;
	(void)total;
	if (!atomic_load(&published)) {
		return strcmp(phase, SNAPSHOT_PHASE_EARLY) == 0;
	}
	while (sem_wait(&tickets) != 0) {
	}
	return !atomic_load(&give_up);
}

static void *copy(void *arg)
{
	(void)arg;
	copier.result = snapshot_writer_frozen(writer, freezer, &copier.error);
	return NULL;
}

static void start_copier(void)
{
	ck_assert_int_eq(pthread_create(&copier.thread, NULL, copy, NULL), 0);
	copier.runs = true;
}

static void let_copy(unsigned chunks)
{
	for (unsigned i = 0; i < chunks; i++) {
		(void)sem_post(&tickets);
	}
}

static void end_copier(void)
{
	if (copier.runs) {
		let_copy(1000);
		(void)pthread_join(copier.thread, NULL);
		copier.runs = false;
	}
}

static bool go_on(void *arg)
{
	(void)arg;
	return true;
}

/* The moment: everybody stands still. */
static int publish_of(struct guest_memory *of, const char *directory)
{
	const struct freezer_config config = { .mem = of, .fd = freezer_fd, .pagemap_fd = pagemap };
	const struct snapshot_writer_config wanted = { .paths = in_directory(directory),
						       .mem = of,
						       .pagemap_fd = pagemap,
						       .watch = { step, NULL } };

	check_ok(snapshot_writer_create(&writer, &wanted, &err), &err);
	check_ok(freezer_create(&freezer, &config, &err), &err);
	freezer_arm(freezer);
	check_ok(freezer_wait(freezer, go_on, NULL, &err), &err);
	(void)pthread_rwlock_wrlock(&writers.at_rest);
	check_ok(freezer_freeze(freezer, NULL, &err), &err);
	memcpy(want, of->regions[0].host, SIZE);
	(void)pthread_rwlock_unlock(&writers.at_rest);
	return snapshot_writer_publish(writer, freezer, contents(), &err);
}

static void publish(void)
{
	check_ok(publish_of(&mem, DIRECTORY), &err);
	atomic_store(&published, true);
}

static void end_writing(void)
{
	end_copier();
	freezer_destroy(take_ptr(freezer));
	snapshot_writer_destroy(take_ptr(writer));
}

/* --- children ------------------------------------------------------------------------------------ */

static int load_child(struct guest_memory *ret, const char *directory)
{
	const struct snapshot_reader_config config = { .paths = in_directory(directory),
						       .early = true };
	void (*lost)(struct guest_memory * mem, const struct error *why) = ret->lost;
	struct snapshot_reader *reader = NULL;
	int r = snapshot_reader_create(&reader, &config, &err);

	*ret = (struct guest_memory){ .lost = lost };
	if (r == 0) {
		ck_assert(snapshot_reader_info(reader)->early);
		r = snapshot_reader_load_early(&reader, ret, &(struct snapshot_lazy){ 0 }, &err);
	}
	snapshot_reader_destroy(reader);
	return r;
}

static bool is_as_then(const struct guest_memory *of, uint64_t page)
{
	return memcmp(of->regions[0].host + page * PAGE, want + page * PAGE, PAGE) == 0;
}

/* One who touches a child's memory, from `first` on, and is stopped by what is missing. */
struct toucher {
	pthread_t thread;
	struct guest_memory *of;
	uint64_t first, pages;
	_Atomic uint64_t wrong, done;
};

static void *touch(void *arg)
{
	struct toucher *toucher = arg;

	for (uint64_t i = 0; i < toucher->pages; i++) {
		if (!is_as_then(toucher->of, (toucher->first + i) % PAGES)) {
			atomic_fetch_add(&toucher->wrong, 1);
		}
		atomic_fetch_add(&toucher->done, 1);
	}
	return NULL;
}

static void start_touching(struct toucher *toucher)
{
	ck_assert_int_eq(pthread_create(&toucher->thread, NULL, touch, toucher), 0);
}

/* Until it has been asked for that many chunks, in the queue of the parent, who does not read it. */
static void await_asks(int count)
{
	auto_close int fd = open(path_of(DIRECTORY "/asks"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int bytes = 0;

	ck_assert_int_ge(fd, 0);
	while (bytes < count * 4) {
		ck_assert_int_eq(ioctl(fd, FIONREAD, &bytes), 0);
		(void)usleep(500);
	}
}

/* A freezer for another memory says nothing of this one: all of it has arrived. */
static void await_all(struct guest_memory *of)
{
	const struct freezer_config config = { .mem = of, .fd = freezer_fd, .pagemap_fd = pagemap };
	struct freezer *other = NULL;

	while (freezer_create(&other, &config, &err) < 0) {
		check_error(&err, ERROR_NOT_SUPPORTED, "write protection");
		ck_assert(!atomic_load(&of->regions[0].held));
		(void)usleep(1000);
	}
	freezer_destroy(other);
}

static void check_whole(const struct guest_memory *of)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		ck_assert_msg(is_as_then(of, page), "page %u", (unsigned)page);
	}
}

static void setup_one(void)
{
	pthread_rwlockattr_t attr;

	rig_setup();
	freezer_fd = freezer_open();
	want = calloc(1, SIZE);
	ck_assert_int_eq(sem_init(&tickets, 0, 0), 0);
	atomic_store(&give_up, false);
	atomic_store(&published, false);
	atomic_store(&writers.end, false);
	/* Who stops the others gets his turn. */
	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&writers.at_rest, &attr);
	make_parent();
}

static void teardown_one(void)
{
	stop_writers();
	end_writing();
	guest_memory_finish(&child);
	guest_memory_finish(&mem);
	close_fd(&freezer_fd);
	free(want);
	rig_teardown();
}

/* --- tests --------------------------------------------------------------------------------------- */

/* They run before a byte is copied, while all of it is written, and each has what it was; then nothing of the pager is left. */
START_TEST(test_children)
{
	static struct guest_memory children[CHILDREN];
	static struct toucher touchers[CHILDREN];

	start_writers();
	publish();
	for (uint64_t i = 0; i < CHILDREN; i++) {
		children[i] = (struct guest_memory){ 0 };
		check_ok(load_child(&children[i], DIRECTORY), &err);
		touchers[i] = (struct toucher){ .of = &children[i],
						.first = i * 311 % PAGES,
						.pages = PAGES };
		start_touching(&touchers[i]);
	}
	await_asks(CHILDREN / 2);
	for (size_t i = 0; i < CHILDREN; i++) {
		/* Where nothing was in use it runs already. */
		ck_assert_uint_le(atomic_load(&touchers[i].done), 2ULL * FREEZER_CHUNK_PAGES);
	}
	start_copier();
	let_copy(ENOUGH);
	for (size_t i = 0; i < CHILDREN; i++) {
		(void)pthread_join(touchers[i].thread, NULL);
		ck_assert_uint_eq(atomic_load(&touchers[i].wrong), 0);
		ck_assert_uint_eq(atomic_load(&touchers[i].done), PAGES);
	}
	end_writing();
	ck_assert_int_eq(copier.result, 0);
	for (size_t i = 0; i < CHILDREN; i++) {
		await_all(&children[i]);
		/* Its own from now on. */
		memset(children[i].regions[0].host, (int)i, SIZE);
		guest_memory_finish(&children[i]);
	}
	ck_assert_int_lt(load_child(&child, "nothing"), 0);
}
END_TEST

/* What is waited for comes first, whatever else there is, also where its last chunk is a short one. */
START_TEST(test_asked_first)
{
	struct toucher toucher = { .of = &child,
				   .first = _i == 0 ? PAGES - 1 : 7 * FREEZER_CHUNK_PAGES + 7,
				   .pages = 1 };
	struct toucher other = { .of = &child, .first = 4 * FREEZER_CHUNK_PAGES, .pages = 1 };

	publish();
	check_ok(load_child(&child, DIRECTORY), &err);
	start_touching(&toucher);
	await_asks(1);
	start_copier();
	/* It writes one, and none other. */
	(void)pthread_join(toucher.thread, NULL);
	ck_assert_uint_eq(atomic_load(&toucher.wrong), 0);
	start_touching(&other);
	let_copy(ENOUGH);
	(void)pthread_join(other.thread, NULL);
	ck_assert_uint_eq(atomic_load(&other.wrong), 0);
	end_writing();
	check_whole(&child);
	await_all(&child);
}
END_TEST

/* Some of it is there as a child comes, or all of it. */
START_TEST(test_late)
{
	start_writers();
	publish();
	start_copier();
	let_copy(_i == 0 ? 3 : ENOUGH);
	if (_i == 1) {
		end_writing();
	}
	check_ok(load_child(&child, DIRECTORY), &err);
	ck_assert(_i == 0 || child.pager == NULL);
	let_copy(ENOUGH);
	check_whole(&child);
	end_writing();
	await_all(&child);
	check_whole(&child);
}
END_TEST

static _Atomic unsigned told;
static struct error why;

static void memory_lost(struct guest_memory *of, const struct error *e)
{
	(void)of;
	why = *e;
	atomic_fetch_add(&told, 1);
}

static void await_loss(void)
{
	while (atomic_load(&told) == 0) {
		(void)usleep(1000);
	}
	ck_assert_uint_eq(atomic_load(&told), 1);
	check_error(&why, ERROR_SNAPSHOT, "forked from has ended, or given up");
	ck_assert_int_lt(pager_check(child.pager, &err), 0);
}

/* & 1: somebody waits for a chunk. & 2: some of them are there. */
START_TEST(test_given_up)
{
	struct toucher toucher = { .of = &child, .first = 8 * FREEZER_CHUNK_PAGES, .pages = 1 };

	publish();
	atomic_store(&told, 0);
	child.lost = memory_lost;
	check_ok(load_child(&child, DIRECTORY), &err);
	if ((_i & 1) != 0) {
		start_touching(&toucher);
		await_asks(1);
	}
	if ((_i & 2) != 0) {
		start_copier();
		let_copy(2);
	}
	atomic_store(&give_up, true);
	end_writing();
	await_loss();
	if ((_i & 1) != 0) {
		/* Let go after all have been told. */
		(void)pthread_join(toucher.thread, NULL);
	}
	guest_memory_finish(&child);
	ck_assert_int_lt(load_child(&child, DIRECTORY), 0);
	check_error(&err, ERROR_SNAPSHOT, "forked from has ended, or given up");
}
END_TEST

/* A parent that is a process of its own, and is killed. */
START_TEST(test_killed)
{
	struct toucher toucher = { .of = &child, .first = 7, .pages = 1 };
	int ready[2];
	char byte;
	pid_t pid;

	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		close_fd(&pagemap);
		pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
		close_fd(&freezer_fd);
		freezer_fd = freezer_open();
		publish();
		(void)!write(ready[1], "x", 1);
		for (;;) {
			(void)pause();
		}
	}
	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	atomic_store(&told, 0);
	child.lost = memory_lost;
	check_ok(load_child(&child, DIRECTORY), &err);
	start_touching(&toucher);
	await_asks(1);
	/* It waits as long as its parent lives, whatever that does. */
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	(void)usleep(50000);
	ck_assert_uint_eq(atomic_load(&told), 0);
	ck_assert_uint_eq(atomic_load(&toucher.done), 0);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	await_loss();
	(void)pthread_join(toucher.thread, NULL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	(void)close(ready[0]);
	(void)close(ready[1]);
}
END_TEST

/* A child whose host gives it no userfaultfd: it waits for all of it. 0: it has what it was. */
static int load_without_pager(void)
{
	const struct snapshot_reader_config config = { .paths = in_directory(DIRECTORY),
						       .early = true };
	struct snapshot_reader *reader = NULL;

	check_ok(snapshot_reader_create(&reader, &config, &err), &err);
	if (setresuid(65534, 65534, 65534) != 0 || can_load_lazily()) {
		return 77;
	}
	check_ok(snapshot_reader_load_early(&reader, &child, &(struct snapshot_lazy){ 0 }, &err),
		 &err);
	for (uint64_t page = 0; page < PAGES; page++) {
		if (!is_as_then(&child, page)) {
			return 1;
		}
	}
	return child.pager == NULL && reader != NULL ? 0 : 2;
}

START_TEST(test_without_pager)
{
	int status;
	pid_t pid;

	publish();
	pid = fork();
	if (pid == 0) {
		_exit(load_without_pager());
	}
	ck_assert_int_gt(pid, 0);
	start_copier();
	let_copy(ENOUGH);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		CHECK_SKIP("nobody is without userfaultfd here, or this is not root");
	}
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/* Whatever others write into the queue: half numbers, numbers of no chunk, the same again and again, until it is full. */
START_TEST(test_garbage)
{
	static const uint32_t numbers[] = { 16, 16, 17, FRESH, UINT32_MAX, 1U << 31, ZEROES, 3, 3 };
	struct toucher toucher = { .of = &child, .first = 5, .pages = PAGES };
	auto_close int fd = -1;

	start_writers();
	publish();
	fd = open(path_of(DIRECTORY "/asks"), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	if (_i == 0) {
		ck_assert_int_eq(write(fd, numbers, sizeof(numbers)), sizeof(numbers));
	} else if (_i == 1) {
		ck_assert_int_eq(write(fd, "abc", 3), 3);
	} else {
		while (write(fd, numbers, sizeof(numbers)) > 0) {
		}
	}
	check_ok(load_child(&child, DIRECTORY), &err);
	start_touching(&toucher);
	start_copier();
	let_copy(ENOUGH);
	(void)pthread_join(toucher.thread, NULL);
	ck_assert_uint_eq(atomic_load(&toucher.wrong), 0);
	end_writing();
	ck_assert_int_eq(copier.result, 0);
}
END_TEST

/* A child that goes away while it waits, and one that resets: its parent and its brothers notice nothing. */
START_TEST(test_child_ends)
{
	static struct guest_memory gone;
	struct toucher toucher = { .of = &gone, .first = 0, .pages = 1 };

	publish();
	gone = (struct guest_memory){ 0 };
	check_ok(load_child(&gone, DIRECTORY), &err);
	check_ok(load_child(&child, DIRECTORY), &err);
	start_touching(&toucher);
	await_asks(1);
	check_ok(guest_memory_discard(&gone, &err), &err);
	(void)pthread_join(toucher.thread, NULL);
	for (uint64_t at = 0; at < SIZE; at += PAGE) {
		ck_assert_uint_eq(gone.regions[0].host[at + 8], 0);
	}
	guest_memory_finish(&gone);
	check_ok(load_child(&gone, DIRECTORY), &err);
	guest_memory_finish(&gone);
	start_copier();
	let_copy(ENOUGH);
	check_whole(&child);
}
END_TEST

/* A machine reset of the parent: what it was is copied still. */
START_TEST(test_parent_resets)
{
	publish();
	check_ok(load_child(&child, DIRECTORY), &err);
	start_copier();
	let_copy(2);
	check_ok(guest_memory_discard(&mem, &err), &err);
	memset(mem.regions[0].host, 0x77, SIZE);
	let_copy(ENOUGH);
	check_whole(&child);
}
END_TEST

struct saving {
	struct snapshot_paths paths;
	int result;
};

static void *save_child(void *arg)
{
	struct saving *saving = arg;

	saving->result = save(&child, saving->paths, NULL, (struct snapshot_watch){ 0 });
	return NULL;
}

/* A child is saved while pages arrive: it waits for them. When all are there it can have children itself. */
START_TEST(test_child_of_child)
{
	const struct freezer_config config = { .mem = &child,
					       .fd = freezer_fd,
					       .pagemap_fd = pagemap };
	struct freezer *other = NULL;
	static struct guest_memory grandchild;
	struct saving saving = { .paths = in_directory("saved"), .result = -1 };
	pthread_t thread;
	static struct guest_memory loaded;

	publish();
	check_ok(load_child(&child, DIRECTORY), &err);
	ck_assert_int_lt(freezer_create(&other, &config, &err), 0);
	check_error(&err, ERROR_NOT_SUPPORTED, "write protection");
	ck_assert_int_eq(pthread_create(&thread, NULL, save_child, &saving), 0);
	await_asks(1);
	start_copier();
	let_copy(ENOUGH);
	(void)pthread_join(thread, NULL);
	ck_assert_int_eq(saving.result, 0);
	end_writing();
	check_ok(load(&loaded, in_directory("saved"), SNAPSHOT_LOAD_MAP), &err);
	check_whole(&loaded);
	guest_memory_finish(&loaded);
	await_all(&child);
	memset(child.regions[0].host + FRESH * SNAPSHOT_CHUNK, 0x44, 3 * PAGE);
	memset(child.regions[0].host + 3 * PAGE, 0x55, PAGE);
	check_ok(publish_of(&child, "second"), &err);
	check_ok(load_child(&grandchild, "second"), &err);
	memset(child.regions[0].host, 0x66, MIB(1));
	start_copier();
	let_copy(ENOUGH);
	check_whole(&grandchild);
	end_writing();
	guest_memory_finish(&grandchild);
}
END_TEST

/* Nobody else takes it for a snapshot, neither before all is there nor afterwards. */
START_TEST(test_no_snapshot)
{
	struct snapshot_reader_config config = { .paths = in_directory(DIRECTORY) };
	const struct snapshot_paths parent = in_directory(DIRECTORY);
	struct snapshot_reader *reader = NULL;

	publish();
	for (int i = 0; i < 4; i++) {
		config.state_only = i % 2 == 1;
		ck_assert_int_lt(snapshot_reader_create(&reader, &config, &err), 0);
		check_error(&err, ERROR_SNAPSHOT, "for its children");
		if (i == 1) {
			start_copier();
			end_writing();
		}
	}
	check_ok(guest_memory_dirty_start(&mem, &err), &err);
	ck_assert_int_lt(save(&mem, in_directory("diff"), &parent, (struct snapshot_watch){ 0 }),
			 0);
	check_error(&err, ERROR_SNAPSHOT, "for its children");
	check_ok(snapshot_remove(&parent, &err), &err);
	ck_assert_int_eq(entries_of(top), 0);
}
END_TEST

/* Places that cannot be read early: it is a snapshot as any other then. */
START_TEST(test_not_here)
{
	struct snapshot_writer_config config = { .paths = in_files("s", "m"),
						 .mem = &mem,
						 .pagemap_fd = pagemap };

	check_ok(snapshot_writer_create(&writer, &config, &err), &err);
	ck_assert_int_lt(snapshot_writer_publish(writer, NULL, contents(), &err), 0);
	check_error(&err, ERROR_NOT_SUPPORTED, "in a directory");
	check_ok(snapshot_writer_scan(writer, &err), &err);
	check_ok(snapshot_writer_run(writer, &err), &err);
	check_ok(snapshot_writer_commit(writer, contents(), &err), &err);
	check_ok(load(&child, in_files("s", "m"), SNAPSHOT_LOAD_MAP), &err);
	ck_assert(same_memory(&mem, &child));
}
END_TEST

/* Files that somebody else has written into. */
START_TEST(test_hostile)
{
	const char *memory = path_of(DIRECTORY "/memory");
	const uint64_t marks = CHUNKS * SNAPSHOT_CHUNK + PAGE;
	auto_close int fd = -1;

	publish();
	fd = open(memory, O_RDWR | O_CLOEXEC);
	if (_i == 0) {
		ck_assert_int_eq(pwrite(fd, "\x07", 1, (off_t)marks + 2), 1);
	} else if (_i == 1) {
		ck_assert_int_eq(ftruncate(fd, (off_t)marks), 0);
	} else if (_i == 2) {
		ck_assert_int_eq(pwrite(fd, "\x07", 1, (off_t)marks - 100), 1);
	} else {
		atomic_store(&told, 0);
		child.lost = memory_lost;
		check_ok(load_child(&child, DIRECTORY), &err);
		ck_assert_int_eq(_i == 3 ? (int)pwrite(fd, "\x03", 1, (off_t)marks + 2)
					 : ftruncate(fd, (off_t)marks) + 1,
				 1);
		while (atomic_load(&told) == 0) {
			(void)usleep(1000);
		}
		check_error(&why, ERROR_SNAPSHOT, "memory");
		return;
	}
	ck_assert_int_lt(load_child(&child, DIRECTORY), 0);
	check_error(&err, ERROR_SNAPSHOT, "memory");
}
END_TEST

/* In memory, as the runtime directory is: there children can be frozen as well. */
static void skip_without_protection(void)
{
	int fd = freezer_open();
	struct statfs st;

	if (statfs("/dev/shm", &st) != 0 || st.f_type != TMPFS_MAGIC ||
	    access("/dev/shm", W_OK) != 0) {
		printf("1..0 # SKIP /dev/shm is no tmpfs\n");
		exit(EXIT_SUCCESS);
	}
	(void)setenv("TMPDIR", "/dev/shm", 1);

	if (fd < 0) {
		printf("1..0 # SKIP userfaultfd with write protection: %s\n", strerrordesc_np(-fd));
		exit(EXIT_SUCCESS);
	}
	(void)close(fd);
}

CHECK_MAIN("snapshot_early", skip_without_protection(); CHECK_FIXTURE(setup_one, teardown_one);
	   CHECK_TEST(test_children); CHECK_LOOP(test_asked_first, 2); CHECK_LOOP(test_late, 2);
	   CHECK_LOOP(test_given_up, 4); CHECK_TEST(test_killed); CHECK_TEST(test_without_pager);
	   CHECK_LOOP(test_garbage, 3); CHECK_TEST(test_child_ends); CHECK_TEST(test_parent_resets);
	   CHECK_TEST(test_child_of_child); CHECK_TEST(test_no_snapshot); CHECK_TEST(test_not_here);
	   CHECK_LOOP(test_hostile, 5))
