/* SPDX-License-Identifier: MIT */
/* Names: creation, links, renames, removal. */
#include "posix.h"

#include <linux/fs.h>
#include <sys/syscall.h>

static int rename2(const char *a, const char *b, unsigned flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags);
}

static void create_excl(void)
{
	make_file("f", 0644, "one");
	ERR(open("f", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
	OK(open("f", O_WRONLY | O_CREAT, 0600));
	TRUE((stat_of("f").st_mode & 07777) == 0644);
	ERR(open("none", O_RDONLY), ENOENT);
	ERR(open("f/x", O_RDONLY), ENOTDIR);
	ERR(open("none/x", O_WRONLY | O_CREAT, 0644), ENOENT);
	OK(mkdir("d", 0755));
	ERR(open("d", O_WRONLY), EISDIR);
	ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	ERR(mkdir("d", 0755), EEXIST);
	ERR(mkdir("f", 0755), EEXIST);
}

/* A name found absent exists as soon as somebody makes it. */
static void negative_lookup_then_create(void)
{
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%d", i);
		TRUE(absent(name));
		TRUE(absent(name));
		make_file(name, 0644, name);
		expect_text(name, name);
		OK(unlink(name));
		TRUE(absent(name));
	}
}

static void long_names(void)
{
	char name[300], path[5000];

	memset(name, 'x', sizeof(name));
	name[255] = '\0';
	make_file(name, 0644, "long");
	expect_text(name, "long");
	OK(rename(name, "short"));
	OK(rename("short", name));
	OK(unlink(name));
	memset(name, 'x', 256);
	name[256] = '\0';
	ERR(open(name, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
	ERR(mkdir(name, 0755), ENAMETOOLONG);
	ERR(unlink(name), ENAMETOOLONG);
	ERR(access(name, F_OK), ENAMETOOLONG);
	memset(path, 'y', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	ERR(open(path, O_RDONLY), ENAMETOOLONG);
}

static void odd_names(void)
{
	static const char *const names[] = { " ",  "-rf", "new\nline", "tab\t", "\xff\xfe", "a,b=c",
					     "\\", "...", ".hidden",   "'\"",   "%s%n" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		make_file(names[i], 0644, names[i]);
		expect_text(names[i], names[i]);
		OK(unlink(names[i]));
	}
}

static void hard_links(void)
{
	make_file("a", 0644, "text");
	OK(link("a", "b"));
	TRUE(stat_of("a").st_nlink == 2 && stat_of("b").st_nlink == 2);
	TRUE(stat_of("a").st_ino == stat_of("b").st_ino);
	ERR(link("a", "b"), EEXIST);
	ERR(link("none", "c"), ENOENT);
	OK(mkdir("d", 0755));
	ERR(link("d", "e"), EPERM);
	OK(rename("a", "b")); /* same inode: does nothing */
	TRUE(!absent("a") && !absent("b"));
	OK(unlink("a"));
	TRUE(stat_of("b").st_nlink == 1);
	expect_text("b", "text");
	OK(link("b", "d/c"));
	OK(truncate("d/c", 2));
	expect_text("b", "te");
}

static void symlinks(void)
{
	char buf[300], target[4096];

	make_file("f", 0644, "via");
	OK(symlink("f", "s"));
	expect_text("s", "via");
	TRUE(readlink("s", buf, sizeof(buf)) == 1 && buf[0] == 'f');
	TRUE(S_ISLNK(stat_of("s").st_mode) && stat_of("s").st_size == 1);
	ERR(symlink("x", "s"), EEXIST);
	ERR(open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
	ERR(readlink("f", buf, sizeof(buf)), EINVAL);
	OK(symlink("loop", "loop"));
	ERR(open("loop", O_RDONLY), ELOOP);
	memset(target, 'z', sizeof(target));
	target[4000] = '\0';
	OK(symlink(target, "big"));
	TRUE(readlink("big", target, sizeof(target)) == 4000);
	OK(unlink("s"));
	TRUE(!absent("f"));
	OK(symlink("/nonexistent", "dangling"));
	ERR(open("dangling", O_RDONLY), ENOENT);
	OK(lchown("dangling", ALICE, ALICE));
	TRUE(stat_of("dangling").st_uid == ALICE);
}

static void rename_files(void)
{
	make_file("a", 0644, "A");
	make_file("b", 0644, "B");
	OK(rename("a", "b"));
	TRUE(absent("a"));
	expect_text("b", "A");
	OK(mkdir("d", 0755));
	OK(rename("b", "d/c"));
	expect_text("d/c", "A");
	ERR(rename("none", "x"), ENOENT);
	make_file("f", 0644, "F");
	ERR(rename("f", "d"), EISDIR);
	ERR(rename("d", "f"), ENOTDIR);
	ERR(rename("f", "none/x"), ENOENT);
}

static void rename_dirs(void)
{
	OK(mkdir("a", 0755));
	OK(mkdir("a/sub", 0755));
	OK(mkdir("b", 0755));
	make_file("b/f", 0644, "F");
	ERR(rename("a", "b"), ENOTEMPTY);
	ERR(rename("a", "a/sub/x"), EINVAL);
	OK(unlink("b/f"));
	OK(rename("a", "b"));
	TRUE(absent("a") && !absent("b/sub"));
	OK(rename("b/sub", "sub"));
	OK(rmdir("b"));
	TRUE(stat_of("sub").st_nlink == 2);
}

static void rename_flags(void)
{
	make_file("a", 0644, "A");
	make_file("b", 0644, "B");
	ERR(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
	OK(rename2("a", "c", RENAME_NOREPLACE));
	OK(rename2("c", "b", RENAME_EXCHANGE));
	expect_text("b", "A");
	expect_text("c", "B");
	ERR(rename2("c", "none", RENAME_EXCHANGE), ENOENT);
	OK(mkdir("d", 0755));
	OK(rename2("d", "b", RENAME_EXCHANGE));
	TRUE(S_ISDIR(stat_of("b").st_mode) && S_ISREG(stat_of("d").st_mode));
	ERR(rename2("c", "b", RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
}

/* Open descriptions keep their inode through rename-over and unlink. */
static void rename_over_open(void)
{
	char buf[8] = "";
	int fd, out;

	make_file("dst", 0644, "old");
	fd = open("dst", O_RDONLY);
	OK(fd);
	out = open("tmp", O_RDWR | O_CREAT, 0644);
	OK(out);
	TRUE(write(out, "new", 3) == 3);
	OK(rename("tmp", "dst"));
	TRUE(write(out, "er", 2) == 2);
	TRUE(read(fd, buf, sizeof(buf)) == 3 && memcmp(buf, "old", 3) == 0);
	expect_text("dst", "newer");
	OK(fsync(out));
	OK(close(out));
	OK(close(fd));
}

static void unlink_open(void)
{
	struct stat st;
	char buf[8];
	int fd;

	fd = open("f", O_RDWR | O_CREAT, 0644);
	OK(fd);
	TRUE(write(fd, "data", 4) == 4);
	OK(unlink("f"));
	TRUE(absent("f"));
	OK(fstat(fd, &st));
	TRUE(st.st_nlink == 0 && st.st_size == 4);
	TRUE(pwrite(fd, "X", 1, 0) == 1);
	TRUE(pread(fd, buf, 4, 0) == 4 && memcmp(buf, "Xata", 4) == 0);
	OK(ftruncate(fd, 2));
	OK(fstat(fd, &st));
	TRUE(st.st_size == 2);
	OK(fchmod(fd, 0600));
	make_file("f", 0644, "another");
	TRUE(pread(fd, buf, 8, 0) == 2);
	expect_text("f", "another");
	OK(close(fd));
}

static void unlink_rmdir(void)
{
	OK(mkdir("d", 0755));
	make_file("d/f", 0644, "x");
	ERR(rmdir("d"), ENOTEMPTY);
	ERR(unlink("d"), EISDIR);
	ERR(rmdir("d/f"), ENOTDIR);
	OK(unlink("d/f"));
	OK(rmdir("d"));
	ERR(rmdir("d"), ENOENT);
	ERR(unlink("none"), ENOENT);
	ERR(rmdir("."), EINVAL);
}

static void fifos_and_nodes(void)
{
	int fd;

	OK(mkfifo("p", 0622));
	TRUE(S_ISFIFO(stat_of("p").st_mode) && (stat_of("p").st_mode & 07777) == 0622);
	fd = open("p", O_RDWR | O_NONBLOCK);
	OK(fd);
	TRUE(write(fd, "x", 1) == 1);
	OK(close(fd));
	OK(mknod("reg", S_IFREG | 0600, 0));
	TRUE(S_ISREG(stat_of("reg").st_mode));
	OK(mknod("sock", S_IFSOCK | 0600, 0));
	TRUE(S_ISSOCK(stat_of("sock").st_mode));
	become(ALICE);
	OK(mkfifo("q", 0600));
	TRUE(stat_of("q").st_uid == ALICE);
	ERR(mknod("dev", S_IFCHR | 0600, 0x103), EPERM);
}

static void tmpfile_or_not(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	int err = errno;

	TRUE(fd >= 0 || err == EOPNOTSUPP || err == EISDIR);
}

const struct posix_case cases_names[] = {
	{ "create_excl", create_excl },
	{ "negative_lookup_then_create", negative_lookup_then_create },
	{ "long_names", long_names },
	{ "odd_names", odd_names },
	{ "hard_links", hard_links },
	{ "symlinks", symlinks },
	{ "rename_files", rename_files },
	{ "rename_dirs", rename_dirs },
	{ "rename_flags", rename_flags },
	{ "rename_over_open", rename_over_open },
	{ "unlink_open", unlink_open },
	{ "unlink_rmdir", unlink_rmdir },
	{ "fifos_and_nodes", fifos_and_nodes },
	{ "tmpfile_or_not", tmpfile_or_not },
	{ NULL, NULL },
};
