/* SPDX-License-Identifier: MIT */
/*
 * magic "GGUF", u32 version, u64 tensors, u64 keys; the keys; the tensors'
 * descriptions; padding to the alignment; the tensors' bytes. Strings are u64
 * length and bytes. One cursor walks the file; it can only move forward within
 * the end. Failure modes: every one is -EBADMSG with the offset of the fault;
 * nothing is allocated in proportion to a number that the file has not backed
 * with bytes.
 */
#include "gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum value_type {
	T_U8,
	T_I8,
	T_U16,
	T_I16,
	T_U32,
	T_I32,
	T_F32,
	T_BOOL,
	T_STR,
	T_ARR,
	T_U64,
	T_I64,
	T_F64,
	T_TYPES_
};
static const uint8_t value_bytes[T_TYPES_] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

#define MAX_STR (1u << 24)
#define MIN_KEY_BYTES 13    /* length, type and one byte of value */
#define MIN_TENSOR_BYTES 32 /* length, dims, one dim, type, offset */

struct value {
	struct gguf_str key;
	uint32_t type;
	uint32_t elem;    /* of an array */
	uint64_t count;   /* of an array */
	const uint8_t *p; /* the value, or the array's first element */
};

struct gguf {
	const uint8_t *buf;
	size_t len;
	bool mapped; /* buf is ours to unmap */
	size_t n_values, n_tensors;
	struct value *values;        /* owned */
	struct gguf_tensor *tensors; /* owned */
};

struct cursor {
	const uint8_t *buf;
	size_t at, len;
	struct msg *m;
};

static int bad(struct cursor *c, const char *what)
{
	return msg_fail(c->m, -EBADMSG, "GGUF: %s at byte %zu", what, c->at);
}

static int take(struct cursor *c, uint64_t n, const uint8_t **ret)
{
	if (n > c->len - c->at)
		return bad(c, "file ends too early");
	*ret = c->buf + c->at;
	c->at += (size_t)n;
	return 0;
}

static int take_u32(struct cursor *c, uint32_t *ret)
{
	const uint8_t *p = NULL;
	int r = take(c, 4, &p);

	if (!r)
		memcpy(ret, p, 4);
	return r;
}

static int take_u64(struct cursor *c, uint64_t *ret)
{
	const uint8_t *p = NULL;
	int r = take(c, 8, &p);

	if (!r)
		memcpy(ret, p, 8);
	return r;
}

static int take_str(struct cursor *c, struct gguf_str *ret)
{
	const uint8_t *p = NULL;
	uint64_t n;
	int r = take_u64(c, &n);

	if (r)
		return r;
	if (n > MAX_STR)
		return bad(c, "string too long");
	r = take(c, n, &p);
	if (r)
		return r;
	ret->s = (const char *)p;
	ret->len = (size_t)n;
	return 0;
}

/* Skips @count elements of @type, which must not be an array. */
static int skip_elems(struct cursor *c, uint32_t type, uint64_t count)
{
	const uint8_t *p = NULL;
	struct gguf_str s;
	int r = 0;

	if (type != T_STR) {
		if (count > (uint64_t)(c->len - c->at) / value_bytes[type])
			return bad(c, "array longer than the file");
		return take(c, count * value_bytes[type], &p);
	}
	for (uint64_t i = 0; !r && i < count; i++)
		r = take_str(c, &s);
	return r;
}

static int take_value(struct cursor *c, struct value *v)
{
	int r = take_str(c, &v->key);

	if (!r)
		r = take_u32(c, &v->type);
	if (r)
		return r;
	v->count = 1;
	v->elem = v->type;
	if (v->type == T_ARR) {
		r = take_u32(c, &v->elem);
		if (!r)
			r = take_u64(c, &v->count);
		if (r)
			return r;
	}
	if (v->elem >= T_TYPES_ || v->elem == T_ARR)
		return bad(c, "value of an unknown or unsupported type");
	v->p = c->buf + c->at;
	return skip_elems(c, v->elem, v->count);
}

static int take_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t *ret_off)
{
	int r = take_str(c, &t->name);

	if (!r)
		r = take_u32(c, &t->n_dims);
	if (r)
		return r;
	if (t->n_dims < 1 || t->n_dims > GGUF_DIMS)
		return bad(c, "tensor with no or too many dimensions");
	for (unsigned i = 0; i < GGUF_DIMS; i++)
		t->ne[i] = 1;
	for (unsigned i = 0; !r && i < t->n_dims; i++) {
		r = take_u64(c, &t->ne[i]);
		if (!r && (!t->ne[i] || t->ne[i] > UINT32_MAX))
			return bad(c, "tensor dimension out of range");
	}
	if (!r)
		r = take_u32(c, &t->type);
	if (!r)
		r = take_u64(c, ret_off);
	return r;
}

