/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codecs/codec.h"
#include "testlib.h"

/* Sealed, changed in every way that there is, replaced, removed. */
const struct step model_steps[] = {
	{ OP_CREATE, 0, 0, 0, 700000, 1 },
	{ OP_FSYNC, 0, 0, 0, 0, 0 },
	{ OP_SEAL, 0, 0, 0, 0, 0 },
	{ OP_CREATE, 1, 0, 0, 1500000, 2 },
	{ OP_SEAL, 1, 0, 0, 0, 0 },
	{ OP_WRITE, 0, 0, 100, 48, 3 },
	{ OP_FSYNC, 0, 0, 0, 0, 0 },
	{ OP_WRITE, 0, 0, 123457, 70001, 4 },
	{ OP_TRUNC, 0, 0, 0, 500001, 0 },
	{ OP_TRUNC, 0, 0, 0, 600000, 0 },
	{ OP_WRITE, 0, 0, 599000, 50000, 5 },
	{ OP_UNSEAL, 0, 0, 0, 0, 0 },
	{ OP_SEAL, 0, 0, 0, 0, 0 },
	{ OP_RENAME, 1, 0, 0, 0, 0 },  /* sealed over sealed */
	{ OP_CREATE, 2, 0, 0, 300000, 6 },
	{ OP_RENAME, 2, 0, 0, 0, 0 },  /* plain over sealed */
	{ OP_SEAL, 0, 0, 0, 0, 0 },
	{ OP_REWRITE, 0, 0, 0, 400000, 7 },
	{ OP_SEAL, 0, 0, 0, 0, 0 },
	{ OP_WRITE, 0, 0, 0, 390000, 8 }, /* most of it: plain again */
	{ OP_SEAL, 0, 0, 0, 0, 0 },
	{ OP_LINK, 0, 3, 0, 0, 0 },
	{ OP_UNLINK, 0, 0, 0, 0, 0 },
	{ OP_WRITE, 3, 0, 4096, 4096, 9 },
	{ OP_CREATE, 4, 0, 0, 200000, 10 },
	{ OP_SEAL, 4, 0, 0, 0, 0 },
	{ OP_UNLINK, 4, 0, 0, 0, 0 },
	{ OP_CREATE, 5, 0, 0, 200000, 11 },
	{ OP_SEAL, 5, 0, 0, 0, 0 },
	{ OP_OPEN_UNLINK, 5, 0, 0, 0, 0 },
	{ OP_CREATE, 6, 0, 0, 250000, 12 },
	{ OP_SEAL, 6, 0, 0, 0, 0 },
	{ OP_EVICT, 6, 0, 0, 0, 0 },
	{ OP_TRUNC, 3, 0, 0, 30000, 0 }, /* too small to stay sealed */
	{ OP_CREATE, 7, 0, 0, 900000, 13 },
	{ OP_SEAL, 7, 0, 0, 0, 0 },
	{ OP_TRUNC, 7, 0, 0, 0, 0 },
	{ OP_CREATE, 1, 0, 0, MODEL_KV_BYTES, 14 },
	{ OP_LAYOUT, 1, 0, 0, 0, 0 },
	{ OP_SEAL, 1, 0, 0, 0, 0 },
	{ OP_GRANT, 1, 0, 0, 0, 0 },
	{ OP_SEAL, 1, 0, 0, 0, 0 },     /* anew, in layers */
	{ OP_LEVEL, 1, 1, 0, 0, 14 },
	{ OP_LEVEL, 1, 0, 0, 0, 14 },
	{ OP_WRITE, 1, 0, 5000, 3000, 15 }, /* plain first, as it reads */
	{ OP_CREATE, 2, 0, 0, MODEL_KV_BYTES, 16 },
	{ OP_LAYOUT, 2, 0, 0, 0, 0 },
	{ OP_GRANT, 2, 0, 0, 0, 0 },
	{ OP_LEVEL, 2, 2, 0, 0, 16 },   /* in layers at once */
	{ OP_UNLINK, 2, 0, 0, 0, 0 },
};
const unsigned model_n_steps = sizeof(model_steps) / sizeof(model_steps[0]);

