/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main() for a fuzz target without libFuzzer: runs every file of argv through it (a directory:
 * every file in it), or, without arguments, a fixed set of pseudo-random inputs of all small
 * lengths; `--max N`: of up to N bytes. A finding crashes.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/types.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX     (1 << 20)
#define RANDOM_INPUTS 3000
#define RANDOM_MAX    512
#define RANDOM_LIMIT  65536

/* A copy that is exactly as long as the input, so that a sanitizer sees a read behind its end. */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size != 0 ? size : 1);

	if (copy == NULL) {
		abort();
	}
	memcpy(copy, data, size);
	(void)LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static int run_file(const char *path)
{
	uint8_t *data = malloc(INPUT_MAX);
	FILE *f = fopen(path, "rbe");
	int r = 0;

	if (data == NULL || f == NULL) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		r = -1;
	} else {
		run(data, fread(data, 1, INPUT_MAX, f));
	}
	if (f != NULL) {
		(void)fclose(f);
	}
	free(data);
	return r;
}

static int run_path(const char *path)
{
	struct dirent *entry;
	struct stat st;
	DIR *dir;
	int r = 0;

	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
		return run_file(path);
	}
	dir = opendir(path);
	if (dir == NULL) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	while ((entry = readdir(dir)) != NULL) {
		char name[4096];

		(void)snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (entry->d_name[0] != '.' && run_file(name) != 0) {
			r = -1;
		}
	}
	(void)closedir(dir);
	return r;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void run_random(size_t max)
{
	static uint8_t data[RANDOM_LIMIT];
	uint64_t state = 0x9e3779b97f4a7c15ULL;

	for (size_t i = 0; i < RANDOM_INPUTS; i++) {
		size_t size = i < max && i < RANDOM_MAX ? i : next_random(&state) % max;
		/* Few different bytes reach deeper than any of 256: lengths and tags become small
		 * numbers. */
		uint64_t mask = (i & 3) == 0   ? 0xff
				: (i & 3) == 1 ? 0x0f
				: (i & 3) == 2 ? 0x03
					       : 0x7f;

		for (size_t k = 0; k < size; k++) {
			data[k] = (uint8_t)(next_random(&state) & mask);
		}
		run(data, size);
	}
}

int main(int argc, char **argv)
{
	int r = EXIT_SUCCESS;

	if (argc < 2) {
		run_random(RANDOM_MAX);
		return EXIT_SUCCESS;
	}
	if (argc == 3 && strcmp(argv[1], "--max") == 0) {
		size_t max = strtoul(argv[2], NULL, 10);

		run_random(MIN(MAX(max, 1UL), (size_t)RANDOM_LIMIT));
		return EXIT_SUCCESS;
	}
	for (int i = 1; i < argc; i++) {
		if (run_path(argv[i]) != 0) {
			r = EXIT_FAILURE;
		}
	}
	return r;
}
