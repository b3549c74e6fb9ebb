/* SPDX-License-Identifier: MIT */
/*
 * Steering by extended attributes. INFO is computed from store_info; SETTINGs
 * are kept by the store under their own name, so that cp -a and rsync -X carry
 * them; ACTIONs leave nothing behind. Reading never changes anything.
 */
#include "fs/xattr.h"

#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"
#include "codecs/drop.h"
#include "layouts/layout.h"
#include "policy/policy.h"

const struct xattr_def xattr_table[KVCACHEFS_XATTR_IDS] = {
#define X(id, name, kind, on, set, value, help)                    \
	[KVCACHEFS_XATTR_ID_##id] = { KVCACHEFS_XATTR_PREFIX name, \
				      KVCACHEFS_XATTR_##kind,      \
				      KVCACHEFS_XATTR_##on,        \
				      KVCACHEFS_XATTR_##set,       \
				      value,                       \
				      help },
	KVCACHEFS_XATTRS(X)
#undef X
};

bool xattr_is_ours(const char *name)
{
	return strncmp(name, KVCACHEFS_XATTR_PREFIX, strlen(KVCACHEFS_XATTR_PREFIX)) == 0;
}

int xattr_find(const char *name)
{
	for (int i = 0; i < KVCACHEFS_XATTR_IDS; i++)
		if (strcmp(xattr_table[i].name, name) == 0)
			return i;
	return -ENODATA;
}

static void show_state(const struct ctx_info *i, struct sbuf *out)
{
	static const char *const names[] = { "plain", "sealing", "sealed", "overlay" };

	sbuf_adds(out, names[i->state]);
}

static int show_text(const char *s, struct sbuf *out)
{
	if (!*s)
		return -ENODATA;
	sbuf_adds(out, s);
	return 0;
}

/* The level that @n layers are: its number, or "exact". */
static void show_level(const struct ctx_info *i, unsigned n, struct sbuf *out)
{
	if (n == i->levels_max)
		sbuf_adds(out, i->dropped ? "drop" : "exact");
	else
		sbuf_addf(out, "%u", n - 1);
}

static void show_levels(const struct ctx_info *i, struct sbuf *out)
{
	if (i->levels == 0)
		sbuf_addf(out, "exact:%llu", (unsigned long long)i->stored_bytes);
	for (unsigned n = 1; n <= i->levels; n++) {
		sbuf_adds(out, n > 1 ? " " : "");
		show_level(i, n, out);
		sbuf_addf(out, ":%llu", (unsigned long long)i->level_bytes[n - 1]);
	}
}

static int show_estimate(const struct ctx_info *i, struct sbuf *out)
{
	bool any = false;

	if (i->dropped)
		return -ENODATA; /* nothing predicts what missing tokens cost */
	for (unsigned n = 1; n < i->levels_max; n++) {
		if (i->level_quality[n - 1] <= 0)
			continue;
		sbuf_addf(out, "%u:%.4f ", n - 1, i->level_quality[n - 1]);
		any = true;
	}
	if (any)
		sbuf_adds(out, "exact:1");
	return any ? 0 : -ENODATA;
}

static int show_info(const struct ctx_info *i, int id, struct sbuf *out)
{
	switch ((enum kvcachefs_xattr_id)id) {
	case KVCACHEFS_XATTR_ID_STATE:
		show_state(i, out);
		return 0;
	case KVCACHEFS_XATTR_ID_RECOGNISED:
	case KVCACHEFS_XATTR_ID_LAYOUT:
		return show_text(i->layout, out);
	case KVCACHEFS_XATTR_ID_CODEC:
		return show_text(i->codec, out);
	case KVCACHEFS_XATTR_ID_LEVEL:
		show_level(i, i->level_next, out);
		return 0;
	case KVCACHEFS_XATTR_ID_LEVELS:
		show_levels(i, out);
		return 0;
	case KVCACHEFS_XATTR_ID_ESTIMATE:
		return show_estimate(i, out);
	case KVCACHEFS_XATTR_ID_TIER:
		return show_text(i->has_copy ? "copy" : i->in_dram ? "dram" : "ssd", out);
	case KVCACHEFS_XATTR_ID_RATIO:
		sbuf_addf(out, "%.3f",
			  i->stored_bytes ? (double)i->logical_bytes / (double)i->stored_bytes
					  : 1.0);
		return 0;
	case KVCACHEFS_XATTR_ID_FREQUENCY:
		sbuf_addf(out, "%.4g", i->frequency);
		return 0;
	case KVCACHEFS_XATTR_ID_QUALITY:
		sbuf_addf(out, "%g", i->quality);
		return 0;
	case KVCACHEFS_XATTR_ID_REASON:
		return show_text(i->reason, out);
	case KVCACHEFS_XATTR_ID_UTILITY:
		if (i->planned)
			sbuf_addf(out, "%.6g", i->utility);
		return i->planned ? 0 : -ENODATA;
	case KVCACHEFS_XATTR_ID_WHY:
		return show_text(i->why, out);
	case KVCACHEFS_XATTR_ID_DAMAGED:
		return show_text(i->damaged ? "1" : "0", out);
	case KVCACHEFS_XATTR_ID_PIN:
		return show_text(i->pinned ? "1" : "0", out);
	default:
		return -ENODATA;
	}
}