void model_fill(uint8_t *p, size_t len, unsigned seed, uint64_t off)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t at = off + i, s = (at / 2) * 0x9e3779b97f4a7c15ull + seed * 77777ull;

		s ^= s >> 29;
		s *= 0xbf58476d1ce4e5b9ull;
		s ^= s >> 32;
		p[i] = at % 2 ? (uint8_t)(0x3c + (s >> 8) % 4) : (uint8_t)s;
	}
}

#define KV_LAYOUT "dtype=bf16 order=TD dim=64"

/* What remains of MODEL_KV_BYTES of @seed at a level. */
static void fill_level(uint8_t *p, unsigned seed, unsigned level)
{
	struct chunk_shape shape = { .elem = ELEM_BF16, .kind = REGION_KV, .row_bytes = 128,
				     .region_rows = MODEL_KV_BYTES / 128 };
	struct codec_out out[CODEC_LAYERS_MAX];
	struct codec_in in[CODEC_LAYERS_MAX];
	struct codec_ctx *c;
	unsigned n;
	uint16_t id;

	model_fill(p, MODEL_KV_BYTES, seed, 0);
	CHECK_EQ(codec_ctx_create(CODEC_SIMD_BEST, &c), 0);
	for (unsigned i = 0; i < CODEC_LADDER_LAYERS; i++) {
		out[i] = (struct codec_out){ malloc(MODEL_KV_BYTES), MODEL_KV_BYTES, 0 };
		CHECK(out[i].buf);
	}
	CHECK_EQ(codec_encode_layers(c, CODEC_FORM_SSD, &shape, p, MODEL_KV_BYTES, out, &id, &n), 0);
	CHECK(level < n && n > 1);
	for (unsigned i = 0; i < n; i++)
		in[i] = (struct codec_in){ out[i].buf, out[i].len };
	CHECK_EQ(codec_decode(c, id, &shape, in, level + 1, p, MODEL_KV_BYTES, 0), 0);
	for (unsigned i = 0; i < CODEC_LADDER_LAYERS; i++)
		free(out[i].buf);
	codec_ctx_destroy(c);
}

void model_init(struct model *m)
{
	memset(m, 0, sizeof(*m));
	for (unsigned i = 0; i < MODEL_FILES; i++) {
		m->f[i].data = calloc(1, MODEL_MAX);
		CHECK(m->f[i].data);
	}
}

void model_free(struct model *m)
{
	for (unsigned i = 0; i < MODEL_FILES; i++)
		free(m->f[i].data);
}

static void set(struct model_file *f, size_t len, unsigned seed)
{
	memset(f->data, 0, MODEL_MAX);
	model_fill(f->data, len, seed, 0);
	f->len = len;
	f->exists = true;
}

static void resize(struct model_file *f, size_t len)
{
	if (len < f->len)
		memset(f->data + len, 0, f->len - len);
	f->len = len;
}

void model_apply(struct model *m, unsigned i)
{
	const struct step *s = &model_steps[i];
	struct model_file *f = &m->f[s->name], *g = &m->f[s->name2];

	switch (s->op) {
	case OP_CREATE:
	case OP_REWRITE:
		set(f, s->len, s->seed);
		break;
	case OP_WRITE:
		model_fill(f->data + s->off, s->len, s->seed, s->off);
		if (s->off + s->len > f->len)
			f->len = s->off + s->len;
		break;
	case OP_TRUNC:
		resize(f, s->len);
		break;
	case OP_RENAME:
	case OP_LINK:
		memcpy(g->data, f->data, MODEL_MAX);
		g->len = f->len;
		g->exists = true;
		if (s->op == OP_RENAME)
			f->exists = false;
		break;
	case OP_UNLINK:
	case OP_EVICT:
	case OP_OPEN_UNLINK:
		f->exists = false;
		break;
	case OP_LEVEL:
		fill_level(f->data, s->seed, s->name2);
		break;
	case OP_FSYNC:
	case OP_SEAL:
	case OP_UNSEAL:
	case OP_LAYOUT:
	case OP_GRANT:
		break;
	}
}

