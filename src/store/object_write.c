/* SPDX-License-Identifier: MIT */
/*
 * Writing an object: everything in front of the data is known in size before
 * the first byte of data, so room is left for it and the data goes out in one
 * sequential stream.
 *
 * Happy path: create -> add per chunk (streams of 1 MiB aligned O_DIRECT
 * writes; layer 0 into the file, each further layer into an unnamed spool file)
 * -> finish: spools are appended behind layer 0, then layout and index, then the
 * header, fsync of the file, fsync of its directory (and of objects/ when
 * the directory is new).
 *
 * Failure modes: any error makes finish or abort remove the file. A process
 * that dies leaves a file without a header or without a name that a record
 * holds: the caller's intent finds it. Where O_DIRECT is refused, pages are
 * written back and dropped behind the stream, so that the host's page
 * cache stays clean either way.
 *
 * Fault points: object.created, object.data, object.spool, object.index,
 * object.synced, object.linked.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/sbuf.h"
#include "base/units.h"
#include "codecs/codec.h"
#include "store/object.h"
#include "store/object_format.h"

#define STREAM_BYTES OBJECT_WRITER_BYTES
#define DROP_BEHIND (8u << 20)
#define SPOOL_PUNCH (16u << 20) /* a multiple of STREAM_BYTES */

/* Appends to a file through an aligned buffer. */
struct stream {
	int fd;          /* owned; -1 unused */
	bool direct;
	uint8_t *buf;    /* owned, STREAM_BYTES */
	size_t fill;
	uint64_t base;   /* file offset of buf[0], aligned */
};

struct object_writer {
	struct object_plan plan;  /* borrowed pointers inside */
	int dir_fd;               /* of objects/xx; owned */
	int objects_fd;           /* borrowed; -1 unless xx is new and must be made durable */
	char name[OBJECT_NAME_MAX];
	struct stream layers[KVFS_OBJECT_LAYERS];
	struct kvfs_object_header header; /* host order */
	uint8_t *front;           /* owned: layout descriptor, then the index, as on disk */
	size_t front_len, front_cap;
	size_t index_at;          /* in front */
	uint64_t data_off;        /* of layer 0 */
	uint64_t chunk_off;       /* of the next chunk, in the file */
	uint32_t n_added;
	unsigned most;            /* layers that a chunk has */
	int failed;               /* first error of an add: finish reports it */
};

/* ---- streams -------------------------------------------------------------- */

static uint64_t stream_pos(const struct stream *s)
{
	return s->base + s->fill;
}

static int stream_init(struct stream *s, int fd, bool direct, uint64_t base)
{
	*s = (struct stream) { .fd = fd, .direct = direct, .base = base };
	s->buf = mem_alloc_pages(STREAM_BYTES);
	return s->buf ? 0 : -ENOMEM;
}

static void stream_fini(struct stream *s)
{
	io_close(&s->fd);
	mem_free_pages(s->buf, STREAM_BYTES);
	s->buf = NULL;
}

/* Writes out buf[0..len), len aligned or the end of the stream. */
static int stream_flush(struct stream *s, size_t len)
{
	int err = FAULT_POINT("object.data");

	if (!err)
		err = io_pwrite_all(s->fd, s->buf, len, s->base);
	if (err)
		return err;
	if (!s->direct) {
		/* Start writing these back and drop older ones: hints. */
		(void)sync_file_range(s->fd, (off_t)s->base, (off_t)len, SYNC_FILE_RANGE_WRITE);
		if (s->base >= DROP_BEHIND)
			(void)posix_fadvise(s->fd, (off_t)(s->base - DROP_BEHIND), STREAM_BYTES,
					    POSIX_FADV_DONTNEED);
	}
	s->base += len;
	s->fill = 0;
	return 0;
}

/* @p NULL: zeros. */
static int stream_add(struct stream *s, const void *p, size_t len)
{
	const uint8_t *src = p;

	while (len) {
		size_t n = STREAM_BYTES - s->fill;

		if (n > len)
			n = len;
		if (src) {
			memcpy(s->buf + s->fill, src, n);
			src += n;
		} else {
			memset(s->buf + s->fill, 0, n);
		}
		s->fill += n;
		len -= n;
		if (s->fill == STREAM_BYTES) {
			int err = stream_flush(s, STREAM_BYTES);

			if (err)
				return err;
		}
	}
	return 0;
}

