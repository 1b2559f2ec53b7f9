/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a snapshot, shared by the files of this room:
 *
 *	container.c	`state`: header and sections, as bytes
 *	layout.c	regions and the table of chunks: what `memory` has, as bytes; the trailer that binds both
 *	paths.c		where a snapshot is: folders, names, other names beside
 *	place.c		how a new one takes its place
 *	writer.c, memory_write.c, memory_live.c, memory_frozen.c	the writer: objects, commit; pages of a VM at rest, of one that runs, by passes
 *			or as it was frozen
 *	layer.c, reader.c	one snapshot that was opened; a chain of them
 *	memory_read.c, load.c, lazy.c	its pages, checked; into a guest memory, at once or when they are touched
 *	early.c, load_early.c	one that is read while its pages are still written
 *	parallel.c	many chunks on several threads
 *	pack.c		pages that are stored compressed
 *	working_set.c	what a guest asks for first: `working-set`
 *	merge.c		of a chain one full snapshot; the difference of two
 *	describe.c	words about one
 *
 * Everything that was read is hostile until the function that reads it has returned.
 */
#ifndef VMM_SNAPSHOT_INTERNAL_H
#define VMM_SNAPSHOT_INTERNAL_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "vmm/snapshot.h"

struct freezer;

#define PAGES_PER_CHUNK ((uint32_t)(SNAPSHOT_CHUNK / PAGE_SIZE_4K))
#define MAP_WORDS	(PAGES_PER_CHUNK / 64)
#define MAP_BYTES	(PAGES_PER_CHUNK / 8)

struct snapshot_id {
	uint8_t bytes[SNAPSHOT_ID_SIZE];
};

static inline bool id_equal(const struct snapshot_id *a, const struct snapshot_id *b)
{
	return __builtin_memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}
void id_text(const struct snapshot_id *id, char text[SNAPSHOT_ID_TEXT]);

/* --- container.c: `state` --- */

#define STATE_FILE_MAX	      MIB(256)
#define SECTION_NAME_SIZE     16
#define STATE_HEADER_SIZE     128
#define STATE_MAGIC	      "VMMSTATE"
#define SECTION_HEADER_SIZE   32
#define SECTIONS_MAX	      64
#define SNAPSHOT_VERSION_SIZE 32

enum section {
	SECTION_ABOUT,
	SECTION_CONFIG,
	SECTION_MACHINE,
	SECTION_PARENT,	 /* of a diff */
	SECTION_PACKING, /* of memory that is compressed */
	SECTION_EARLY,	 /* its pages are still written, or never were; no bytes */
	SECTION_MEMORY,
	SECTIONS,
};

struct state_header {
	uint32_t format, section_count;
	uint64_t length; /* of the file */
	uint64_t created;
	struct snapshot_id id;
	char version[SNAPSHOT_VERSION_SIZE];
};

struct state_section {
	const uint8_t *data; /* NULL: not there; a NUL behind it */
	uint64_t len;
	uint32_t crc;
};

struct state_file {
	struct state_header header;
	struct state_section sections[SECTIONS];
};

/* The header of any version: at least STATE_HEADER_SIZE bytes. `path` is for messages. */
int state_header_parse(struct state_header *header, const uint8_t *data, const char *path,
		       struct error *e);
/* The whole file; `file` points into it. */
int state_file_parse(struct state_file *file, const uint8_t *data, size_t len, const char *path,
		     struct error *e);

/* Writes one, a section after the other, through a buffer. Errors are kept until the end. */
struct state_output {
	int fd;
	int failure; /* negative errno */
	struct state_header header;
	uint64_t at;	     /* in the file, of what the buffer will become */
	uint64_t section_at; /* of the section's header */
	uint64_t section_len;
	uint32_t crc;
	size_t used;
	uint8_t buffer[KIB(64)];
};
/* The file is empty. */
void state_output_begin(struct state_output *out, int fd, const struct snapshot_id *id,
			uint64_t created);
void state_output_section(struct state_output *out);
void state_output_put(struct state_output *out, const void *data, size_t len);
/* Returns the section's checksum. */
uint32_t state_output_section_end(struct state_output *out, enum section section);
/* 0 or a negative errno. */
int state_output_end(struct state_output *out);

/* --- layout.c --- */

/* Bytes of all regions, each rounded up to chunks. */
#define LAYOUT_MAX (1ULL << 46)