static int show_number(const struct ctx_info *i, int id, struct sbuf *out)
{
	uint64_t v;

	switch ((enum kvcachefs_xattr_id)id) {
	case KVCACHEFS_XATTR_ID_LOGICAL_BYTES:
		v = i->logical_bytes;
		break;
	case KVCACHEFS_XATTR_ID_STORED_BYTES:
		v = i->stored_bytes;
		break;
	case KVCACHEFS_XATTR_ID_REPLICA_BYTES:
		v = i->replica_bytes;
		break;
	case KVCACHEFS_XATTR_ID_COPY_BYTES:
		v = i->copy_bytes;
		break;
	case KVCACHEFS_XATTR_ID_HITS:
		v = i->hits;
		break;
	case KVCACHEFS_XATTR_ID_OPENS:
		v = i->opens;
		break;
	default:
		return show_info(i, id, out);
	}
	sbuf_addf(out, "%llu", (unsigned long long)v);
	return 0;
}

static int show_root(struct fs *fs, int id, struct sbuf *out)
{
	struct store_status s;
	struct scrub_status scrub;

	memset(&s, 0, sizeof(s));
	memset(&scrub, 0, sizeof(scrub));
	if (id == KVCACHEFS_XATTR_ID_SCRUB) {
		store_scrub_status(fs->st, &scrub);
		sbuf_addf(out, "%s files=%llu/%llu bytes=%llu damaged=%llu",
			  scrub.running ? "running" : "idle", (unsigned long long)scrub.files_done,
			  (unsigned long long)scrub.files_total,
			  (unsigned long long)scrub.bytes_done, (unsigned long long)scrub.damaged);
		return 0;
	}
	store_status(fs->st, &s);
	sbuf_addf(out, "%llu",
		  (unsigned long long)(id == KVCACHEFS_XATTR_ID_DRAM ? s.dram_limit : s.ssd_limit));
	return 0;
}

/* A value that somebody set on @n itself. */
static int show_set(struct fs *fs, struct node *n, int id, struct sbuf *out)
{
	char value[XATTR_VALUE_MAX];
	ssize_t len = store_getxattr(fs->st, n, xattr_table[id].name, value, sizeof(value));

	if (len < 0)
		return (int)len;
	sbuf_add(out, value, (size_t)len);
	return 0;
}

static int show_positions(struct fs *fs, struct node *n, struct sbuf *out)
{
	int r = store_positions(fs->st, n, out);

	return r == 0 && out->len > XATTR_SIZE_MAX ? -E2BIG : r;
}

int xattr_show(struct fs *fs, struct node *n, int id, struct sbuf *out)
{
	const struct xattr_def *d = &xattr_table[id];
	struct ctx_info info;
	struct stat st;
	int r;

	if (d->on & KVCACHEFS_XATTR_ROOT)
		return n == fs->root ? show_root(fs, id, out) : -ENODATA;
	if (d->kind == KVCACHEFS_XATTR_ACTION && id != KVCACHEFS_XATTR_ID_LEVEL)
		return -ENODATA;
	if (d->kind == KVCACHEFS_XATTR_SETTING) {
		r = show_set(fs, n, id, out);
		if (r != -ENODATA)
			return r;
	}
	r = store_getattr(fs->st, n, NULL, &st);
	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode))
		return -ENODATA;
	if (id == KVCACHEFS_XATTR_ID_POSITIONS)
		return show_positions(fs, n, out);
	memset(&info, 0, sizeof(info));
	r = store_info(fs->st, n, &info);
	return r < 0 ? r : show_number(&info, id, out);
}

static int refuse(struct sbuf *why, int code, const char *text)
{
	sbuf_adds(why, text);
	return code;
}