static int stream_align(struct stream *s, uint64_t align)
{
	uint64_t pos = stream_pos(s);

	return stream_add(s, NULL, (size_t)(round_up_u64(pos, align) - pos));
}

/* ---- creating ------------------------------------------------------------- */

static int open_new(int dir_fd, const char *name, int flags, bool *ret_direct)
{
	int fd;

	*ret_direct = true;
	fd = openat(dir_fd, name, flags | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EINVAL) {
		*ret_direct = false; /* UNTESTED: needs a filesystem without O_DIRECT */
		/* some filesystems have made the name before they refuse */
		fd = openat(dir_fd, name, (flags & ~O_EXCL) | O_RDWR | O_CLOEXEC, 0600);
	}
	return fd < 0 ? -errno : fd;
}

static int open_dir(struct object_writer *w, int objects_fd, const char *name)
{
	const char dir[] = { name[0], name[1], 0 };

	if (mkdirat(objects_fd, dir, 0700) == 0)
		w->objects_fd = objects_fd;
	/* Of a directory that an aborted writer made, ext4, XFS and btrfs make the
	 * name durable with the first fsync inside it. */
	else if (errno != EEXIST)
		return -errno;
	w->dir_fd = openat(objects_fd, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return w->dir_fd < 0 ? -errno : 0;
}

/* Packs the layout and reserves the index: front_len and data_off become known. */
static int build_front(struct object_writer *w)
{
	const struct object_plan *p = &w->plan;
	struct sbuf b = SBUF_INIT;
	uint64_t index_max, cap;
	int err;

	err = layout_pack(p->layout, &b);
	if (!err && b.failed)
		err = -ENOMEM;
	if (err)
		goto out;
	index_max = (uint64_t)p->n_chunks *
		(sizeof(struct kvfs_chunk) + p->n_layers * sizeof(struct kvfs_chunk_layer));
	cap = round_up_u64(b.len, 8) + index_max;
	if (cap + sizeof(w->header) > OBJECT_FRONT_MAX) {
		err = -E2BIG;
		goto out;
	}
	w->index_at = (size_t)round_up_u64(b.len, 8);
	w->front_cap = (size_t)cap;
	w->front = mem_zalloc(w->front_cap);
	if (!w->front) {
		err = -ENOMEM;
		goto out;
	}
	if (b.len)
		memcpy(w->front, b.s, b.len);
	w->front_len = w->index_at;
	w->header.layout_off = sizeof(w->header);
	w->header.layout_len = b.len;
	w->data_off = round_up_u64(sizeof(w->header) + cap, KVFS_OBJECT_ALIGN);
out:
	sbuf_fini(&b);
	return err;
}

static int open_streams(struct object_writer *w, const char *file)
{
	bool direct;
	int fd, err;

	fd = open_new(w->dir_fd, file, O_CREAT | O_EXCL, &direct);
	if (fd < 0)
		return fd;
	memcpy(w->name, file, strlen(file) + 1); /* from now on it is removed on failure */
	err = stream_init(&w->layers[0], fd, direct, w->data_off);
	if (err)
		return err;
	for (unsigned i = 1; i < w->plan.n_layers; i++) {
		fd = open_new(w->dir_fd, ".", O_TMPFILE, &direct);
		if (fd < 0)
			return fd;
		err = stream_init(&w->layers[i], fd, direct, 0);
		if (err)
			return err;
	}
	return 0;
}

int object_writer_create(int objects_fd, const struct object_plan *plan,
			 struct object_writer **ret)
{
	char name[OBJECT_NAME_MAX];
	struct object_writer *w;
	int err;

	if (plan->n_layers < 1 || plan->n_layers > KVFS_OBJECT_LAYERS ||
	    (plan->n_chunks == 0) != (plan->logical_bytes == 0))
		return -EINVAL;
	w = mem_zalloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->plan = *plan;
	w->dir_fd = w->objects_fd = -1;
	for (unsigned i = 0; i < KVFS_OBJECT_LAYERS; i++)
		w->layers[i].fd = -1;
	object_name(&plan->id, name);
	err = build_front(w);
	if (!err)
		err = open_dir(w, objects_fd, name);
	if (!err)
		err = open_streams(w, name + 3);
	if (!err)
		err = FAULT_POINT("object.created");
	if (err) {
		object_writer_abort(w);
		return err;
	}
	w->plan.layout = NULL; /* borrowed only until here */
	*ret = w;
	return 0;
}

/* ---- chunks --------------------------------------------------------------- */

static void put_chunk(struct object_writer *w, const struct layout_chunk *c, unsigned n)
{
	struct kvfs_chunk d = {
		.off = c->off_bytes,
		.len = c->len_bytes,
		.elem = c->shape.elem,
		.kind = c->shape.kind,
		.transposed = c->shape.transposed,
		.n_layers = (uint8_t)n,
		.model_layer = c->shape.layer,
		.row_bytes = c->shape.row_bytes,
		.head_bytes = c->shape.head_bytes,
		.first_row = c->shape.first_row,
		.region_rows = c->shape.region_rows,
	};

	object_chunk_swap(&d);
	memcpy(w->front + w->front_len, &d, sizeof(d));
	w->front_len += sizeof(d);
}

/* Layers beyond 0 get offsets within their spool; finish moves them. */
static int add_part(struct object_writer *w, const struct layout_chunk *c, unsigned layer,
		    const struct object_part *part)
{
	struct kvfs_chunk_layer d = { .codec = part->codec };
	struct stream *s = &w->layers[layer];
	int err = 0;

	if (part->codec != CODEC_HOLE) {
		err = stream_align(s, OBJECT_EXTENT_ALIGN);
		if (err)
			return err;
		d.off = stream_pos(s);
		d.len = part->len;
		d.sum = object_sum(&w->plan.id, OBJECT_SUM_CHUNK, w->n_added, layer, part->codec,
				   c->off_bytes, c->len_bytes, part->buf, part->len);
		err = stream_add(s, part->buf, part->len);
	}
	object_chunk_layer_swap(&d);
	memcpy(w->front + w->front_len, &d, sizeof(d));
	w->front_len += sizeof(d);
	return err;
}

static bool parts_ok(const struct layout_chunk *c, const struct object_part parts[], unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++) {
		if (parts[i].codec >= CODEC_IDS_ || parts[i].codec != parts[0].codec)
			return false;
		if (parts[i].codec == CODEC_HOLE)
			return n == 1;
		sum += parts[i].len;
	}
	return c->len_bytes <= CODEC_CHUNK_MAX && sum <= OBJECT_STORED_MAX(c->len_bytes);
}

