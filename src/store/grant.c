/* SPDX-License-Identifier: MIT */
/*
 * Grants. A file inherits when it is made, so that what others do later to directories
 * above it, or where it is moved, changes nothing; and only from directories of root
 * or of its owner, because whoever may write into another's directory could else have
 * his files lose content. Nearly always no directory above has a setting: directories of
 * which that is known are remembered until a setting or a directory's name changes.
 */
#include "store/grant.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/hash.h"
#include "base/units.h"
#include "store/level.h"
#include "store/level_quality.h"
#include "store/thin.h"

#define QUALITY "user.kvcache.quality"
#define ACCEPT "user.kvcache.accept"
#define ALMOST 0.999999
/* Checksums of the content that engines keep beside it. */
static const char *const checksums[] = { "user.vllm.kv_crc32c" };

/* ---- the floor ------------------------------------------------------------- */

/* A value that says nothing (it came beside the mount) grants nothing. */
static bool own_quality(struct store *st, struct node *n, double *ret)
{
	char v[32];
	ssize_t len = store_getxattr(st, n, QUALITY, v, sizeof(v) - 1);

	if (len < 0 && len != -ERANGE)
		return false;
	v[len < 0 ? 0 : len] = 0;
	if (units_parse_double(v, 0, 1, ret) < 0)
		*ret = 1;
	return true;
}

double grant_floor(struct store *st, struct node *n)
{
	double q;

	return own_quality(st, n, &q) ? q : st->cfg.quality;
}

static bool checksummed(struct store *st, struct node *n)
{
	char v[256];

	for (size_t i = 0; i < sizeof(checksums) / sizeof(checksums[0]); i++) {
		ssize_t len = store_getxattr(st, n, checksums[i], v, sizeof(v));

		if (len >= 0 || len == -ERANGE)
			return true;
	}
	return false;
}

const char *grant_veto(struct store *st, struct node *n, const struct layout *l)
{
	if (checksummed(st, n))
		return "exact: a checksum of the content is kept beside it";
	if (l->lossy_veto)
		return l->veto;
	return l->n_regions == 0 ? "exact: layout not recognised" : NULL;
}

int grant_check(struct store *st, struct node *n, const struct layout *l)
{
	if (grant_floor(st, n) >= 1)
		return -KVFS_EEXACT;
	return grant_veto(st, n, l) ? -KVFS_EVETO : 0;
}

/* ---- settings of directories ------------------------------------------------ */

/* Without a gate: the caller may have that of the file. */
bool grant_owner(struct store *st, struct node *n, uid_t *ret)
{
	struct stat sb;
	struct at at;
	bool ok;

	if (node_at(st->nodes, n, &at) < 0)
		return false;
	ok = fstatat(at.dirfd, at.name, &sb, at.flags) == 0;
	node_at_put(st->nodes, &at);
	if (ok)
		*ret = sb.st_uid;
	return ok;
}

bool grant_nearest(struct store *st, struct node *at, uid_t uid, const char *name, char *buf,
		   size_t len, bool *ret_any, uid_t *ret_of)
{
	char own[NAME_MAX + 1];
	bool found = false, any = false;
	struct node *up;
	uid_t of;

	node_ref(st->nodes, at);
	for (int depth = 0; depth < 256 && !found; depth++) {
		ssize_t got = store_getxattr(st, at, name, buf, len - 1);

		any |= got >= 0;
		if (got >= 0 && grant_owner(st, at, &of) && (of == 0 || of == uid)) {
			buf[got] = 0;
			found = true;
		}
		if (node_is_root(at) || !node_where(st->nodes, at, &up, own))
			break;
		node_forget(st->nodes, at, 1);
		at = up;
	}
	node_forget(st->nodes, at, 1);
	if (ret_any)
		*ret_any = any;
	if (ret_of && found)
		*ret_of = of;
	return found;
}

/* ---- inheriting ------------------------------------------------------------ */

