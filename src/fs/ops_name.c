/* SPDX-License-Identifier: MIT */
/* Names: lookup, forget, and everything that adds, moves or removes one. The
 * name of the control directory exists for lookup and for nothing else. */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>

#include "fs/control.h"
#include "fs/ops.h"
#include "fs/reply.h"

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct node *n;
	struct stat attr;
	int r;

	if (control_lookup(req, parent, name))
		return;
	/* Only asked for by exporting over NFS, which is switched off. */
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		reply_code(req, -ESTALE);
		return;
	}
	r = store_lookup(fs->st, fs_node(fs, parent), name, &n, &attr);
	if (r == 0)
		reply_entry(req, n, &attr);
	else if (r == -ENOENT)
		reply_absent(req);
	else
		reply_code(req, r);
}

static void forget(struct fs *fs, fuse_ino_t ino, uint64_t nlookup)
{
	if (ino != FUSE_ROOT_ID && !fs_ino_is_control(ino))
		store_forget(fs->st, fs_node(fs, ino), nlookup);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	forget(fs_of(req), ino, nlookup);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = fs_of(req);

	for (size_t i = 0; i < count; i++)
		forget(fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* True, and the request answered, when @name may not be made or taken away. */
static bool refuse_control(fuse_req_t req, fuse_ino_t parent, const char *name, int code)
{
	if (!control_is_name(parent, name) && !fs_ino_is_control(parent))
		return false;
	reply_code(req, code);
	return true;
}

static void reply_made(fuse_req_t req, int r, struct node *n, const struct stat *attr)
{
	if (r == 0)
		reply_entry(req, n, attr);
	else
		reply_code(req, r);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs *fs = fs_of(req);
	struct caller c = fs_caller(req);
	struct node *n = NULL;
	struct stat attr;
	int r;

	if (refuse_control(req, parent, name, -EEXIST))
		return;
	r = store_mkdir(fs->st, &c, fs_node(fs, parent), name, mode, &n, &attr);
	reply_made(req, r, n, &attr);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fs *fs = fs_of(req);
	struct caller c = fs_caller(req);
	struct node *n = NULL;
	struct stat attr;
	int r;

	if (refuse_control(req, parent, name, -EEXIST))
		return;
	r = store_mknod(fs->st, &c, fs_node(fs, parent), name, mode, rdev, &n, &attr);
	reply_made(req, r, n, &attr);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct caller c = fs_caller(req);
	struct node *n = NULL;
	struct stat attr;
	int r;

	if (refuse_control(req, parent, name, -EEXIST))
		return;
	r = store_symlink(fs->st, &c, target, fs_node(fs, parent), name, &n, &attr);
	reply_made(req, r, n, &attr);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct fs *fs = fs_of(req);
	struct stat attr;
	int r;

	if (fs_ino_is_control(ino)) {
		reply_code(req, -EPERM);
		return;
	}
	if (refuse_control(req, newparent, newname, -EEXIST))
		return;
	r = store_link(fs->st, fs_node(fs, ino), fs_node(fs, newparent), newname, &attr);
	reply_made(req, r, fs_node(fs, ino), &attr);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);

	if (!refuse_control(req, parent, name, -EPERM))
		reply_code(req, store_unlink(fs->st, fs_node(fs, parent), name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);

	if (!refuse_control(req, parent, name, -EBUSY))
		reply_code(req, store_rmdir(fs->st, fs_node(fs, parent), name));
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	       const char *newname, unsigned flags)
{
	struct fs *fs = fs_of(req);

	if (refuse_control(req, parent, name, -EBUSY) ||
	    refuse_control(req, newparent, newname, -EBUSY))
		return;
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		reply_code(req, -EINVAL);
	else
		reply_code(req, store_rename(fs->st, fs_node(fs, parent), name,
					     fs_node(fs, newparent), newname, flags));
}