int object_writer_add(struct object_writer *w, const struct object_part parts[], unsigned n)
{
	const struct layout_chunk *c;

	if (w->failed)
		return w->failed;
	if (w->n_added >= w->plan.n_chunks || n < 1 || n > w->plan.n_layers)
		return -EINVAL;
	c = &w->plan.chunks[w->n_added];
	if (c->off_bytes != w->chunk_off || !c->len_bytes ||
	    c->len_bytes > w->plan.logical_bytes - w->chunk_off || !parts_ok(c, parts, n))
		return -EINVAL;
	put_chunk(w, c, n);
	w->most = n > w->most ? n : w->most;
	for (unsigned i = 0; i < n && !w->failed; i++)
		w->failed = add_part(w, c, i, &parts[i]);
	w->chunk_off += c->len_bytes;
	w->n_added++;
	return w->failed;
}

void object_writer_errors(struct object_writer *w, const float errors[KVFS_OBJECT_LAYERS])
{
	memcpy(w->header.errors, errors, sizeof(w->header.errors));
}

uint64_t object_writer_bytes(const struct object_writer *w)
{
	uint64_t n = stream_pos(&w->layers[0]);

	for (unsigned i = 1; i < w->plan.n_layers; i++)
		n = round_up_u64(n, KVFS_OBJECT_ALIGN) + stream_pos(&w->layers[i]);
	return round_up_u64(n, KVFS_OBJECT_ALIGN);
}