static unsigned type_bytes(uint32_t type)
{
	return type == GGML_F32 ? 4 : type == GGML_F16 || type == GGML_BF16 ? 2 : 0;
}

/* Finds the tensor's bytes; of types of unknown size only the start is checked. */
static int place_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t data, uint64_t align,
			uint64_t off)
{
	uint64_t bytes = type_bytes(t->type), room = c->len - data;

	if (off % align || off > room)
		return bad(c, "tensor offset unaligned or outside the file");
	for (unsigned i = 0; i < GGUF_DIMS; i++)
		if (__builtin_mul_overflow(bytes, t->ne[i], &bytes))
			return bad(c, "tensor too large");
	if (bytes > room - off)
		return bad(c, "tensor data ends outside the file");
	if (bytes)
		t->data = c->buf + data + off;
	return 0;
}

static int parse_tensors(struct gguf *g, struct cursor *c)
{
	uint64_t *offs = calloc(g->n_tensors + 1, sizeof(*offs));
	uint64_t align = 32, data;
	int r = 0;

	if (!offs)
		return msg_fail(c->m, -ENOMEM, "out of memory");
	for (size_t i = 0; !r && i < g->n_tensors; i++)
		r = take_tensor(c, &g->tensors[i], &offs[i]);
	if (!r && gguf_has(g, "general.alignment"))
		r = gguf_get_u64(g, "general.alignment", &align, c->m);
	if (!r && (align < 8 || align > 1u << 20 || (align & (align - 1))))
		r = bad(c, "general.alignment is not a power of two from 8");
	data = r ? 0 : (c->at + align - 1) & ~(align - 1);
	if (!r && g->n_tensors && data > c->len)
		r = bad(c, "file ends before the tensor data");
	for (size_t i = 0; !r && i < g->n_tensors; i++)
		r = place_tensor(c, &g->tensors[i], data, align, offs[i]);
	free(offs);
	return r;
}

static int parse(struct gguf *g, struct cursor *c)
{
	uint32_t magic = 0, version = 0;
	uint64_t tensors = 0, values = 0;
	int r = take_u32(c, &magic);

	if (r || magic != 0x46554747)
		return msg_fail(c->m, -EBADMSG, "not a GGUF file");
	r = take_u32(c, &version);
	if (!r && version != 2 && version != 3)
		return msg_fail(c->m, -EBADMSG, "GGUF version %u is not supported (2 and 3 are)",
				version);
	if (!r)
		r = take_u64(c, &tensors);
	if (!r)
		r = take_u64(c, &values);
	if (r)
		return r;
	if (values > (c->len - c->at) / MIN_KEY_BYTES ||
	    tensors > (c->len - c->at) / MIN_TENSOR_BYTES)
		return bad(c, "more keys or tensors than the file has room for");
	g->values = calloc((size_t)values + 1, sizeof(*g->values));
	g->tensors = calloc((size_t)tensors + 1, sizeof(*g->tensors));
	if (!g->values || !g->tensors)
		return msg_fail(c->m, -ENOMEM, "out of memory");
	for (; !r && g->n_values < values; g->n_values++)
		r = take_value(c, &g->values[g->n_values]);
	if (r)
		return r;
	g->n_tensors = (size_t)tensors;
	return parse_tensors(g, c);
}

int gguf_parse(const void *buf, size_t len, struct gguf **ret, struct msg *m)
{
	struct gguf *g = calloc(1, sizeof(*g));
	struct cursor c = { buf, 0, len, m };
	int r;

	if (!g)
		return msg_fail(m, -ENOMEM, "out of memory");
	g->buf = buf;
	g->len = len;
	r = parse(g, &c);
	if (r) {
		gguf_close(g);
		return r;
	}
	*ret = g;
	return 0;
}

int gguf_open(const char *path, struct gguf **ret, struct msg *m)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;
	struct stat st;
	void *p;

	if (fd < 0)
		return msg_fail(m, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0) {
		r = -errno;
		close(fd);
		return msg_fail(m, r, "%s: %s", path, strerror(-r));
	}
	if (!S_ISREG(st.st_mode) || st.st_size < 24) {
		close(fd);
		return msg_fail(m, -EBADMSG, "%s: not a GGUF file", path);
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	r = p == MAP_FAILED ? -errno : 0;
	close(fd);
	if (r)
		return msg_fail(m, r, "%s: %s", path, strerror(-r));
	r = gguf_parse(p, (size_t)st.st_size, ret, m);
	if (r) {
		munmap(p, (size_t)st.st_size);
		return msg_prefix(m, r, path);
	}
	(*ret)->mapped = true;
	return 0;
}