static bool same(const struct model_file *f, const uint8_t *data, size_t len, bool exists)
{
	if (f->exists != exists)
		return false;
	return !exists || (f->len == len && memcmp(f->data, data, len) == 0);
}

/* Every byte old or new (zero where there was none), the length between. */
static bool mixed(const struct model_file *a, const struct model_file *b, const uint8_t *data,
		  size_t len)
{
	size_t lo = a->exists && a->len < b->len ? a->len : b->len;
	size_t hi = a->exists && a->len > b->len ? a->len : b->len;

	if (!a->exists)
		lo = 0;
	if (len < lo || len > hi)
		return false;
	for (size_t i = 0; i < len; i++)
		if (data[i] != b->data[i] && !(a->exists && data[i] == a->data[i]))
			return false;
	return true;
}

bool model_may_be(const struct model *before, const struct model *after, unsigned i, unsigned name,
		  const uint8_t *data, size_t len, bool exists)
{
	const struct step *s = &model_steps[i];
	const struct model_file *a = &before->f[name], *b = &after->f[name];

	if (same(a, data, len, exists) || same(b, data, len, exists))
		return true;
	if (name != s->name || !exists)
		return false;
	if (s->op == OP_CREATE || s->op == OP_WRITE)
		return mixed(a, b, data, len);
	if (s->op == OP_REWRITE) {
		struct model_file none = { 0 };

		none.data = a->data;
		return len == 0 || mixed(&none, b, data, len);
	}
	return false;
}

/* ---- against a store ------------------------------------------------------ */

static const char *name_of(unsigned n, char buf[16])
{
	snprintf(buf, 16, "file%u", n);
	return buf;
}

static int open_name(struct store *st, unsigned name, int flags, struct node **n,
		     struct open_reply *o)
{
	struct caller who = { 0 };
	struct stat sb;
	char buf[16];
	int r = store_lookup(st, store_root(st), name_of(name, buf), n, &sb);

	if (r < 0)
		return r;
	r = store_openat(st, *n, flags, &who, o);
	if (r < 0)
		store_forget(st, *n, 1);
	return r;
}

static int put(struct store *st, struct file *f, uint64_t off, size_t len, unsigned seed)
{
	uint8_t *p = malloc(len);
	int r = 0;

	(void)st;
	CHECK(p);
	model_fill(p, len, seed, off);
	/* as the kernel would send it: at most 128 KiB at a time */
	for (size_t i = 0; i < len && r == 0; i += 131072)
		r = store_write(f, p + i, len - i < 131072 ? len - i : 131072, off + i);
	free(p);
	return r;
}

static int run_create(struct store *st, const struct step *s)
{
	struct caller who = { 0 };
	struct open_reply o;
	struct node *n;
	struct stat sb;
	char buf[16];
	int r = store_create(st, &who, store_root(st), name_of(s->name, buf), 0644,
			     O_WRONLY | O_EXCL, &n, &sb, &o);

	if (r < 0)
		return r;
	r = put(st, o.file, 0, s->len, s->seed);
	store_release(o.file);
	store_forget(st, n, 1);
	return r;
}

static int run_open(struct store *st, const struct step *s)
{
	int flags = s->op == OP_REWRITE ? O_WRONLY | O_TRUNC : O_RDWR;
	struct open_reply o;
	struct node *n;
	int r = open_name(st, s->name, flags, &n, &o);

	if (r < 0)
		return r;
	if (s->op == OP_FSYNC)
		r = store_fsync(o.file, false);
	else
		r = put(st, o.file, s->off, s->len, s->seed);
	store_release(o.file);
	store_forget(st, n, 1);
	return r;
}

int model_rewrite(struct store *st, unsigned name, uint64_t len, unsigned seed)
{
	const struct step s = { OP_REWRITE, name, 0, 0, len, seed };

	return run_open(st, &s);
}