/* ---- finishing ------------------------------------------------------------ */

/* Copies spool @s behind layer 0 through the spool's own buffer. What was copied is
 * given back on the way, so that no layer occupies its room twice. */
static int append_spool(struct object_writer *w, struct stream *s)
{
	struct stream *out = &w->layers[0];
	uint64_t len = stream_pos(s), at = 0;
	int err;

	memset(s->buf + s->fill, 0, STREAM_BYTES - s->fill);
	err = s->fill ? stream_flush(s, (size_t)round_up_u64(s->fill, KVFS_OBJECT_ALIGN)) : 0;
	while (!err && at < len) {
		uint64_t n = len - at < STREAM_BYTES ? len - at : STREAM_BYTES;

		err = FAULT_POINT("object.spool");
		if (!err)
			err = io_pread_all(s->fd, s->buf,
					   (size_t)round_up_u64(n, KVFS_OBJECT_ALIGN), at);
		if (!err)
			err = stream_add(out, s->buf, (size_t)n);
		at += n;
		if (at % SPOOL_PUNCH == 0) /* where holes cannot be made it stays to the end */
			(void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)(at - SPOOL_PUNCH), SPOOL_PUNCH);
	}
	io_close(&s->fd); /* and the rest with it */
	return err;
}

/* Adds the layers' starts to the offsets of their chunks in the index. */
static void move_offsets(struct object_writer *w)
{
	uint8_t *p = w->front + w->index_at, *end = w->front + w->front_len;

	while (p < end) {
		unsigned n = p[offsetof(struct kvfs_chunk, n_layers)];

		p += sizeof(struct kvfs_chunk);
		for (unsigned i = 0; i < n; i++, p += sizeof(struct kvfs_chunk_layer)) {
			struct kvfs_chunk_layer d;

			if (i == 0)
				continue; /* already offsets of the file */
			memcpy(&d, p, sizeof(d));
			object_chunk_layer_swap(&d);
			d.off += w->header.layers[i].off;
			object_chunk_layer_swap(&d);
			memcpy(p, &d, sizeof(d));
		}
	}
}

static int finish_layers(struct object_writer *w)
{
	struct kvfs_object_header *h = &w->header;
	struct stream *out = &w->layers[0];
	int err;

	h->layers[0].off = w->data_off;
	h->layers[0].len = stream_pos(out) - w->data_off;
	w->most = w->most ? w->most : 1; /* of an empty file */
	for (unsigned i = 1; i < w->most; i++) {
		err = stream_align(out, KVFS_OBJECT_ALIGN);
		if (err)
			return err;
		h->layers[i].off = stream_pos(out);
		h->layers[i].len = stream_pos(&w->layers[i]);
		err = append_spool(w, &w->layers[i]);
		if (err)
			return err;
	}
	err = stream_align(out, KVFS_OBJECT_ALIGN);
	if (!err && out->fill)
		err = stream_flush(out, out->fill);
	h->stored_bytes = stream_pos(out);
	return err;
}

static void fill_header(struct object_writer *w)
{
	struct kvfs_object_header *h = &w->header;

	memcpy(h->magic, KVFS_OBJECT_MAGIC, sizeof(h->magic));
	h->version = KVFS_OBJECT_VERSION;
	h->header_bytes = sizeof(*h);
	memcpy(h->id, w->plan.id.id, sizeof(h->id));
	h->generation = w->plan.id.generation;
	h->logical_bytes = w->plan.logical_bytes;
	h->tree_ino = w->plan.tree_ino;
	h->created_ns = w->plan.created_ns ? w->plan.created_ns : clock_real_ns();
	h->n_chunks = w->plan.n_chunks;
	h->n_layers = w->most;
	h->index_off = h->layout_off + w->index_at;
	h->index_len = w->front_len - w->index_at;
	h->layout_sum = object_part_sum(&w->plan.id, OBJECT_SUM_LAYOUT, w->front,
					(size_t)h->layout_len);
	h->index_sum = object_part_sum(&w->plan.id, OBJECT_SUM_INDEX, w->front + w->index_at,
				       (size_t)h->index_len);
	object_header_swap(h);
	h->header_sum = object_header_sum(h);
	h->header_sum = htole64(h->header_sum);
}