struct layout {
	uint32_t region_count;
	struct snapshot_region regions[GUEST_MEMORY_REGIONS_MAX];
	uint64_t length; /* of the pages' part of the memory file */
	uint64_t memory_size;
};

/* A chunk that was written or read. A page is stored, or zero (in a diff: no longer what the parent has), or neither. */
struct chunk_pages {
	uint64_t stored[MAP_WORDS], zero[MAP_WORDS];
};

/* Where a compressed chunk is in the file; length 0: nowhere. */
struct frame {
	uint64_t offset;
	uint32_t length;
};

/* Flags of an entry: it has stored pages. */
#define CHUNK_STORED 3U

/* Of a chunk of the memory file that has anything to say. */
struct chunk_entry {
	uint32_t chunk; /* offset in the memory file / SNAPSHOT_CHUNK */
	uint32_t crc;	/* of its stored pages, in order */
	uint32_t flags;
	struct frame frame;	      /* of a packed snapshot */
	const uint8_t *stored, *zero; /* MAP_BYTES each, if the flags say so */
};

struct layout_table {
	struct layout layout;
	struct chunk_entry *entries; /* ascending; owned */
	uint32_t count;
	uint64_t stored; /* pages */
};

/* Places of the regions in the file, one after the other. Checks what is given. */
int layout_place(struct layout *layout, const char *path, struct error *e);
/* Pages of a chunk that there are: PAGES_PER_CHUNK but in the last of a region; 0: no such chunk. *region: which it is of. */
uint32_t layout_chunk_pages(const struct layout *layout, uint32_t chunk, uint32_t *region);

int layout_table_parse(struct layout_table *table, const uint8_t *data, uint64_t len, bool diff,
		       const char *path, struct error *e);
void layout_table_finish(struct layout_table *table);
const struct chunk_entry *layout_table_find(const struct layout_table *table, uint32_t chunk);
/* `pages`: of the chunk, as layout_chunk_pages(). */
void chunk_entry_pages(const struct chunk_entry *entry, uint32_t pages, struct chunk_pages *ret);

/* Puts the section: entries of those chunks that have any page stored or zero. */
void layout_put(struct state_output *out, const struct layout *layout,
		const struct chunk_pages *chunks, const uint32_t *crcs);

#define TRAILER_SIZE 4096
/* What stands behind the pages; `crc` is that of the section "memory". */
void trailer_make(uint8_t bytes[TRAILER_SIZE], const struct snapshot_id *id, uint64_t length,
		  uint32_t crc);
int trailer_check(const uint8_t bytes[TRAILER_SIZE], const struct snapshot_id *id, uint64_t length,
		  uint32_t crc, const char *path, const char *state_path, struct error *e);
/* True if these may be the last bytes of a memory file. */
bool trailer_is_one(const uint8_t bytes[TRAILER_SIZE]);

/* The section "parent". Names are of files or directories in the folder of the snapshot. */
enum parent_form {
	PARENT_ELSEWHERE = 0,
	PARENT_DIRECTORY, /* names[0] */
	PARENT_FILES,	  /* names: state, memory */
};
struct parent_link {
	struct snapshot_id id;
	uint32_t depth; /* of this snapshot: 2 for a diff of a full one */
	enum parent_form form;
	char names[2][NAME_MAX + 1];
};
void parent_put(struct state_output *out, const struct parent_link *link);
int parent_parse(struct parent_link *link, const uint8_t *data, uint64_t len, const char *path,
		 struct error *e);

/* --- paths.c --- */

/* A file name without a folder: not empty, ".", "..", nor with a '/'. */
bool name_is_plain(const char *name);

/* Shown in messages; long ones are cut. */
#define PATH_SHOWN 160

/* A path as folder and name. */
struct path_parts {
	char folder[PATH_MAX]; /* "." if there is none */
	char name[NAME_MAX + 1];
};
/* Trailing slashes are left out. ERROR_SNAPSHOT if the last part is no plain name. */
int path_split(struct path_parts *parts, const char *path, struct error *e);
/* A copy of a descriptor. */
int fd_copy(int fd, int *ret, struct error *e);
bool paths_are_given(const struct snapshot_paths *paths);
/* ".NAME.ID.new", in `temp` of NAME_MAX + 1: where a file is until it has its name. */
void temp_name(char temp[NAME_MAX + 1], const char *name, const char *id);

