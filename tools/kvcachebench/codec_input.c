// SPDX-License-Identifier: MIT
/*
 * Files become chunks the way the filesystem cuts them. A file without a
 * recognised layout is one region of --dtype elements behind --skip bytes, or
 * opaque when no type is given.
 */
#include "codec_input.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/le.h"
#include "base/mem.h"
#include "codecs/codec.h"
#include "layouts/layout.h"

#define SYNTHETIC_CHANNELS 1024u

static int64_t read_mem(void *arg, void *buf, size_t len, uint64_t off)
{
	const struct input_file *f = arg;

	if (off >= f->len)
		return 0;
	if (len > f->len - off)
		len = f->len - (size_t)off;
	memcpy(buf, f->data + off, len);
	return (int64_t)len;
}

static int read_file(const char *path, struct input_file *f)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	f->len = (size_t)st.st_size;
	f->data = malloc(f->len ? f->len : 1);
	for (size_t at = 0; f->data && at < f->len;) {
		ssize_t n = read(fd, f->data + at, f->len - at);

		if (n <= 0) {
			r = n < 0 ? -errno : -EIO;
			break;
		}
		at += (size_t)n;
	}
	close(fd);
	return f->data ? r : -ENOMEM;
}

static int add_chunk(struct input *in, uint64_t off, uint32_t len, const struct chunk_shape *shape)
{
	struct input_chunk *c = realloc(in->chunks, (in->n_chunks + 1) * sizeof(*c));

	if (!c)
		return -ENOMEM;
	in->chunks = c;
	c[in->n_chunks++] = (struct input_chunk){
		.data = in->files[in->n_files - 1].data + off,
		.len = len,
		.file = (uint32_t)in->n_files - 1,
		.shape = *shape,
	};
	return 0;
}

/* [off, end) in pieces of whole rows. */
static int add_region(struct input *in, uint64_t off, uint64_t end, struct chunk_shape shape,
		      uint32_t chunk_bytes)
{
	uint32_t unit = shape.row_bytes ? shape.row_bytes : 4;
	uint32_t step = chunk_bytes / unit * unit;
	int r = 0;

	if (step == 0)
		step = unit < CODEC_CHUNK_MAX ? unit : CODEC_CHUNK_MAX;
	while (r == 0 && off < end) {
		uint32_t len = end - off < step ? (uint32_t)(end - off) : step;

		r = add_chunk(in, off, len, &shape);
		off += len;
	}
	return r;
}

static int cut_layout(struct input *in, const struct layout *l, const struct input_options *o)
{
	struct layout_chunk *chunks = NULL;
	uint32_t n = 0;
	int r = layout_cut(l, o->chunk_bytes, CODEC_CHUNK_MAX, &chunks, &n);

	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = add_chunk(in, chunks[i].off_bytes, chunks[i].len_bytes, &chunks[i].shape);
	mem_free(chunks);
	return r;
}

static int describe(struct input_file *f, const struct layout *l)
{
	struct sbuf text = SBUF_INIT, packed = SBUF_INIT;
	int r = layout_pack(l, &packed);

	layout_dump(l, &text);
	f->layout_bytes = (uint32_t)packed.len;
	f->layout = sbuf_take(&text);
	sbuf_fini(&packed);
	return f->layout ? r : -ENOMEM;
}

static int cut(struct input *in, const struct input_options *o)
{
	struct input_file *f = &in->files[in->n_files - 1];
	struct chunk_shape shape = { 0 };
	const char *slash = strrchr(f->name, '/');
	struct layout_input li = {
		.name = slash ? slash + 1 : f->name,
		.dir = "",
		.size_bytes = f->len,
		.read = read_mem,
		.arg = f,
		.declared = o->declared,
	};
	struct layout *l;
	int r = layout_recognise(&li, &l);

	if (r < 0)
		return r;
	if (l->n_regions > 0 || o->dtype < 0) {
		f->parsed = l;
		r = describe(f, l);
		return r ? r : cut_layout(in, l, o);
	}
	layout_destroy(l);
	f->layout = strdup(elem_name((unsigned)o->dtype));
	if (o->skip_bytes > f->len || !f->layout)
		return f->layout ? -EINVAL : -ENOMEM;
	if (o->skip_bytes)
		r = add_region(in, 0, o->skip_bytes, shape, o->chunk_bytes);
	shape.elem = (uint8_t)o->dtype;
	shape.kind = REGION_KV;
	shape.row_bytes = o->row_bytes;
	return r ? r : add_region(in, o->skip_bytes, f->len, shape, o->chunk_bytes);
}