static int check_choice(const char *choices, const char *v)
{
	size_t len = strlen(v);

	for (const char *c = choices; *c && len;) {
		size_t n = strcspn(c, "|");

		if (n == len && memcmp(c, v, n) == 0)
			return 0;
		c += n + (c[n] == '|');
	}
	return -EINVAL;
}

static int check_level(const char *v, struct sbuf *why)
{
	struct drop_params p;
	uint64_t level;

	if (strncmp(v, "drop:", 5) == 0)
		return drop_parse(v + 5, &p) < 0 ?
			       refuse(why, -EINVAL,
				      "takes drop:METHOD:SHARE with window, knorm or keydiff "
				      "and a share such as 0.25") :
			       0;
	if (strcmp(v, "exact") != 0 && units_parse_u64(v, 0, INFO_LEVELS_MAX - 1, &level) < 0)
		return refuse(why, -EINVAL, "takes the number of a level, exact, or drop:METHOD:SHARE");
	return 0;
}

static int check_text(int id, const char *v, size_t len, struct sbuf *why)
{
	double q[POLICY_LEVELS_MAX];
	char text[256] = "";

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)v[i] < 0x20 || v[i] == 0x7f)
			return refuse(why, -EINVAL, "it holds control characters");
	if ((id == KVCACHEFS_XATTR_ID_PROFILE || id == KVCACHEFS_XATTR_ID_FEEDBACK) &&
	    policy_profile_parse(v, q) < 0)
		return refuse(why, -EINVAL, "takes level:quality,... such as 0:0.93,1:0.995");
	if (id == KVCACHEFS_XATTR_ID_LEVEL)
		return check_level(v, why);
	if (id == KVCACHEFS_XATTR_ID_LAYOUT && layout_declared_check(v, text, sizeof(text)) < 0)
		return refuse(why, -EINVAL, text);
	return 0;
}

static size_t longest(int id)
{
	const char *want = xattr_table[id].value;

	return strcmp(want, "LEVEL") == 0 || strcmp(want, "SECONDS") == 0 ? 31 : 255;
}

static int check_value(const struct xattr_change *c, struct sbuf *why)
{
	const char *want = xattr_table[c->id].value, *v = c->value;
	uint64_t u;
	double d;
	bool b;

	if (strlen(v) != c->len || c->len == 0)
		return refuse(why, -EINVAL, "it is empty or holds a NUL");
	if (c->len > longest(c->id)) /* who heeds it has room for no more */
		return refuse(why, -EINVAL, "it is too long");
	if (strcmp(want, "TEXT") == 0)
		return check_text(c->id, v, c->len, why);
	if (strcmp(want, "FLAG") == 0)
		return units_parse_bool(v, &b) < 0 ? refuse(why, -EINVAL, "takes 1 or 0") : 0;
	if (strcmp(want, "LEVEL") == 0)
		return units_parse_double(v, 0, 1, &d) < 0
			       ? refuse(why, -EINVAL, "takes a number from 0 to 1")
			       : 0;
	if (strcmp(want, "SECONDS") == 0)
		return units_parse_double(v, 0, 1e9, &d) < 0
			       ? refuse(why, -EINVAL, "takes seconds from 0 to 1e9")
			       : 0;
	if (strcmp(want, "BYTES") == 0) /* the option of the same name */
		return units_parse_bytes(v, &u) < 0
			       ? refuse(why, -EINVAL, "takes a size such as 8G")
			       : options_check_bytes(xattr_table[c->id].name +
							strlen(KVCACHEFS_XATTR_PREFIX),
						     u, why);
	if (check_choice(want, v) == 0)
		return 0;
	sbuf_addf(why, "takes one of %s", want);
	return -EINVAL;
}

int xattr_check(const struct xattr_change *c, const struct stat *attr, struct sbuf *why)
{
	const struct xattr_def *d = &xattr_table[c->id];
	unsigned on = S_ISREG(attr->st_mode)   ? KVCACHEFS_XATTR_FILE
		      : S_ISDIR(attr->st_mode) ? KVCACHEFS_XATTR_DIR
					       : 0;

	if (c->node == c->fs->root)
		on |= KVCACHEFS_XATTR_ROOT;
	if (d->set == KVCACHEFS_XATTR_NOBODY)
		return refuse(why, -EPERM, "it is computed and cannot be set");
	if (!(d->on & on))
		return refuse(why, -EINVAL,
			      d->on == KVCACHEFS_XATTR_ROOT ? "only the root of the mount has it"
			      : d->on == KVCACHEFS_XATTR_FILE
				      ? "only regular files have it"
				      : "only files and directories have it");
	if (d->set == KVCACHEFS_XATTR_MOUNTER && c->who != 0 && c->who != geteuid())
		return refuse(why, -EPERM, "only root and who mounted it may set it");
	if (d->set == KVCACHEFS_XATTR_OWNER && c->who != 0 && c->who != attr->st_uid)
		return refuse(why, -EPERM, "only the owner or root may set it");
	return check_value(c, why);
}