/* True if `temp` may be such a name of `name`; *id points to its id. */
bool temp_name_is_of(const char *temp, const char *name, const char **id);

/* The names in a directory, "." and ".." left out; stops at the first that each() returns non-zero for. Allocates nothing. */
int folder_each(int folder, int (*each)(void *arg, int folder, const char *name), void *arg);
/* An open directory. */
int folder_open(int at, const char *path, int *ret, struct error *e);
/* A regular file to read. `path` is for messages. */
int file_open(int at, const char *name, const char *path, int *ret, struct stat *st,
	      struct error *e);
/* Exactly `len` bytes at `offset`. */
int file_read(int fd, void *buf, size_t len, uint64_t offset, const char *path, struct error *e);
/* The same to write: 0 or a negative errno. */
int file_write(int fd, const void *buf, size_t len, uint64_t offset);
/* ERROR_SNAPSHOT "what 'path': reason", with what helps against it. */
int file_error(struct error *e, int sys, const char *what, const char *path) __cold;

/* --- place.c --- */

struct place {
	bool directory, named; /* neither: open files that were given */
	int folder;	       /* of the directory, or of `state` */
	int memory_folder;     /* form of two files; else -1 */
	int inside;	       /* the new directory; else -1 */
	int state, memory;     /* the new files */
	char name[NAME_MAX + 1], memory_name[NAME_MAX + 1];
	char temp[NAME_MAX + 1], memory_temp[NAME_MAX + 1];
	char shown[PATH_SHOWN], memory_shown[PATH_SHOWN];
	bool made_directory, made_state, made_memory; /* under their other names, by us */
};
#define PLACE_NONE       \
	((struct place){ \
		.folder = -1, .memory_folder = -1, .inside = -1, .state = -1, .memory = -1 })

int place_init(struct place *place, const struct snapshot_paths *paths, const char *id,
	       struct error *e);
/* What is there now under its name; -ENOENT: nothing. No error is set. */
int place_state_inode(const struct place *place, uint64_t *dev, uint64_t *ino);
/* A file without a name on the same disk as `memory`; of files that were given, there is none. */
int place_scratch(const struct place *place, const char *id, int *ret, struct error *e);
int place_commit(struct place *place, bool sync, struct error *e);
/* Removes what was not committed. Accepts PLACE_NONE, and one that has failed. */
void place_finish(struct place *place);

/* For folder_each(): not 0 at what cannot be a file of a snapshot's directory. */
int place_refuse_stranger(void *arg, int folder, const char *name);
/* The file may be replaced or removed: it is not there, empty, or what it should be. `last`: its last bytes tell. */
int place_check_file(int folder, const char *name, const char *path, bool last, struct error *e);

/* --- leftovers.c --- */

/* Takes the lock that says that a writer is alive. */
void leftovers_lock(int fd);
/* Removes what killed writers have left of `name` in a folder. `state`: the file that may speak of one of them; NULL: none does. */
void leftovers_remove(int folder, const char *name, int state_folder, const char *state);

/* --- pack.c --- */

/* Scratch for as many threads as there are at a time. */
struct pack {
	pthread_mutex_t lock;
	struct pack_lane *lanes;
};
void pack_init(struct pack *pack);
void pack_finish(struct pack *pack);
/* ERROR_NOT_SUPPORTED where there is no library for it. */
int pack_supported(const char *path, struct error *e);
/* The stored pages of a chunk, behind whatever *end says; *frame: where. Any thread. 0 or a negative errno. */
int pack_write(struct pack *pack, int fd, _Atomic uint64_t *end, const uint8_t *bytes,
	       const uint64_t stored[MAP_WORDS], struct frame *frame);
/* And back to their places. Any thread. */
int pack_read(struct pack *pack, int fd, const struct frame *frame, uint8_t *bytes,
	      const uint64_t stored[MAP_WORDS], const char *path, struct error *e);
/* The section; `length`: of the frames' part of the file. */
void pack_put(struct state_output *out, const struct frame *frames, uint32_t chunks,
	      uint64_t length);
/* Frames into the entries of the table. */
int pack_parse(struct layout_table *table, const uint8_t *data, uint64_t len, uint64_t *length,
	       const char *path, struct error *e);

/* --- memory_write.c --- */

struct writer_region {
	uint32_t index; /* in the guest memory */
	uint64_t *pages;
	uint64_t bits;
	const uint8_t *host;
};

