/* SPDX-License-Identifier: MIT */
/* Attributes and times. */
#include "posix.h"

#include <sys/mman.h>
#include <sys/statvfs.h>
#include <time.h>

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void utimens_omit_now(void)
{
	struct timespec set[2] = { { 1000, 123456789 }, { 2000, 987654321 } };
	struct timespec omit[2] = { { 0, UTIME_OMIT }, { 3000, 5 } };
	struct timespec now[2] = { { 0, UTIME_NOW }, { 0, UTIME_OMIT } };
	struct stat st;
	int fd;

	make_file("f", 0644, "x");
	OK(utimensat(AT_FDCWD, "f", set, 0));
	st = stat_of("f");
	TRUE(same_time(st.st_atim, set[0]) && same_time(st.st_mtim, set[1]));
	OK(utimensat(AT_FDCWD, "f", omit, 0));
	st = stat_of("f");
	TRUE(same_time(st.st_atim, set[0]) && same_time(st.st_mtim, omit[1]));
	OK(utimensat(AT_FDCWD, "f", now, 0));
	st = stat_of("f");
	TRUE(st.st_atim.tv_sec > 1000000 && same_time(st.st_mtim, omit[1]));
	fd = open("f", O_WRONLY);
	OK(fd);
	OK(futimens(fd, set));
	st = stat_of("f");
	TRUE(same_time(st.st_mtim, set[1]));
	OK(close(fd));
	st = stat_of("f");
	TRUE(same_time(st.st_mtim, set[1])); /* close changes nothing */
	OK(symlink("f", "s"));
	OK(utimensat(AT_FDCWD, "s", omit, AT_SYMLINK_NOFOLLOW));
	TRUE(stat_of("s").st_mtim.tv_sec == 3000);
	TRUE(same_time(stat_of("f").st_mtim, set[1]));
}

static void write_moves_times(void)
{
	struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
	struct stat a, b;
	int fd;

	make_file("f", 0644, "x");
	OK(utimensat(AT_FDCWD, "f", old, 0));
	a = stat_of("f");
	fd = open("f", O_WRONLY);
	OK(fd);
	TRUE(write(fd, "yy", 2) == 2);
	b = stat_of("f");
	TRUE(b.st_mtim.tv_sec > 1000 && b.st_size == 2);
	TRUE(b.st_ctim.tv_sec > a.st_ctim.tv_sec || b.st_ctim.tv_nsec != a.st_ctim.tv_nsec ||
	     b.st_ctim.tv_sec == a.st_ctim.tv_sec);
	OK(close(fd));
	b = stat_of("f");
	OK(utimensat(AT_FDCWD, "f", old, 0));
	OK(truncate("f", 1));
	TRUE(stat_of("f").st_mtim.tv_sec > 1000);
}

static void mapped_write_moves_times(void)
{
	struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
	char *m;
	int fd;

	make_file("f", 0644, "abc");
	fd = open("f", O_RDWR);
	OK(fd);
	m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRUE(m != MAP_FAILED);
	OK(utimensat(AT_FDCWD, "f", old, 0));
	m[0] = 'X';
	OK(msync(m, 4096, MS_SYNC));
	OK(munmap(m, 4096));
	OK(fsync(fd));
	OK(close(fd));
	TRUE(stat_of("f").st_mtim.tv_sec > 1000);
	expect_text("f", "Xbc");
}

static void directory_times(void)
{
	struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };

	OK(mkdir("d", 0755));
	OK(utimensat(AT_FDCWD, "d", old, 0));
	make_file("d/f", 0644, "x");
	TRUE(stat_of("d").st_mtim.tv_sec > 1000);
	OK(utimensat(AT_FDCWD, "d", old, 0));
	OK(unlink("d/f"));
	TRUE(stat_of("d").st_mtim.tv_sec > 1000);
}

static void modes_kept(void)
{
	make_file("f", 0, "x");
	for (mode_t m = 0; m <= 07777; m += 0111 + 01000 / 8) {
		OK(chmod("f", m));
		TRUE((stat_of("f").st_mode & 07777) == m);
	}
	OK(chmod("f", 06755));
	TRUE((stat_of("f").st_mode & 07777) == 06755);
	OK(chown("f", ALICE, BOB));
	TRUE(stat_of("f").st_uid == ALICE && stat_of("f").st_gid == BOB);
	OK(chown("f", -1, TEAM));
	TRUE(stat_of("f").st_uid == ALICE && stat_of("f").st_gid == TEAM);
}

static void sizes_and_blocks(void)
{
	char buf[65536];
	struct stat st;
	int fd = open("f", O_WRONLY | O_CREAT, 0644);

	OK(fd);
	memset(buf, 'r', sizeof(buf));
	for (int i = 0; i < 16; i++)
		TRUE(write(fd, buf, sizeof(buf)) == sizeof(buf));
	OK(fsync(fd));
	OK(fstat(fd, &st));
	TRUE(st.st_size == 1 << 20 && st.st_blocks > 0 && st.st_blocks <= 2 * 2048 + 64);
	TRUE(st.st_blksize >= 512);
	TRUE(stat_of("f").st_ino == st.st_ino && stat_of("f").st_dev == st.st_dev);
}

static void statfs_adds_up(void)
{
	struct statvfs s;

	OK(statvfs(".", &s));
	TRUE(s.f_bsize > 0 && s.f_frsize > 0 && s.f_blocks > 0);
	TRUE(s.f_bfree <= s.f_blocks && s.f_bavail <= s.f_blocks && s.f_namemax == 255);
}

const struct posix_case cases_attrs[] = {
	{ "utimens_omit_now", utimens_omit_now },
	{ "write_moves_times", write_moves_times },
	{ "mapped_write_moves_times", mapped_write_moves_times },
	{ "directory_times", directory_times },
	{ "modes_kept", modes_kept },
	{ "sizes_and_blocks", sizes_and_blocks },
	{ "statfs_adds_up", statfs_adds_up },
	{ NULL, NULL },
};