bool xattr_is_slow(int id)
{
	return id == KVCACHEFS_XATTR_ID_MOVE || id == KVCACHEFS_XATTR_ID_SEAL ||
	       id == KVCACHEFS_XATTR_ID_UNSEAL || id == KVCACHEFS_XATTR_ID_EVICT ||
	       id == KVCACHEFS_XATTR_ID_LEVEL ||
	       id == KVCACHEFS_XATTR_ID_DRAM || id == KVCACHEFS_XATTR_ID_SSD;
}

static int apply_move(const struct xattr_change *c)
{
	enum place p = strcmp(c->value, "ssd") == 0    ? PLACE_SSD
		       : strcmp(c->value, "dram") == 0 ? PLACE_DRAM
						       : PLACE_COPY;

	return store_move(c->fs->st, c->node, p);
}

static int apply_limit(const struct xattr_change *c)
{
	uint64_t bytes;
	int r = units_parse_bytes(c->value, &bytes);

	return r < 0 ? r : store_set_limit(c->fs->st, c->id == KVCACHEFS_XATTR_ID_DRAM, bytes);
}

static int apply_setting(const struct xattr_change *c)
{
	int r = store_setxattr(c->fs->st, c->node, xattr_table[c->id].name, c->value, c->len,
			       c->flags);

	if (r == 0)
		store_settings_changed(c->fs->st, c->node);
	return r;
}

static int apply_pin(const struct xattr_change *c, bool on)
{
	int r;

	if (!on) {
		r = xattr_remove(c->fs, c->node, c->id, c->who);
		return r == -ENODATA ? 0 : r;
	}
	r = apply_setting(c);
	if (r < 0)
		return r;
	r = store_pin(c->fs->st, c->node, c->who, true);
	if (r < 0) /* not pinned: do not say so; what was there before was a pin too */
		err_ignore(store_removexattr(c->fs->st, c->node, xattr_table[c->id].name));
	return r;
}

/* An action switched "off" asks for nothing. */
static int apply_action(const struct xattr_change *c, bool on)
{
	struct store *st = c->fs->st;

	if (!on)
		return 0;
	switch ((enum kvcachefs_xattr_id)c->id) {
	case KVCACHEFS_XATTR_ID_PREFETCH:
		return store_prefetch(st, c->node, c->who);
	case KVCACHEFS_XATTR_ID_EVICT:
		return store_evict(st, c->node, &(struct caller){ .uid = c->who, .gid = c->gid });
	case KVCACHEFS_XATTR_ID_SEAL:
		return store_seal(st, c->node);
	case KVCACHEFS_XATTR_ID_UNSEAL:
		return store_unseal(st, c->node);
	case KVCACHEFS_XATTR_ID_SCRUB:
		return store_scrub_start(st);
	default:
		return -EOPNOTSUPP;
	}
}

int xattr_apply(const struct xattr_change *c)
{
	bool on = false;

	switch ((enum kvcachefs_xattr_id)c->id) {
	case KVCACHEFS_XATTR_ID_MOVE:
		return apply_move(c);
	case KVCACHEFS_XATTR_ID_LEVEL:
		return store_level(c->fs->st, c->node, c->value);
	case KVCACHEFS_XATTR_ID_DRAM:
	case KVCACHEFS_XATTR_ID_SSD:
		return apply_limit(c);
	default:
		break;
	}
	if (strcmp(xattr_table[c->id].value, "FLAG") == 0 && units_parse_bool(c->value, &on) < 0)
		return -EINVAL;
	if (c->id == KVCACHEFS_XATTR_ID_PIN)
		return apply_pin(c, on);
	return xattr_table[c->id].kind == KVCACHEFS_XATTR_SETTING ? apply_setting(c)
								  : apply_action(c, on);
}

int xattr_remove(struct fs *fs, struct node *n, int id, uid_t who)
{
	int r = store_removexattr(fs->st, n, xattr_table[id].name);

	if (r == 0 && id == KVCACHEFS_XATTR_ID_PIN)
		r = store_pin(fs->st, n, who, false);
	if (r == 0)
		store_settings_changed(fs->st, n);
	return r;
}