static struct grant_none *slot_of(struct store *st, uint64_t ino)
{
	return &st->grants.none[hash_u64(ino) % GRANT_NONE_SLOTS];
}

/* Is it known that neither @ino nor a directory above it has a setting? */
static bool known_none(struct store *st, uint64_t ino, uint64_t *ret_age)
{
	struct grant_none *s = slot_of(st, ino);
	bool none;

	lock_acquire(&st->grants.lock);
	*ret_age = st->grants.age;
	none = s->ino == ino && s->age == st->grants.age;
	lock_release(&st->grants.lock);
	return none;
}

static void note_none(struct store *st, uint64_t ino, uint64_t age)
{
	struct grant_none *s = slot_of(st, ino);

	lock_acquire(&st->grants.lock);
	s->ino = ino;
	s->age = age;
	lock_release(&st->grants.lock);
}

void grant_forget(struct store *st)
{
	lock_acquire(&st->grants.lock);
	st->grants.age++;
	lock_release(&st->grants.lock);
}

void grant_inherit(struct store *st, struct node *dir, int fd, uid_t uid)
{
	static const char *const names[] = { QUALITY, ACCEPT };
	bool any, none = true;
	char value[32];
	uint64_t age;

	if (known_none(st, node_ino(dir), &age))
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		bool found = grant_nearest(st, dir, uid, names[i], value, sizeof(value), &any, NULL);

		none &= !any;
		if (found && fsetxattr(fd, names[i], value, strlen(value), XATTR_CREATE) < 0)
			log_warn(st->log, "a new file does not get %s of its directory: %s",
				 names[i], strerror(errno)); /* and has less granted */
	}
	if (none)
		note_none(st, node_ino(dir), age);
}

/* ---- vetoes ---------------------------------------------------------------- */

/* The quality that a file keeps which has lost layers, 0 when it lost tokens; 1 for all
 * others. Gate held. */
static double quality_left(struct ctx *c, struct node *n)
{
	double quality[POLICY_LEVELS_MAX], left;

	if (node_content(n) == NODE_PLAIN || ctx_load_locked(c, n) < 0 ||
	    ctx_object_locked(c) < 0)
		return 1;
	if (thin_is(c))
		return 0;
	if (!level_lossy(c))
		return 1;
	level_qualities(c->st, n, c->obj, quality);
	left = quality[level_stored(c) - 1];
	return left < ALMOST ? left : ALMOST; /* said to be as good: not exact */
}

/* The quality that xattr @name asks for with that value; 0: nothing. */
static double asked(const struct store *st, const char *name, const void *val, size_t len)
{
	double want = 0;
	char text[32];

	for (size_t i = 0; i < sizeof(checksums) / sizeof(checksums[0]); i++)
		if (val && strcmp(name, checksums[i]) == 0)
			want = 1;
	if (strcmp(name, QUALITY) != 0)
		return want;
	want = st->cfg.quality;
	if (val && len < sizeof(text)) {
		memcpy(text, val, len);
		text[len] = 0;
		err_ignore(units_parse_double(text, 0, 1, &want)); /* the mount's then */
	}
	return want;
}

int grant_set_begin(struct store *st, struct node *n, const char *name, const void *val,
		    size_t len, struct ctx **ret)
{
	double want = asked(st, name, val, len);
	struct ctx *c;

	*ret = NULL;
	if (want == 0 || !S_ISREG(node_type(n)) || ctx_get(st, node_ino(n), true, &c) < 0)
		return 0;
	if (ctx_enter(c) == 0) {
		if (want <= quality_left(c, n)) {
			*ret = c;
			return 0;
		}
		gate_leave(&c->gate, true);
		ctx_idle(c);
		ctx_put(c);
		return -KVFS_EGONE;
	}
	ctx_put(c);
	return 0;
}

void grant_set_end(struct ctx *c)
{
	if (!c)
		return;
	gate_leave(&c->gate, true);
	ctx_idle(c);
	ctx_put(c);
}
