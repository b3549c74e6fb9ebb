/* SPDX-License-Identifier: MIT */
/* Directories: listing, seeking in it, listing while it changes. */
#include "posix.h"

#include <dirent.h>

#define MANY 100000 /* at most; POSIX_ENTRIES says how many */

static void listing_is_complete(void)
{
	static unsigned char seen[MANY];
	struct dirent *e;
	const char *entries = getenv("POSIX_ENTRIES");
	int many = entries ? atoi(entries) : MANY;
	unsigned dots = 0;
	DIR *d;

	TRUE(many > 0 && many <= MANY);
	OK(mkdir("d", 0755));
	OK(chdir("d"));
	for (int i = 0; i < many; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file-%06d", i);
		OK(mknod(name, S_IFREG | 0644, 0));
	}
	d = opendir(".");
	TRUE(d != NULL);
	for (errno = 0; (e = readdir(d)) != NULL; errno = 0) {
		int i;

		if (e->d_name[0] == '.') {
			dots++;
			continue;
		}
		TRUE(sscanf(e->d_name, "file-%d", &i) == 1 && i >= 0 && i < many);
		TRUE(!seen[i]);
		TRUE(e->d_type == DT_REG || e->d_type == DT_UNKNOWN);
		seen[i] = 1;
	}
	if (errno)
		posix_fail(__FILE__, __LINE__, "readdir");
	for (int i = 0; i < many; i++)
		TRUE(seen[i]);
	TRUE(dots == 2);
	closedir(d);
	/* stat of each, as ls -l does */
	d = opendir(".");
	TRUE(d != NULL);
	while ((e = readdir(d)) != NULL) {
		struct stat st;

		OK(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW));
		TRUE(st.st_ino == e->d_ino || strcmp(e->d_name, "..") == 0);
	}
	closedir(d);
	for (int i = 0; i < many; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file-%06d", i);
		OK(unlink(name));
	}
	OK(rmdir("../d"));
}

static void seek_and_rewind(void)
{
	enum { N = 2000 };
	static char names[N + 2][256];
	long at[N + 2];
	struct dirent *e;
	int n = 0;
	DIR *d;

	for (int i = 0; i < N; i++) {
		snprintf(names[0], sizeof(names[0]), "e%d", i);
		OK(mknod(names[0], S_IFREG | 0644, 0));
	}
	d = opendir(".");
	TRUE(d != NULL);
	for (;;) {
		long pos = telldir(d);

		e = readdir(d);
		if (!e)
			break;
		TRUE(n < N + 2);
		at[n] = pos;
		snprintf(names[n++], sizeof(names[0]), "%s", e->d_name);
	}
	TRUE(n == N + 2);
	for (int i = N; i >= 0; i -= 37) {
		seekdir(d, at[i]);
		e = readdir(d);
		TRUE(e && strcmp(e->d_name, names[i]) == 0);
	}
	make_file("later", 0644, "");
	rewinddir(d);
	n = 0;
	while ((e = readdir(d)) != NULL)
		n += strcmp(e->d_name, "later") == 0;
	TRUE(n == 1);
	closedir(d);
}

/* Entries removed while listing: the others all come, none twice. */
static void remove_while_listing(void)
{
	enum { N = 5000 };
	static unsigned char seen[N];
	struct dirent *e;
	DIR *d;
	int removed = 0;

	for (int i = 0; i < N; i++) {
		char name[32];

		snprintf(name, sizeof(name), "r%d", i);
		OK(mknod(name, S_IFREG | 0644, 0));
	}
	d = opendir(".");
	TRUE(d != NULL);
	while ((e = readdir(d)) != NULL) {
		int i;

		if (sscanf(e->d_name, "r%d", &i) != 1)
			continue;
		TRUE(!seen[i]);
		seen[i] = 1;
		if (i % 2) {
			OK(unlink(e->d_name));
			removed++;
		}
	}
	closedir(d);
	TRUE(removed == N / 2);
	for (int i = 0; i < N; i++)
		TRUE(seen[i]);
}

static void removed_directory(void)
{
	int fd;

	OK(mkdir("d", 0755));
	fd = open("d", O_RDONLY | O_DIRECTORY);
	OK(fd);
	OK(rmdir("d"));
	ERR(openat(fd, "f", O_WRONLY | O_CREAT, 0644), ENOENT);
	OK(close(fd));
}

static void nlink_of_directories(void)
{
	OK(mkdir("d", 0755));
	TRUE(stat_of("d").st_nlink == 2);
	OK(mkdir("d/a", 0755));
	OK(mkdir("d/b", 0755));
	TRUE(stat_of("d").st_nlink == 4);
	OK(rmdir("d/a"));
	TRUE(stat_of("d").st_nlink == 3);
	OK(rename("d/b", "b"));
	TRUE(stat_of("d").st_nlink == 2);
}

static void deep_tree(void)
{
	for (int i = 0; i < 200; i++) {
		OK(mkdir("deeper", 0755));
		OK(chdir("deeper"));
	}
	make_file("bottom", 0644, "here");
	expect_text("../deeper/./bottom", "here");
}

const struct posix_case cases_dirs[] = {
	{ "listing_is_complete", listing_is_complete },
	{ "seek_and_rewind", seek_and_rewind },
	{ "remove_while_listing", remove_while_listing },
	{ "removed_directory", removed_directory },
	{ "nlink_of_directories", nlink_of_directories },
	{ "deep_tree", deep_tree },
	{ NULL, NULL },
};
