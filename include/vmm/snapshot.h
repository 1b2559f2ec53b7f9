/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a snapshot, without any VM: writing them so that they are there as a whole or not at all, and reading them as
 * what a stranger wrote. docs/snapshot.md has the format and its promises.
 *
 * A snapshot is two files, `state` and `memory`: in a directory of its own, or of any names (Firecracker's form). `state` has
 * who made it, the VM's configuration, the encoded state of vCPUs and devices, and what the memory file has, with checksums.
 * `memory` has each page at a fixed place, and holes. A full snapshot has all that is not zero; a diff has what was written since
 * its parent, which lies beside it (same folder) or is named by the caller.
 *
 * To write:
 *
 *	snapshot_writer_create()	allocates, opens, makes both files under other names; fails early. The VM runs
 *	pause the VM
 *	snapshot_writer_scan()		full: which pages may hold something.
 *	or guest_region_dirty_collect(..., snapshot_writer_pages(), ...) of each region	diff
 *	snapshot_writer_run()		the pages, on as many threads as call it
 *	resume the VM
 *	snapshot_writer_commit()	state, syncs, renames
 *	snapshot_writer_destroy()	in any case: what has not been committed is removed
 *
 * To read: snapshot_reader_create() checks and holds all of `state`, of the parents too; then snapshot_reader_info(),
 * snapshot_reader_load() into a guest memory, or snapshot_reader_verify().
 *
 * Threads: an object belongs to one thread at a time, but for what says otherwise. Nothing is shared between objects.
 * Errors: ERROR_SNAPSHOT: these files, or where they are; ERROR_NOT_FOUND: there is none; ERROR_EXISTS: something else is in the place; ERROR_CANCELLED; each names the path.
 */
#ifndef VMM_SNAPSHOT_H
#define VMM_SNAPSHOT_H

#include <fcntl.h>
#include <sys/stat.h>

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/json.h"
#include "vmm/syscalls.h"

/* That is written; read are all from 1 on. */
#define SNAPSHOT_FORMAT	 1
#define SNAPSHOT_ID_SIZE 16
/* The same in hexadecimal, with its NUL. */
#define SNAPSHOT_ID_TEXT 33
/* Of the memory file: what has a checksum of its own. */
#define SNAPSHOT_CHUNK MIB(2)
/* Snapshots on top of each other, the full one counted as well. */
#define SNAPSHOT_CHAIN_MAX 64
/* Bytes. */
#define SNAPSHOT_TEXT_MAX    MIB(1)  /* of "about", of the configuration */
#define SNAPSHOT_MACHINE_MAX MIB(64) /* of the state of vCPUs and devices */

/* One of three. All borrowed. */
struct snapshot_paths {
	const char *directory;	    /* which has `state` and `memory` */
	const char *state, *memory; /* two files */
	/* Two open ones, such as memfds: state, memory. To write: empty; nothing is synced or renamed. */
	const int *fds;
};

/*
 * Who wants to know how far it is, and may end it. Called after each piece of at most some MiB, by each thread that works;
 * false: stop (ERROR_CANCELLED, -ECANCELED). `phase` is a literal. step NULL: nobody.
 */
struct snapshot_watch {
	bool (*step)(void *arg, const char *phase, uint64_t done, uint64_t total);
	void *arg;
};

/* --- writing --- */

struct snapshot_writer;

struct snapshot_writer_config {
	struct snapshot_paths paths;
	/*
	 * Its regions, as they are now, are what is saved; none comes or goes until the writer is destroyed. Borrowed.
	 */
	struct guest_memory *mem;
	/*
	 * /proc/self/pagemap, opened by this process (it shows the memory of whoever opened it) before it lost the right
	 * to; borrowed. -1: anonymous memory is read to find what is zero, which touches all of it.
	 */
	int pagemap_fd;
	/* Of a diff: a snapshot of this VM. What it has of memory is what this VM's memory was when its dirty pages were
	 * last collected. All NULL: full. */
	struct snapshot_paths parent;
	struct snapshot_watch watch;
	/*
	 * Memory is stored compressed (zstd), by run() and chunk(): each thread that runs allocates some 5 MiB, at first. Such a snapshot cannot be mapped
	 * as it is. ERROR_NOT_SUPPORTED by a vmm without the library.
	 */
	bool compress;
	/* Waits for nothing to be on the disk: for tests and for what need not outlive the host. */
	bool no_sync;
};

/*
 * Makes the files beside their places under names that nobody has (".NAME.ID.new"), and removes what writers that were killed
 * have left there under such names. What is there already is left alone until
 * the commit, which replaces it if it is a snapshot or empty; anything else is refused now. A directory that is to be replaced must have no files that are
 * not of a snapshot.
 * The only function of the writer that allocates memory, opens a client's path or makes a file.
 */
int snapshot_writer_create(struct snapshot_writer **ret,
			   const struct snapshot_writer_config *config, struct error *e);
/* In hexadecimal. Drawn when it was created. */
const char *snapshot_writer_id(const struct snapshot_writer *w);
/* Directory form: an open directory, in which whoever likes makes further files, "disk-*" or "working-set", until the commit; -1
 * otherwise. The writer's. */
int snapshot_writer_directory(const struct snapshot_writer *w);

/*
 * Which pages of the guest memory's region `index` are looked at: bit n is its page n. Zeroed at first; the caller sets what it
 * likes. *bits, a multiple of 64, is what guest_region_dirty_collect() wants. NULL if there is no such region.
 */
uint64_t *snapshot_writer_pages(struct snapshot_writer *w, uint32_t index, uint64_t *bits);
/* Sets in all regions what may be other than zero. Full snapshots; the VM is at rest. */
int snapshot_writer_scan(struct snapshot_writer *w, struct error *e);
/* Bytes of the pages that are set: what is read at most. */
uint64_t snapshot_writer_bytes(const struct snapshot_writer *w);

/*
 * Any number of threads at the same time: writes chunks that nobody has taken yet until there is none. Memory is at rest. All
 * have to return, successfully, before the commit. The first failure ends them all; each returns one.
 */
int snapshot_writer_run(struct snapshot_writer *w, struct error *e);
/*
 * For who has a frozen copy of a chunk in another place. Chunk `chunk` of all (snapshot_writer_chunk_place()), from `bytes`, of
 * which only the pages set are read. Each chunk once, by run() or by this; any thread, different chunks at the same time.
 */
int snapshot_writer_chunk(struct snapshot_writer *w, uint32_t chunk, const uint8_t *bytes,
			  struct error *e);
uint32_t snapshot_writer_chunks(const struct snapshot_writer *w);
/* Where a chunk is: region of the guest memory, offset in it, length (2 MiB, but a region's last may be shorter). */
void snapshot_writer_chunk_place(const struct snapshot_writer *w, uint32_t chunk, uint32_t *index,
				 uint64_t *offset, uint64_t *len);

/*
 * Instead of run(), of a VM that runs and whose pages are tracked (vmm/guest_memory.h); one thread:
 *
 *	snapshot_writer_begin_live()		reserves what hold() needs
 *	snapshot_writer_scan(), or a collection; snapshot_writer_pass()
 *	a collection; snapshot_writer_pass()	as often as it pays: each time fewer pages are set
 *	pause the VM; the last collection; snapshot_writer_hold(); resume the VM
 *	snapshot_writer_settle()
 *
 * pass() writes the pages that are set, and hold() copies them into memory; none are set afterwards.
 */
int snapshot_writer_begin_live(struct snapshot_writer *w, struct error *e);
int snapshot_writer_pass(struct snapshot_writer *w, struct error *e);
void snapshot_writer_hold(struct snapshot_writer *w);
int snapshot_writer_settle(struct snapshot_writer *w, struct error *e);

/*
 * Instead of run(), of a VM that runs and whose memory is frozen (vmm/freezer.h): all chunks as they were at that moment. Of a diff a
 * collection has set the pages before, and freezer_freeze() has been given the list that snapshot_writer_wanted() fills, by region. One thread.
 */
int snapshot_writer_frozen(struct snapshot_writer *w, struct freezer *freezer, struct error *e);
void snapshot_writer_wanted(struct snapshot_writer *w, uint64_t *pages[GUEST_MEMORY_REGIONS_MAX]);

/* What memory is not. Borrowed. */
struct snapshot_contents {
	const char *about;   /* JSON object: host, processor, time, name, disks: the caller's */
	const char *config;  /* JSON object: of which the VM is built again */
	const void *machine; /* state_set_save() */
	size_t machine_len;
};

/*
 * All is written and on the disk, then takes its place. An error before the last step leaves what was there before. An error of
 * the sync that follows it says that the snapshot is in its place but may not survive a power cut.
 */
int snapshot_writer_commit(struct snapshot_writer *w, const struct snapshot_contents *contents,
			   struct error *e);
/*
 * Of a VM that runs, instead of a commit: it can be loaded while its pages are still written ("early"), and by nobody later. In a directory, full and
 * not compressed; never synced.
 *
 *	snapshot_writer_create()
 *	freezer_freeze()		all of memory; from here on it is known which chunks there are to come
 *	snapshot_writer_publish()	`state` and a `memory` without pages take their place: now they can be loaded
 *	snapshot_writer_frozen()	the pages. A chunk that a reader asks for comes before others
 *	snapshot_writer_destroy()	a reader that still lacks anything is told by this that it will not come
 *
 * Readers hear of each chunk when it is whole, and see none before. They are not trusted: what they ask for is a number of a chunk, in a queue of the
 * host's that is of bounded length, and changes nothing but the order. They need write access to that queue and to nothing else, and the right to
 * open files in the directory until they have been loaded, after which its names may go.
 *
 * ERROR_NOT_SUPPORTED: not in this place; everything is as if it had not been called.
 */
int snapshot_writer_publish(struct snapshot_writer *w, const struct freezer *freezer,
			    const struct snapshot_contents *contents, struct error *e);
#define SNAPSHOT_PHASE_EARLY "memory, for children that run" /* of the watcher, since then */
/* Bytes of pages stored so far. Any thread. */
uint64_t snapshot_writer_stored(const struct snapshot_writer *w);
/* Removes what was not committed. Accepts NULL. */
void snapshot_writer_destroy(struct snapshot_writer *w);

/* --- reading --- */

struct snapshot_reader;

struct snapshot_region {
	uint32_t kind; /* enum guest_region_kind */
	gpa_t gpa;
	uint64_t size;
	uint64_t offset; /* in the memory file */
};

/* As long as the reader. */
struct snapshot_info {
	char id[SNAPSHOT_ID_TEXT];
	char parent_id[SNAPSHOT_ID_TEXT]; /* "": full */
	char version[32];		  /* of the vmm that wrote it */
	uint32_t format;
	uint64_t created;	    /* seconds since 1970 */
	const char *about, *config; /* text, JSON as the writer promised: parse it */
	const uint8_t *machine;
	size_t machine_len;
	uint32_t region_count;
	struct snapshot_region regions
		[GUEST_MEMORY_REGIONS_MAX]; /* ascending, apart, aligned as guest memory's are */
	uint64_t memory_size;		    /* bytes of all regions */
	uint64_t stored;		    /* bytes of pages in this snapshot's own file */
	bool packed;			    /* compressed */
	bool early;	/* snapshot_reader_load_early() is the only way to load it */
	uint32_t depth; /* snapshots in the chain, itself included; 1: full */
};

struct snapshot_reader_config {
	struct snapshot_paths paths;
	/* Where parents may be that do not lie beside: matched by id. Borrowed during the call. */
	const struct snapshot_paths *parents;
	size_t parent_count;
	/* `state` alone is read and no other file opened; nothing but info and describe then. */
	bool state_only;
	/* One that is still written is wanted, too; otherwise it is refused. */
	bool early;
};

/*
 * Opens and checks the snapshot and its chain: all but memory's pages. Nothing is opened but what the caller named and, of a
 * diff, its parent in the same folder (the folder of the snapshot's directory; in the form of two files, that of `state`).
 */
int snapshot_reader_create(struct snapshot_reader **ret,
			   const struct snapshot_reader_config *config, struct error *e);
/* Accepts NULL. Memory that was mapped stays. */
void snapshot_reader_destroy(struct snapshot_reader *r);
const struct snapshot_info *snapshot_reader_info(const struct snapshot_reader *r);
/* Directory form: it, open, whatever takes its place meanwhile: what else is in it is of the same snapshot, or gone. -1 of two
 * files, and of `state_only`. The reader's. */
int snapshot_reader_directory(const struct snapshot_reader *r);
/* All that can be said of it, as an object; NULL if memory is short. */
json_t *snapshot_reader_describe(const struct snapshot_reader *r);

enum snapshot_load_mode {
	/* Maps the files privately; of a compressed snapshot, a file in memory that it is unpacked to and checked. Checksums of pages are not looked at: a damaged page reaches the guest. */
	SNAPSHOT_LOAD_MAP_UNVERIFIED = 0,
	/* Reads all and checks it, then maps. The files must not change meanwhile or later. */
	SNAPSHOT_LOAD_MAP,
	/* Reads all into memory of its own and checks it. The files are not needed afterwards. */
	SNAPSHOT_LOAD_READ,
};

struct snapshot_load {
	enum snapshot_load_mode mode;
	enum guest_memory_backing backing; /* of SNAPSHOT_LOAD_READ: AUTO, MEMFD, ANON, HUGETLB */
	bool huge_pages; /* of SNAPSHOT_LOAD_READ: guest_memory_use_huge_pages() before */
	uint32_t
		mappings_max; /* of files and holes; 0: 2048. Pages of a chain that would need more are copied */
	uint32_t threads; /* that read; 0 or 1: the caller's, and none is made */
	struct snapshot_watch watch;
};

/*
 * Makes all regions in `mem`, which has none, and fills them; on failure it is finished (guest_memory_finish()). With a
 * mapping, whoever shortens or overwrites a file of the chain takes the guest's memory away (SIGBUS); replacing or removing it is
 * harmless. Reading: `mem` is not tracked.
 */
int snapshot_reader_load(struct snapshot_reader *r, struct guest_memory *mem,
			 const struct snapshot_load *how, struct error *e);

struct snapshot_lazy {
	enum guest_memory_backing backing; /* AUTO, ANON, HUGETLB */
	/* What the thread that reads does first (vmm/pager.h). */
	int (*enter)(void *arg, struct error *e);
	void *arg;
	/* What is asked for is noted, for snapshot_mark(), and until then nothing else comes. Of a directory. */
	bool record;
};
/*
 * Makes all regions in `mem`, which has none, and a pager for it, which fills them when they are touched: every chunk is
 * checked before anybody sees a byte of it, and unpacked if it was compressed. *r is the memory's from now on, in any case; what
 * snapshot_reader_info() has given stays valid until the memory is finished, which it is on failure. When everything is there the files are closed.
 *
 * A directory's `working-set` (snapshot_mark()) says what comes first, unless a new one is recorded. One that is of no use is a
 * warning in the log.
 */
int snapshot_reader_load_lazily(struct snapshot_reader **r, struct guest_memory *mem,
				const struct snapshot_lazy *how, struct error *e);
/*
 * Of a snapshot whose info says `early`: maps what has been written, privately, as SNAPSHOT_LOAD_MAP_UNVERIFIED does; a pager maps the rest when it is, and
 * asks the writer for what somebody waits for. `backing` and `record` are not looked at. A writer that ends before it has written all is the end of the
 * machine (vmm/guest_memory.h, `lost`): no byte is made up. On a host without userfaultfd for us this returns when all has been written.
 * *r is the memory's from now on if it is NULL afterwards; otherwise it is still the caller's. The memory is finished on failure.
 */
int snapshot_reader_load_early(struct snapshot_reader **r, struct guest_memory *mem,
			       const struct snapshot_lazy *how, struct error *e);
/*
 * Of a memory that was loaded so, with `record`: the directory gets the file `working-set`, synced, in place of one that it has; all else of
 * memory follows from now on. Again: the same file again. Any thread, while the memory lives. *bytes: of the chunks. ERROR_WRONG_STATE: nothing was
 * recorded; ERROR_NOT_FOUND: the snapshot is no longer there.
 */
int snapshot_mark(struct guest_memory *mem, uint64_t *bytes, struct error *e);
/*
 * What the directory that a snapshot was read from has, whichever way it was opened. -ENOENT: none; ERROR_SNAPSHOT: a file that is of no
 * use to this snapshot.
 */
int snapshot_reader_working_set(const struct snapshot_reader *r, const char *directory,
				uint64_t *bytes, struct error *e);
/* Checks all pages of the chain. `threads` as above; `watch` may be NULL. */
int snapshot_reader_verify(struct snapshot_reader *r, uint32_t threads,
			   const struct snapshot_watch *watch, struct error *e);

/* --- what is made of snapshots without a VM --- */

/*
 * Removes the files of a snapshot, and its directory; one that has anything else in it is refused. Who runs from it goes on doing
 * so; differences to it cannot be used any more, about which nobody is asked.
 */
int snapshot_remove(const struct snapshot_paths *paths, struct error *e);

struct snapshot_merge {
	struct snapshot_paths paths; /* of the new one: as a writer's */
	const char *about;	     /* NULL: as it is */
	uint32_t threads;
	bool compress, no_sync;
	struct snapshot_watch watch;
	/* Directory form: before it takes its place, `directory` gets what else belongs into it, synced
	 * (snapshot_writer_directory()). NULL: nothing does. */
	int (*also)(void *arg, int directory, struct error *e);
	void *also_arg;
};
/*
 * Writes a full snapshot of what a chain has (or a copy of a full one), all of it checked. From a compressed one into two
 * memfds: who restores many from it does this once, and maps these. `id`: of the new one.
 */
int snapshot_merge(struct snapshot_reader *r, const struct snapshot_merge *how,
		   char id[SNAPSHOT_ID_TEXT], struct error *e);

struct snapshot_compare {
	/* Ascending ranges of guest memory that differ. NULL: who wants sums only. */
	void (*range)(void *arg, gpa_t gpa, uint64_t len);
	void *arg;
	struct snapshot_watch watch;
};
/* Bytes, in pages of 4 KiB. */
struct snapshot_difference {
	uint64_t compared, different;
	uint64_t only_first, only_second; /* memory that the other has not */
};
/* What both say memory is. Only what may differ is read, and checked. */
int snapshot_compare(struct snapshot_reader *first, struct snapshot_reader *second,
		     const struct snapshot_compare *how, struct snapshot_difference *ret,
		     struct error *e);

/* --- system calls, for arrays of `struct syscall_rule` --- */

/* snapshot_writer_create(), snapshot_reader_create(): paths are opened to read; what is made is new. */
#define SNAPSHOT_OPEN_SYSCALL_RULES                                                               \
	SYSCALL_IF("openat", 2, O_RDONLY | O_DIRECTORY | O_CLOEXEC),                              \
		SYSCALL_IF("openat", 2, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK),            \
		SYSCALL_IF("openat", 2, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC), SYSCALL("flock"), \
		SYSCALL_IF("fcntl", 1, F_DUPFD_CLOEXEC), SYSCALL("mkdirat"),                      \
		SYSCALL("newfstatat"), SYSCALL("fstat"), SYSCALL("lseek"), SYSCALL("getrandom"),  \
		SYSCALL("pread64"), SYSCALL("ftruncate"), SYSCALL("getdents64"),                  \
		SYSCALL("unlinkat"), SYSCALL("close"), /* `early`: */                             \
		SYSCALL_IF("mknodat", 2, S_IFIFO | 0600), SYSCALL_IF("fcntl", 1, F_OFD_SETLK)
/* All else of a writer: the commit looks once more at what it replaces. renameat() is what C libraries make of renameat2() without flags. */
#define SNAPSHOT_WRITE_SYSCALL_RULES                                                              \
	SYSCALL_IF("openat", 2, O_RDONLY | O_DIRECTORY | O_CLOEXEC),                              \
		SYSCALL_IF("openat", 2, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK),            \
		SYSCALL("newfstatat"), SYSCALL("fstat"), SYSCALL("pwrite64"), SYSCALL("pread64"), \
		SYSCALL("lseek"), SYSCALL("sync_file_range"), SYSCALL("fsync"),                   \
		SYSCALL("renameat2"), SYSCALL("renameat"), SYSCALL("unlinkat"),                   \
		SYSCALL("getdents64"), SYSCALL("close"), SYSCALL("read"),                         \
		SYSCALL_IOCTL(0xc0606610 /* PAGEMAP_SCAN */)
/* Verification by one thread; besides, a job has its heap. Loading is for a process that is still open. */
#define SNAPSHOT_VERIFY_SYSCALL_RULES SYSCALL("pread64"), SYSCALL("close")
/* The thread that reads for snapshot_reader_load_lazily(); the heap is for what is unpacked. */
#define SNAPSHOT_LAZY_SYSCALL_RULES                                                               \
	SYSCALL("pread64"), SYSCALL("close"), SYSCALL("write"),                                   \
		SYSCALL_IF("fcntl", 1, F_OFD_GETLK), SYSCALL("brk"),                              \
		SYSCALL_IF_MASKED("mmap", 2, PROT_EXEC, 0), SYSCALL("munmap"), SYSCALL("mremap"), \
		SYSCALL("madvise")

#endif