static int run_node(struct store *st, const struct step *s)
{
	struct stat sb;
	struct node *n;
	char buf[16];
	int r = store_lookup(st, store_root(st), name_of(s->name, buf), &n, &sb);

	if (r < 0)
		return r;
	if (s->op == OP_SEAL) {
		r = store_seal(st, n);
	} else if (s->op == OP_UNSEAL) {
		r = store_unseal(st, n);
	} else if (s->op == OP_LAYOUT) {
		r = store_setxattr(st, n, "user.kvcache.layout", KV_LAYOUT, strlen(KV_LAYOUT), 0);
	} else if (s->op == OP_GRANT) {
		r = store_setxattr(st, n, "user.kvcache.quality", "0", 1, 0);
	} else if (s->op == OP_LEVEL) {
		snprintf(buf, sizeof(buf), "%u", s->name2);
		r = store_level(st, n, buf);
	} else if (s->op == OP_EVICT) {
		r = store_evict(st, n, &(struct caller){ 0 });
	} else if (s->op == OP_TRUNC) {
		sb.st_size = (off_t)s->len;
		r = store_setattr(st, n, NULL, &sb, SET_SIZE, &sb);
	} else if (s->op == OP_LINK) {
		r = store_link(st, n, store_root(st), name_of(s->name2, buf), &sb);
		if (r == 0)
			store_forget(st, n, 1);
	}
	store_forget(st, n, 1);
	return r;
}

static int run_open_unlink(struct store *st, const struct step *s)
{
	static uint8_t scratch[65536] __attribute__((aligned(4096)));
	struct read_reply rr = { .scratch = scratch, .scratch_len = sizeof(scratch) };
	struct open_reply o;
	struct node *n;
	char buf[16];
	int r = open_name(st, s->name, O_RDONLY, &n, &o);

	if (r < 0)
		return r;
	r = store_unlink(st, store_root(st), name_of(s->name, buf));
	if (r == 0)
		r = store_read(o.file, 100000, 1000, &rr);
	if (r == 0) {
		CHECK_EQ(rr.len, 1000);
		store_read_done(&rr);
	}
	store_release(o.file);
	store_forget(st, n, 1);
	return r;
}

int model_run(struct store *st, unsigned i)
{
	const struct step *s = &model_steps[i];
	char a[16], b[16];

	switch (s->op) {
	case OP_CREATE:
		return run_create(st, s);
	case OP_FSYNC:
	case OP_WRITE:
	case OP_REWRITE:
		return run_open(st, s);
	case OP_RENAME:
		return store_rename(st, store_root(st), name_of(s->name, a), store_root(st),
				    name_of(s->name2, b), 0);
	case OP_UNLINK:
		return store_unlink(st, store_root(st), name_of(s->name, a));
	case OP_OPEN_UNLINK:
		return run_open_unlink(st, s);
	default:
		return run_node(st, s);
	}
}

static int read_all(struct file *f, uint8_t *p, size_t *ret_len)
{
	static uint8_t scratch[1 << 20] __attribute__((aligned(4096)));
	struct read_reply rr = { .scratch = scratch, .scratch_len = sizeof(scratch) };
	size_t at = 0;

	for (;;) {
		int r = store_read(f, at, sizeof(scratch), &rr);

		if (r < 0)
			return r;
		for (unsigned i = 1; i <= rr.n; i++) {
			CHECK(at + rr.iov[i].iov_len <= MODEL_MAX);
			memcpy(p + at, rr.iov[i].iov_base, rr.iov[i].iov_len);
			at += rr.iov[i].iov_len;
		}
		store_read_done(&rr);
		if (rr.len == 0)
			break;
	}
	*ret_len = at;
	return 0;
}

int model_read(struct store *st, unsigned name, uint8_t **ret, size_t *ret_len)
{
	struct open_reply o;
	struct stat sb;
	struct node *n;
	int r = open_name(st, name, O_RDONLY, &n, &o);

	if (r < 0)
		return r;
	*ret = malloc(MODEL_MAX);
	CHECK(*ret);
	r = read_all(o.file, *ret, ret_len);
	if (r == 0) {
		r = store_getattr(st, n, o.file, &sb);
		if (r == 0)
			CHECK_EQ(sb.st_size, *ret_len);
	}
	store_release(o.file);
	store_forget(st, n, 1);
	if (r < 0)
		free(*ret);
	return r;
}