/* Layout and index first, the block with the header last. */
static int write_front(struct object_writer *w)
{
	struct stream *out = &w->layers[0];
	uint64_t total = w->data_off, at = KVFS_OBJECT_ALIGN;
	size_t head = sizeof(w->header), n;
	int err = 0;

	while (!err && at < total) {
		size_t src = (size_t)at - head, have;

		n = total - at < STREAM_BYTES ? (size_t)(total - at) : STREAM_BYTES;
		have = src < w->front_len ? w->front_len - src : 0;
		have = have < n ? have : n;
		if (have)
			memcpy(out->buf, w->front + src, have);
		memset(out->buf + have, 0, n - have);
		err = io_pwrite_all(out->fd, out->buf, n, at);
		at += n;
	}
	if (!err)
		err = FAULT_POINT("object.index");
	if (err)
		return err;
	n = KVFS_OBJECT_ALIGN - head < w->front_len ? KVFS_OBJECT_ALIGN - head : w->front_len;
	memcpy(out->buf, &w->header, head);
	memcpy(out->buf + head, w->front, n);
	memset(out->buf + head + n, 0, KVFS_OBJECT_ALIGN - head - n);
	return io_pwrite_all(out->fd, out->buf, KVFS_OBJECT_ALIGN, 0);
}

static int make_durable(struct object_writer *w)
{
	int err = io_fsync(w->layers[0].fd);

	if (!err)
		err = FAULT_POINT("object.synced");
	if (!err)
		err = io_fsync(w->dir_fd);
	if (!err && w->objects_fd >= 0)
		err = io_fsync(w->objects_fd);
	if (!err)
		err = FAULT_POINT("object.linked");
	if (!err && !w->layers[0].direct)
		(void)posix_fadvise(w->layers[0].fd, 0, 0, POSIX_FADV_DONTNEED); /* a hint */
	return err;
}

static void writer_free(struct object_writer *w)
{
	for (unsigned i = 0; i < KVFS_OBJECT_LAYERS; i++)
		stream_fini(&w->layers[i]);
	io_close(&w->dir_fd);
	mem_free(w->front);
	mem_free(w);
}

int object_writer_finish(struct object_writer *w, uint64_t *ret_stored_bytes)
{
	int err = w->failed;
	uint64_t stored = 0;

	if (!err && w->n_added != w->plan.n_chunks)
		err = -EINVAL;
	if (!err && w->chunk_off != w->plan.logical_bytes)
		err = -EINVAL;
	if (!err)
		err = finish_layers(w);
	if (!err) {
		stored = w->header.stored_bytes;
		move_offsets(w);
		fill_header(w);
		err = write_front(w);
	}
	if (!err)
		err = make_durable(w);
	if (err) {
		object_writer_abort(w);
		return err;
	}
	writer_free(w);
	*ret_stored_bytes = stored;
	return 0;
}

void object_writer_abort(struct object_writer *w)
{
	if (!w)
		return;
	/* A failure leaves an orphan, which the caller's intent still names. */
	if (w->name[0])
		(void)unlinkat(w->dir_fd, w->name, 0);
	writer_free(w);
}

int object_cut(int objects_fd, const struct object *o, unsigned n_layers)
{
	char name[OBJECT_NAME_MAX];
	struct stat st;
	int fd, err = 0;

	if (n_layers < 1 || n_layers > o->n_layers_max)
		return -EINVAL;
	object_name(&o->id, name);
	fd = io_open_regular(objects_fd, name, O_WRONLY, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 ||
	    ((uint64_t)st.st_size > o->level_bytes[n_layers - 1] &&
	     ftruncate(fd, (off_t)o->level_bytes[n_layers - 1]) < 0))
		err = -errno;
	io_close(&fd);
	return err;
}

int object_remove(int objects_fd, const struct object_id *id)
{
	char name[OBJECT_NAME_MAX];

	object_name(id, name);
	if (unlinkat(objects_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}
