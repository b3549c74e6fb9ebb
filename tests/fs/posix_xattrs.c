/* SPDX-License-Identifier: MIT */
/* Extended attributes of users. */
#include "posix.h"

#include <sys/xattr.h>

static void set_get_list_remove(void)
{
	char buf[256];
	int fd;

	make_file("f", 0644, "x");
	OK(setxattr("f", "user.a", "one", 3, 0));
	OK(setxattr("f", "user.b", "", 0, 0));
	TRUE(getxattr("f", "user.a", buf, sizeof(buf)) == 3 && memcmp(buf, "one", 3) == 0);
	TRUE(getxattr("f", "user.a", NULL, 0) == 3);
	TRUE(getxattr("f", "user.b", buf, sizeof(buf)) == 0);
	ERR((int)getxattr("f", "user.a", buf, 2), ERANGE);
	ERR((int)getxattr("f", "user.none", buf, sizeof(buf)), ENODATA);
	TRUE(listxattr("f", NULL, 0) == 14 && listxattr("f", buf, sizeof(buf)) == 14);
	ERR((int)listxattr("f", buf, 3), ERANGE);
	ERR(setxattr("f", "user.a", "x", 1, XATTR_CREATE), EEXIST);
	ERR(setxattr("f", "user.c", "x", 1, XATTR_REPLACE), ENODATA);
	OK(setxattr("f", "user.a", "two2", 4, XATTR_REPLACE));
	TRUE(getxattr("f", "user.a", buf, sizeof(buf)) == 4);
	OK(removexattr("f", "user.a"));
	ERR(removexattr("f", "user.a"), ENODATA);
	fd = open("f", O_RDWR);
	OK(fd);
	OK(fsetxattr(fd, "user.fd", "v", 1, 0));
	OK(rename("f", "g"));
	TRUE(getxattr("g", "user.fd", buf, sizeof(buf)) == 1);
	OK(mkdir("d", 0755));
	OK(setxattr("d", "user.dir", "v", 1, 0));
	TRUE(getxattr("d", "user.dir", buf, sizeof(buf)) == 1);
}

static void limits(void)
{
	char name[300] = "user.", value[2000];

	make_file("f", 0644, "x");
	memset(name + 5, 'n', 250);
	name[255] = '\0';
	OK(setxattr("f", name, "v", 1, 0));
	memset(name + 5, 'n', 251);
	name[256] = '\0';
	ERR(setxattr("f", name, "v", 1, 0), ERANGE);
	memset(value, 'v', sizeof(value));
	OK(setxattr("f", "user.big", value, sizeof(value), 0));
	ERR(setxattr("f", "nonamespace", "v", 1, 0), EOPNOTSUPP);
	ERR(setxattr("none", "user.a", "v", 1, 0), ENOENT);
}

const struct posix_case cases_xattrs[] = {
	{ "set_get_list_remove", set_get_list_remove },
	{ "xattr_limits", limits },
	{ NULL, NULL },
};
