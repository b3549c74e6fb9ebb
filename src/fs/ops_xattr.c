/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes. Names below user.kvcache. steer (xattr.c); trusted.* is
 * root's, as on a disk; POSIX ACLs are not supported, since the kernel would
 * not apply them; everything else is the store's. Steering that takes long is
 * done, and answered, on a thread of its own.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "fs/steer.h"
#include "fs/xattr.h"

#define LIST_MAX 65536u

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* 0 when @name may reach the store, else the code to answer. */
static int name_allowed(fuse_req_t req, const char *name, int hidden)
{
	if (has_prefix(name, "system."))
		return -EOPNOTSUPP;
	if (has_prefix(name, "trusted.") && fuse_req_ctx(req)->uid != 0)
		return hidden;
	return 0;
}

static void reply_value(fuse_req_t req, const char *v, size_t len, size_t size)
{
	if (size == 0)
		(void)fuse_reply_xattr(req, len);
	else if (len > size)
		reply_code(req, -ERANGE);
	else
		(void)fuse_reply_buf(req, v, len);
}

static void get_steering(fuse_req_t req, struct node *n, const char *name, size_t size)
{
	struct sbuf out = SBUF_INIT;
	int id = xattr_find(name);
	int r = id < 0 ? id : xattr_show(fs_of(req), n, id, &out);

	if (r == 0 && out.failed)
		r = -ENOMEM;
	if (r < 0)
		reply_code(req, r);
	else
		reply_value(req, out.s, out.len, size);
	sbuf_fini(&out);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	char small[1024], *buf = small;
	ssize_t n;
	int r = name_allowed(req, name, -ENODATA);

	if (r == 0 && fs_ino_is_control(ino))
		r = -ENODATA;
	if (r < 0) {
		reply_code(req, r);
		return;
	}
	if (xattr_is_ours(name)) {
		get_steering(req, fs_node(fs, ino), name, size);
		return;
	}
	if (size > sizeof(small))
		buf = mem_alloc(size);
	n = buf ? store_getxattr(fs->st, fs_node(fs, ino), name, buf, size) : -ENOMEM;
	if (n < 0)
		reply_code(req, (int)n);
	else
		reply_value(req, buf, (size_t)n, size);
	if (buf != small)
		mem_free(buf);
}

/* Takes out what the caller may not see; returns the new length. */
static size_t list_filter(fuse_req_t req, char *buf, size_t len)
{
	char *out = buf;

	for (char *p = buf; p < buf + len;) {
		size_t n = strnlen(p, (size_t)(buf + len - p)) + 1;

		if (name_allowed(req, p, -ENODATA) == 0) {
			memmove(out, p, n);
			out += n;
		}
		p += n;
	}
	return (size_t)(out - buf);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs *fs = fs_of(req);
	char *buf;
	ssize_t n = 0;

	if (fs_ino_is_control(ino)) {
		reply_value(req, "", 0, size);
		return;
	}
	buf = mem_alloc(LIST_MAX);
	n = buf ? store_listxattr(fs->st, fs_node(fs, ino), buf, LIST_MAX) : -ENOMEM;
	if (n < 0)
		reply_code(req, (int)n);
	else
		reply_value(req, buf, list_filter(req, buf, (size_t)n), size);
	mem_free(buf);
}

struct setting {
	struct steer_job job;
	fuse_req_t req;
	struct xattr_change change;
};

static void log_refusal(struct fs *fs, const char *name, const char *value, const char *why)
{
	if (log_limited(&fs->refused_log, NSEC_PER_SEC / 10))
		log_warn(fs->log, "%s=%.80s refused: %s", name, value, why);
}

static void steer_done(fuse_req_t req, const struct xattr_change *c, int r)
{
	if (r < 0)
		log_refusal(c->fs, xattr_table[c->id].name, c->value, err_text(r));
	reply_code(req, r);
}

static void setting_run(struct steer_job *job, bool cancelled)
{
	struct setting *j = container_of(job, struct setting, job);
	int r = cancelled ? -ECANCELED : xattr_apply(&j->change);

	/* Who asked for an eviction should not find the name still cached. */
	notifier_drain(j->change.fs->notify);
	steer_done(j->req, &j->change, r);
}

static void setting_done(struct steer_job *job)
{
	mem_free(container_of(job, struct setting, job));
}

static void set_steering(fuse_req_t req, struct node *n, const char *name, const char *val,
			 size_t size, int flags)
{
	struct fs *fs = fs_of(req);
	struct setting *j = mem_zalloc(sizeof(*j));
	struct sbuf why = SBUF_INIT;
	struct stat attr;
	int r;

	if (!j) {
		reply_code(req, -ENOMEM);
		return;
	}
	j->req = req;
	j->job.run = setting_run;
	j->job.done = setting_done;
	j->job.uid = fuse_req_ctx(req)->uid;
	j->change.fs = fs;
	j->change.node = n;
	j->change.id = xattr_find(name);
	j->change.who = fuse_req_ctx(req)->uid;
	j->change.gid = fuse_req_ctx(req)->gid;
	j->change.flags = flags;
	j->change.len = size < XATTR_VALUE_MAX ? size : XATTR_VALUE_MAX;
	memcpy(j->change.value, val, j->change.len);
	r = store_getattr(fs->st, n, NULL, &attr);
	if (r < 0) {
		sbuf_adds(&why, err_text(r));
	} else if (j->change.id < 0) {
		r = -EOPNOTSUPP;
		sbuf_adds(&why, "no such setting; see kvcachefs-xattr(7)");
	} else if (size > XATTR_VALUE_MAX) {
		r = -EINVAL;
		sbuf_adds(&why, "the value is too long");
	} else {
		r = xattr_check(&j->change, &attr, &why);
	}
	if (r == 0 && xattr_is_slow(j->change.id)) {
		steer_submit(fs->steer, &j->job);
	} else {
		if (r == 0) {
			steer_done(req, &j->change, xattr_apply(&j->change));
		} else {
			log_refusal(fs, name, j->change.value, why.s ? why.s : "");
			reply_code(req, r);
		}
		mem_free(j);
	}
	sbuf_fini(&why);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *val, size_t size,
		 int flags)
{
	struct fs *fs = fs_of(req);
	int r = name_allowed(req, name, -EPERM);

	if (r == 0 && fs_ino_is_control(ino))
		r = -EPERM;
	if (r < 0)
		reply_code(req, r);
	else if (xattr_is_ours(name))
		set_steering(req, fs_node(fs, ino), name, val, size, flags);
	else
		reply_code(req, store_setxattr(fs->st, fs_node(fs, ino), name, val, size, flags));
}

static int remove_steering(fuse_req_t req, struct node *n, const char *name)
{
	struct fs *fs = fs_of(req);
	uid_t who = fuse_req_ctx(req)->uid;
	int id = xattr_find(name);
	struct stat attr;
	int r;

	if (id < 0 || xattr_table[id].kind != KVCACHEFS_XATTR_SETTING)
		return -ENODATA;
	r = store_getattr(fs->st, n, NULL, &attr);
	if (r < 0)
		return r;
	if (who != 0 && who != attr.st_uid)
		return -EPERM;
	return xattr_remove(fs, n, id, who);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs *fs = fs_of(req);
	int r = name_allowed(req, name, -EPERM);

	if (r == 0 && fs_ino_is_control(ino))
		r = -EPERM;
	if (r < 0)
		reply_code(req, r);
	else if (xattr_is_ours(name))
		reply_code(req, remove_steering(req, fs_node(fs, ino), name));
	else
		reply_code(req, store_removexattr(fs->st, fs_node(fs, ino), name));
}