static struct input_file *new_file(struct input *in, const char *name)
{
	struct input_file *f = realloc(in->files, (in->n_files + 1) * sizeof(*f));

	if (!f)
		return NULL;
	in->files = f;
	f += in->n_files;
	*f = (struct input_file){ .name = strdup(name) };
	if (!f->name)
		return NULL;
	in->n_files++;
	return f;
}

int input_add_file(struct input *in, const char *path, const struct input_options *o)
{
	struct input_file *f = new_file(in, path);
	int r = f ? read_file(path, f) : -ENOMEM;

	if (r == 0)
		r = cut(in, o);
	if (r < 0)
		fprintf(stderr, "kvcachebench: %s: %s\n", path, err_text(r));
	return r;
}

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

int input_add(struct input *in, const char *path, const struct input_options *o)
{
	struct dirent **names;
	int n = scandir(path, &names, is_visible, alphasort), r = 0;

	if (n < 0)
		return input_add_file(in, path, o);
	for (int i = 0; i < n; i++) {
		char *sub = NULL;
		struct stat st;

		if (r == 0 && asprintf(&sub, "%s/%s", path, names[i]->d_name) < 0)
			r = -ENOMEM;
		if (r == 0 && stat(sub, &st) == 0 && S_ISREG(st.st_mode))
			r = input_add_file(in, sub, o);
		free(sub);
		free(names[i]);
	}
	free(names);
	return r;
}

static double uniform(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return ((double)(*s >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(uint64_t *s)
{
	double u = uniform(s);

	return sqrt(-2 * log(u)) * cos(6.283185307179586 * uniform(s));
}

/* f32 bits cut to a smaller format: truncated, saturated, denormals to zero. */
static uint32_t shrink(uint32_t f, int exp_bits, int man_bits)
{
	int e = (int)(f >> 23 & 0xff) - 127 + (1 << (exp_bits - 1)) - 1;
	int top = (1 << exp_bits) - 2;
	uint32_t sign = f >> 31 << (exp_bits + man_bits);

	if (e <= 0)
		return sign;
	if (e > top)
		e = top;
	return sign | (uint32_t)e << man_bits | (f & 0x7fffff) >> (23 - man_bits);
}

static void put_value(unsigned elem, uint8_t *p, float v)
{
	uint32_t bits;

	memcpy(&bits, &v, 4);
	if (elem == ELEM_F32)
		le32_put(p, bits);
	else if (elem == ELEM_F16)
		le16_put(p, (uint16_t)shrink(bits, 5, 10));
	else if (elem == ELEM_F8E5M2)
		*p = (uint8_t)shrink(bits, 5, 2);
	else if (elem == ELEM_F8E4M3)
		*p = (uint8_t)shrink(bits, 4, 3);
	else
		le16_put(p, (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16));
}

int input_add_synthetic(struct input *in, const struct input_options *o, size_t len)
{
	unsigned elem = o->dtype < 0 ? ELEM_BF16 : (unsigned)o->dtype, eb = elem_bytes(elem);
	struct chunk_shape shape = {
		.elem = (uint8_t)elem,
		.kind = REGION_KV,
		.row_bytes = SYNTHETIC_CHANNELS * eb,
	};
	struct input_file *f = new_file(in, "(synthetic)");
	double scale[SYNTHETIC_CHANNELS];
	uint64_t seed = 88172645463325252ull;

	if (!f)
		return -ENOMEM;
	f->layout = strdup(elem_name(elem));
	f->len = len;
	f->data = malloc(len);
	if (!f->layout || !f->data)
		return -ENOMEM;
	for (unsigned c = 0; c < SYNTHETIC_CHANNELS; c++)
		scale[c] = exp(0.7 * normal(&seed));
	for (size_t i = 0; i < f->len / eb; i++)
		put_value(elem, f->data + i * eb,
			  (float)(scale[i % SYNTHETIC_CHANNELS] * normal(&seed)));
	in->synthetic = true;
	return add_region(in, 0, f->len, shape, o->chunk_bytes);
}

void input_fini(struct input *in)
{
	for (size_t i = 0; i < in->n_files; i++) {
		free(in->files[i].name);
		free(in->files[i].layout);
		free(in->files[i].data);
		layout_destroy(in->files[i].parsed);
	}
	free(in->files);
	free(in->chunks);
	*in = (struct input){ 0 };
}
