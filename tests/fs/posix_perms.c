/* SPDX-License-Identifier: MIT */
/* Ownership and permissions, as several users. */
#include "posix.h"

#include <sys/xattr.h>

static void owner_of_new(void)
{
	become(ALICE);
	make_file("f", 0640, "x");
	OK(mkdir("d", 0750));
	OK(symlink("x", "s"));
	OK(mkfifo("p", 0600));
	become_root();
	TRUE(stat_of("f").st_uid == ALICE && stat_of("f").st_gid == ALICE);
	TRUE(stat_of("d").st_uid == ALICE && stat_of("d").st_gid == ALICE);
	TRUE(stat_of("s").st_uid == ALICE && stat_of("s").st_gid == ALICE);
	TRUE(stat_of("p").st_uid == ALICE && stat_of("p").st_gid == ALICE);
	TRUE((stat_of("f").st_mode & 07777) == 0640 && (stat_of("d").st_mode & 07777) == 0750);
}

static void umask_applies(void)
{
	umask(027);
	make_file("f", 0666, "x");
	OK(mkdir("d", 0777));
	TRUE((stat_of("f").st_mode & 07777) == 0640);
	TRUE((stat_of("d").st_mode & 07777) == 0750);
}

static void setgid_directory(void)
{
	OK(mkdir("d", 0777));
	OK(chown("d", 0, TEAM));
	OK(chmod("d", 02777));
	become(BOB); /* not of the team */
	make_file("d/f", 0644, "x");
	OK(mkdir("d/sub", 0755));
	TRUE(stat_of("d/f").st_gid == TEAM && stat_of("d/f").st_uid == BOB);
	TRUE(stat_of("d/sub").st_gid == TEAM && (stat_of("d/sub").st_mode & S_ISGID));
	/* a setgid program of a group that one is not in must not come to be */
	OK(mknod("d/prog", S_IFREG | 02755, 0));
	TRUE(!(stat_of("d/prog").st_mode & S_ISGID));
	become(ALICE);
	OK(mknod("d/mine", S_IFREG | 02755, 0));
	TRUE(stat_of("d/mine").st_mode & S_ISGID);
}

static void sticky_directory(void)
{
	OK(mkdir("d", 01777));
	become(ALICE);
	make_file("d/alice", 0666, "x");
	become(BOB);
	make_file("d/bob", 0666, "x");
	ERR(unlink("d/alice"), EPERM);
	ERR(rename("d/alice", "d/stolen"), EPERM);
	ERR(rename("d/bob", "d/alice"), EPERM);
	OK(unlink("d/bob"));
	become(ALICE);
	OK(unlink("d/alice"));
}

static void read_write_search(void)
{
	make_file("secret", 0600, "x");
	make_file("readable", 0644, "x");
	OK(mkdir("closed", 0700));
	OK(mkdir("listable", 0744));
	OK(mkdir("searchable", 0711));
	make_file("closed/f", 0666, "x");
	make_file("searchable/f", 0666, "x");
	make_file("listable/f", 0666, "x");
	become(ALICE);
	ERR(open("secret", O_RDONLY), EACCES);
	ERR(open("readable", O_WRONLY), EACCES);
	OK(open("readable", O_RDONLY));
	ERR(truncate("readable", 0), EACCES);
	ERR(open("closed/f", O_RDONLY), EACCES);
	ERR(open("listable/f", O_RDONLY), EACCES);
	OK(open("searchable/f", O_RDWR));
	ERR(open("searchable", O_RDONLY), EACCES);
	ERR(open("searchable/new", O_WRONLY | O_CREAT, 0644), EACCES);
	ERR(unlink("searchable/f"), EACCES);
	ERR(mkdir("closed/d", 0755), EACCES);
	TRUE(access("secret", R_OK) == -1 || geteuid() != getuid());
}

/* A right taken away is gone at once, whatever the kernel has cached. */
static void revoked_permission(void)
{
	make_file("f", 0644, "x");
	become(ALICE);
	expect_text("f", "x");
	become_root();
	OK(chmod("f", 0600));
	become(ALICE);
	ERR(open("f", O_RDONLY), EACCES);
	become_root();
	OK(chown("f", ALICE, ALICE));
	become(ALICE);
	expect_text("f", "x");
}