/* memory_live.c: of a VM that runs. Zeroed: of one at rest. */
struct live {
	uint64_t room, count; /* pages: reserved, held */
	uint8_t *bytes;	      /* of the pages held */
	uint64_t *places;     /* in the memory file, in pages */
};
int live_create(struct live *live, uint64_t pages, struct error *e);
void live_finish(struct live *live);

struct snapshot_writer {
	struct snapshot_id id;
	char id_text[SNAPSHOT_ID_TEXT];
	struct guest_memory *mem; /* NULL: chunks come from elsewhere */
	int pagemap_fd;
	struct snapshot_watch watch;
	bool sync, diff, committed;
	struct parent_link parent;
	struct place place;
	struct layout layout;
	struct writer_region regions[GUEST_MEMORY_REGIONS_MAX];
	uint32_t chunk_count;
	struct chunk_pages *chunks; /* of each chunk: what was written */
	uint32_t *crcs;
	struct live live;
	bool packed;
	struct pack pack;
	struct frame *frames;	     /* of each chunk, if packed */
	_Atomic uint64_t packed_end; /* of the file */
	int scratch; /* pages of a VM that runs, before they are compressed; else -1 */
	bool early;
	int asks;	 /* of who reads early; else -1 */
	uint64_t *asked; /* a bit for each chunk that somebody has asked for */
	struct state_output *output;
	_Atomic uint32_t next; /* chunk that nobody has taken */
	_Atomic bool stop;     /* somebody has failed */
	_Atomic uint64_t looked, stored;
	uint64_t total; /* bytes to look at; set when the first run begins */
};

/* The same with a layout instead of a memory; regions are its own. */
int writer_create(struct snapshot_writer **ret, const struct snapshot_writer_config *config,
		  const struct layout *layout, struct error *e);

/* --- reader.c --- */

struct layer {
	char shown[PATH_SHOWN], memory_shown[PATH_SHOWN];
	uint8_t *state; /* the file */
	uint64_t state_size, state_dev, state_ino;
	struct state_file file;
	struct layout_table table;
	bool diff, packed, early;
	uint64_t length;   /* of the pages' part of the memory file */
	struct pack *pack; /* the reader's */
	struct parent_link parent;
	int folder; /* of a diff: where its parent may be; else -1 */
	int memory; /* -1: not opened */
	int inside; /* the directory that has both; -1: two files, or nothing but `state` is read */
};

struct snapshot_reader {
	struct layer *layers[SNAPSHOT_CHAIN_MAX]; /* the newest first */
	uint32_t depth;				  /* of those that are open */
	struct snapshot_info info;
	bool state_only, packed; /* packed: some of them are */
	struct pack pack;
};

/* layer.c. Relative paths are from the folder `at`. */
int layer_create(struct layer **ret, int at, const struct snapshot_paths *paths, bool state_only,
		 struct error *e);
void layer_destroy(struct layer *layer);
/* The chunk of a layer that has the guest's memory at `gpa`; false: none. */
bool layer_chunk_at(const struct layer *layer, gpa_t gpa, uint32_t *chunk);

/* --- memory_read.c --- */

/* The stored pages of an entry into their places in `buf`, and their checksum. */
int layer_read_entry(const struct layer *layer, const struct chunk_entry *entry,
		     const struct chunk_pages *maps, uint8_t *buf, struct error *e);
/*
 * A chunk of the newest snapshot's layout as the chain has it, into `buf`, which is zero at first. Every stored page of
 * every layer is read and checked. `present` is set where a page was stored and not zeroed later.
 */
int reader_chunk(const struct snapshot_reader *r, uint32_t chunk, uint8_t *buf,
		 uint64_t present[MAP_WORDS], struct error *e);
/* Which layer each page of a chunk comes from (of one that is zero, who says so): its number, LAYER_NONE: none has it. */
#define LAYER_NONE 0xff
void reader_sources(const struct snapshot_reader *r, uint32_t chunk,
		    uint8_t sources[PAGES_PER_CHUNK], uint64_t present[MAP_WORDS]);

/* --- working_set.c --- */

#define WORKING_SET		"working-set"
#define WORKING_SET_HEADER_SIZE 64