void gguf_close(struct gguf *g)
{
	if (!g)
		return;
	if (g->mapped)
		munmap((void *)(uintptr_t)g->buf, g->len);
	free(g->values);
	free(g->tensors);
	free(g);
}

static bool str_is(struct gguf_str s, const char *t)
{
	return s.len == strlen(t) && !memcmp(s.s, t, s.len);
}

static const struct value *find(const struct gguf *g, const char *key)
{
	for (size_t i = 0; i < g->n_values; i++)
		if (str_is(g->values[i].key, key))
			return &g->values[i];
	return NULL;
}

size_t gguf_tensors(const struct gguf *g)
{
	return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, size_t i)
{
	return &g->tensors[i];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
	for (size_t i = 0; i < g->n_tensors; i++)
		if (str_is(g->tensors[i].name, name))
			return &g->tensors[i];
	return NULL;
}

const char *gguf_type_name(uint32_t type)
{
	static const char *const names[] = {
		"F32",     "F16",    "Q4_0",    "Q4_1",  NULL,     NULL,    "Q5_0",  "Q5_1",
		"Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
		"IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
		"I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16",  NULL,
		NULL,      NULL,     "TQ1_0",   "TQ2_0", NULL,     NULL,    NULL,    "MXFP4",
	};

	if (type >= sizeof(names) / sizeof(names[0]) || !names[type])
		return "unknown";
	return names[type];
}

bool gguf_has(const struct gguf *g, const char *key)
{
	return find(g, key);
}

static int want(const struct gguf *g, const char *key, const struct value **ret, struct msg *m)
{
	*ret = find(g, key);
	if (!*ret)
		return msg_fail(m, -ENOENT, "GGUF: key %s is missing", key);
	return 0;
}

static int wrong_kind(const char *key, const char *kind, struct msg *m)
{
	return msg_fail(m, -EBADMSG, "GGUF: key %s is not %s", key, kind);
}

int gguf_get_u64(const struct gguf *g, const char *key, uint64_t *ret, struct msg *m)
{
	const struct value *v;
	uint64_t u = 0;
	unsigned bits;
	int r = want(g, key, &v, m);

	if (r)
		return r;
	if (v->type == T_F32 || v->type == T_F64 || v->type >= T_TYPES_ || !value_bytes[v->type])
		return wrong_kind(key, "an integer", m);
	memcpy(&u, v->p, value_bytes[v->type]);
	bits = value_bytes[v->type] * 8u;
	if ((v->type == T_I8 || v->type == T_I16 || v->type == T_I32 || v->type == T_I64) &&
	    u >> (bits - 1))
		return wrong_kind(key, "a number from 0", m);
	*ret = u;
	return 0;
}

int gguf_get_f32(const struct gguf *g, const char *key, float *ret, struct msg *m)
{
	const struct value *v;
	double d;
	int r = want(g, key, &v, m);

	if (r)
		return r;
	if (v->type == T_F32) {
		memcpy(ret, v->p, 4);
		return 0;
	}
	if (v->type != T_F64)
		return wrong_kind(key, "a floating-point number", m);
	memcpy(&d, v->p, 8);
	*ret = (float)d;
	return 0;
}

int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *ret, struct msg *m)
{
	const struct value *v;
	uint64_t n;
	int r = want(g, key, &v, m);

	if (r)
		return r;
	if (v->type != T_STR)
		return wrong_kind(key, "a string", m);
	memcpy(&n, v->p, 8);
	ret->s = (const char *)v->p + 8;
	ret->len = (size_t)n;
	return 0;
}

int gguf_get_strs(const struct gguf *g, const char *key, uint64_t *ret_count,
		  void (*each)(void *arg, uint64_t i, struct gguf_str s), void *arg, struct msg *m)
{
	const struct value *v;
	const uint8_t *p = NULL;
	int r = want(g, key, &v, m);

	if (r)
		return r;
	if (v->type != T_ARR || v->elem != T_STR)
		return wrong_kind(key, "an array of strings", m);
	p = v->p;
	for (uint64_t i = 0; i < v->count; i++) {
		uint64_t n;

		memcpy(&n, p, 8);
		if (each)
			each(arg, i, (struct gguf_str){ (const char *)p + 8, (size_t)n });
		p += 8 + n;
	}
	*ret_count = v->count;
	return 0;
}