static void chmod_chown_rules(void)
{
	make_file("roots", 0644, "x");
	become(ALICE);
	make_file("mine", 0644, "x");
	ERR(chmod("roots", 0666), EPERM);
	ERR(chown("roots", ALICE, -1), EPERM);
	OK(chmod("mine", 0600));
	ERR(chown("mine", BOB, -1), EPERM);
	ERR(chown("mine", -1, BOB), EPERM);
	OK(chown("mine", -1, TEAM));
	TRUE(stat_of("mine").st_gid == TEAM);
	OK(chmod("mine", 02755));
	TRUE(stat_of("mine").st_mode & S_ISGID);
	become_root();
	OK(chown("mine", -1, BOB));
	become(ALICE);
	OK(chmod("mine", 02755)); /* not of group bob: the bit is dropped */
	TRUE(!(stat_of("mine").st_mode & S_ISGID));
}

static void expect_no_suid(const char *name)
{
	TRUE(!(stat_of(name).st_mode & (S_ISUID | S_ISGID)));
}

/* Writing, truncating or giving away takes setuid and setgid away. */
static void suid_is_dropped(void)
{
	int fd;

	for (int i = 0; i < 5; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		make_file(name, 0777, "text");
		OK(chmod(name, 06777));
	}
	become(ALICE);
	fd = open("f0", O_WRONLY);
	OK(fd);
	TRUE(stat_of("f0").st_mode & S_ISUID);
	TRUE(write(fd, "y", 1) == 1);
	expect_no_suid("f0");
	OK(close(fd));
	OK(truncate("f1", 1));
	expect_no_suid("f1");
	fd = open("f2", O_WRONLY | O_TRUNC);
	OK(fd);
	OK(close(fd));
	expect_no_suid("f2");
	fd = open("f4", O_WRONLY);
	OK(fd);
	if (fallocate(fd, 0, 0, 100) == 0)
		expect_no_suid("f4");
	OK(close(fd));
	become_root();
	OK(chown("f3", ALICE, ALICE));
	expect_no_suid("f3");
}

static void rename_needs_both_directories(void)
{
	OK(mkdir("from", 0755));
	OK(mkdir("to", 0777));
	make_file("from/f", 0666, "x");
	OK(mkdir("open", 0777));
	OK(mkdir("open/theirs", 0755));
	become(ALICE);
	ERR(rename("from/f", "to/f"), EACCES);
	ERR(link("from/f", "from/g"), EACCES);
	/* a directory that moves changes its "..": it must be writable itself */
	ERR(rename("open/theirs", "to/theirs"), EACCES);
}

static void times_need_ownership(void)
{
	struct timespec ts[2] = { { 1, 0 }, { 1, 0 } };
	struct timespec now[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } };

	make_file("writable", 0666, "x");
	make_file("readable", 0644, "x");
	become(ALICE);
	ERR(utimensat(AT_FDCWD, "writable", ts, 0), EPERM);
	OK(utimensat(AT_FDCWD, "writable", now, 0));
	ERR(utimensat(AT_FDCWD, "readable", now, 0), EACCES);
}

static void xattr_permissions(void)
{
	char buf[16];

	make_file("readable", 0644, "x");
	OK(setxattr("readable", "user.a", "1", 1, 0));
	OK(mkdir("sticky", 01777));
	OK(symlink("readable", "s"));
	become(ALICE);
	TRUE(getxattr("readable", "user.a", buf, sizeof(buf)) == 1);
	ERR(setxattr("readable", "user.a", "2", 1, 0), EACCES);
	ERR(removexattr("readable", "user.a"), EACCES);
	ERR(setxattr("sticky", "user.a", "2", 1, 0), EPERM);
	ERR(lsetxattr("s", "user.a", "2", 1, 0), EPERM);
	ERR(setxattr("readable", "trusted.a", "2", 1, 0), EPERM);
	become_root();
	OK(setxattr("readable", "trusted.a", "2", 1, 0));
	become(ALICE);
	ERR(getxattr("readable", "trusted.a", buf, sizeof(buf)), ENODATA);
	TRUE(listxattr("readable", NULL, 0) == sizeof("user.a"));
}

const struct posix_case cases_perms[] = {
	{ "owner_of_new", owner_of_new },
	{ "umask_applies", umask_applies },
	{ "setgid_directory", setgid_directory },
	{ "sticky_directory", sticky_directory },
	{ "read_write_search", read_write_search },
	{ "revoked_permission", revoked_permission },
	{ "chmod_chown_rules", chmod_chown_rules },
	{ "suid_is_dropped", suid_is_dropped },
	{ "rename_needs_both_directories", rename_needs_both_directories },
	{ "times_need_ownership", times_need_ownership },
	{ "xattr_permissions", xattr_permissions },
	{ NULL, NULL },
};