/* Chunks of the newest snapshot's layout, each once, the first to come first. */
struct working_set {
	uint32_t *chunks; /* owned */
	uint32_t count;
};
/* Bytes of the file. */
uint64_t working_set_size(uint64_t count);
void working_set_encode(uint8_t *data, const struct snapshot_id *id, const uint32_t *chunks,
			uint32_t count);
/* ERROR_SNAPSHOT: it is of no use; `set` is empty then. */
int working_set_parse(struct working_set *set, const uint8_t *data, uint64_t len,
		      const struct snapshot_id *id, const struct layout *layout, const char *path,
		      struct error *e);
void working_set_finish(struct working_set *set);
/* Of an open directory. -ENOENT: it has none. `path` is for messages. */
int working_set_read(struct working_set *set, int folder, const struct snapshot_id *id,
		     const struct layout *layout, const char *path, struct error *e);
/* What was encoded takes its place there, on the disk, or nothing does. */
int working_set_write(int folder, const uint8_t *data, uint64_t len, const char *path,
		      struct error *e);
/* It may be one that is not whole yet, or never will be. */
bool working_set_name_is_temp(const char *name);

/* --- load.c --- */

/* Empty regions of a memory that is not a file's. */
int reader_make_regions(const struct snapshot_reader *r, struct guest_memory *mem,
			enum guest_memory_backing backing, struct error *e);
/* Which chunks of a region any snapshot has something of: a bit each, to be freed; NULL: no memory. */
uint64_t *reader_chunks_in_use(const struct snapshot_reader *r,
			       const struct snapshot_region *region);

/* --- early.c --- */

/* What the file `memory` says of each chunk, by one byte behind the trailer. */
enum early_mark {
	EARLY_MISSING = 0,
	EARLY_WRITTEN, /* as a whole, for good */
	EARLY_EMPTY,   /* of zeroes: not written */
	EARLY_MARKS,
};
#define EARLY_ASKS "asks"
static inline uint64_t early_mark_at(const struct layout *layout, uint64_t chunk)
{
	return layout->length + TRAILER_SIZE + chunk;
}
/* Bytes of the file. */
static inline uint64_t early_size(const struct layout *layout)
{
	return early_mark_at(layout, layout->length / SNAPSHOT_CHUNK);
}

/* ERROR_NOT_SUPPORTED: not in this place, and nothing has changed. */
int early_prepare(struct snapshot_writer *w, struct error *e);
/* A chunk is whole, or all zeroes. 0 or a negative errno. */
int early_mark(struct snapshot_writer *w, uint32_t chunk, bool written);
/* What others wait for. */
void early_hear(struct snapshot_writer *w, struct freezer *freezer);
/* Whoever writes an open file `memory` still does. */
bool early_writer_lives(int memory);

/* --- parallel.c --- */

/* Items that are worked on in any order, on several threads. */
struct parallel {
	uint64_t count;
	/* Any thread. `scratch` is the thread's. *done: bytes for the watcher. */
	int (*one)(void *arg, void *scratch, uint64_t item, uint64_t *done, struct error *e);
	void *arg;
	size_t scratch_size;
	const char *what, *phase; /* "snapshot 'x'" is the caller's */
	uint64_t total;
	const struct snapshot_watch *watch;
	/* Its own. */
	_Atomic uint64_t next, done;
	_Atomic bool stop;
};
/* `threads` 0 or 1: only the caller's. The first failure, or ERROR_CANCELLED. */
int parallel_run(struct parallel *p, uint32_t threads, struct error *e);

/* --- small things --- */

static inline bool page_is_set(const uint64_t *bitmap, uint64_t page)
{
	return (bitmap[page / 64] >> page % 64 & 1) != 0;
}

static inline void page_set(uint64_t *bitmap, uint64_t page)
{
	bitmap[page / 64] |= 1ULL << page % 64;
}

static inline void page_clear(uint64_t *bitmap, uint64_t page)
{
	bitmap[page / 64] &= ~(1ULL << page % 64);
}

/* Pages set in a row from `page` on, below `end`. */
static inline uint64_t run_length(const uint64_t *bitmap, uint64_t page, uint64_t end)
{
	uint64_t n = 0;

	while (page + n < end && page_is_set(bitmap, page + n)) {
		n++;
	}
	return n;
}

static inline uint32_t map_count(const uint64_t map[MAP_WORDS])
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < MAP_WORDS; i++) {
		n += (uint32_t)__builtin_popcountll(map[i]);
	}
	return n;
}

#endif
