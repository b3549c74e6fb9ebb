// SPDX-License-Identifier: MIT
/*
 * Runs a fuzz harness as a plain test: over every file below the directories
 * (or files) given, each also cut short and with bits flipped by a fixed rule.
 * regress [-m ROUNDS] PATH...
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned run_bytes(const uint8_t *p, size_t len, unsigned rounds)
{
	uint64_t s = 0x9e3779b97f4a7c15ull ^ len;
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	LLVMFuzzerTestOneInput(p, len);
	for (unsigned i = 0; i < rounds && len; i++) {
		size_t cut = len;

		memcpy(copy, p, len);
		for (unsigned k = 0; k <= i % 3; k++) {
			s = s * 6364136223846793005ull + 1442695040888963407ull;
			copy[(s >> 33) % (s >> 62 ? (len < 64 ? len : 64) : len)] ^=
				(uint8_t)(1u << (s >> 20 & 7));
		}
		if (i % 4 == 3)
			cut = (s >> 33) % len;
		LLVMFuzzerTestOneInput(copy, cut);
	}
	free(copy);
	return 1;
}

static unsigned run_file(const char *path, size_t len, unsigned rounds)
{
	uint8_t *p = malloc(len ? len : 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned n;

	if (!p || fd < 0 || read(fd, p, len) != (ssize_t)len) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(1);
	}
	close(fd);
	n = run_bytes(p, len, rounds);
	free(p);
	return n;
}

static unsigned run_path(const char *path, unsigned rounds)
{
	char below[PATH_MAX];
	unsigned n = 0;
	struct dirent *e;
	struct stat st;
	DIR *d;

	if (stat(path, &st) < 0) {
		fprintf(stderr, "no %s\n", path);
		exit(1);
	}
	if (S_ISREG(st.st_mode))
		return run_file(path, (size_t)st.st_size, rounds);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, e->d_name);
		n += run_path(below, rounds);
	}
	if (d)
		closedir(d);
	return n;
}

int main(int argc, char **argv)
{
	unsigned rounds = 50, n = 0;
	int first = 1;

	if (argc > 2 && strcmp(argv[1], "-m") == 0) {
		rounds = (unsigned)atoi(argv[2]);
		first = 3;
	}
	for (int i = first; i < argc; i++)
		n += run_path(argv[i], rounds);
	printf("%u inputs\n", n);
	return n == 0;
}
