/* SPDX-License-Identifier: MIT */
/*
 * From content to content with fewer tokens:
 *   1 the positions of its cells (layouts/compact.h)
 *   2 each layer's keys, twice, give every cell its score (codecs/drop.h)
 *   3 the compact file, into an unnamed file
 *   4 that is recognised like any other and must be what it was meant to be
 * Nothing of the file itself is touched here, so a failure leaves only a reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "store/thin.h"

#define KEYS_BUF (256u << 10)

struct making {
	struct thin_content *t;
	const struct layout_input *in;
	const struct drop_params *p;
	struct compact *c;
	struct drop_cell *cells;
	uint32_t *kept;
	double *work;
	uint8_t *buf;
	size_t buf_bytes;
	uint64_t off; /* written */
	uint64_t ino; /* that does not give way */
};

static int refuse(char *why, const char *text)
{
	snprintf(why, THIN_WHY_MAX, "%s", text);
	return -KVFS_ENODROP;
}

/* ---- 2: the choice --------------------------------------------------------- */

enum pass { MEASURE, SCORE };

static int pass_over(struct making *m, const struct compact_keys *k, struct drop_layer *l,
		     enum pass pass)
{
	uint32_t most = (uint32_t)(m->buf_bytes / k->row_bytes), cells = m->t->cells;

	for (uint32_t i = 0; i < cells; i += most) {
		uint32_t n = cells - i < most ? cells - i : most;
		size_t len = (size_t)n * k->row_bytes;
		int64_t got = m->in->read(m->in->arg, m->buf, len,
					  k->off_bytes + (uint64_t)i * k->row_bytes);

		if (got < 0)
			return (int)got;
		if ((size_t)got != len)
			return -EIO;
		if (pass == MEASURE)
			drop_measure(l, m->buf, n);
		else
			drop_score(l, m->buf, n, m->cells + i);
	}
	return 0;
}

static int score_layer(struct making *m, const struct compact_keys *k)
{
	unsigned e = elem_bytes(k->elem);
	struct drop_layer l;
	int r;

	drop_layer_init(&l, m->p->method, k->elem, k->row_bytes / e, k->head_bytes / e, m->work);
	r = pass_over(m, k, &l, MEASURE);
	return r < 0 ? r : pass_over(m, k, &l, SCORE);
}

/* Buffers for the widest layer. */
static int room_for_keys(struct making *m)
{
	struct compact_keys k;
	size_t work = 1;

	m->buf_bytes = KEYS_BUF;
	for (uint32_t i = 0; compact_keys(m->c, i, &k); i++) {
		unsigned e = elem_bytes(k.elem);
		size_t n = drop_work_len(k.row_bytes / e, k.head_bytes / e);

		work = n > work ? n : work;
		m->buf_bytes = k.row_bytes > m->buf_bytes ? k.row_bytes : m->buf_bytes;
	}
	m->work = mem_calloc(work, sizeof(*m->work));
	m->buf = mem_alloc(m->buf_bytes);
	return m->work && m->buf ? 0 : -ENOMEM;
}

static int choose(struct making *m)
{
	struct thin_content *t = m->t;
	struct compact_keys k;
	int r = 0;

	m->cells = mem_calloc(t->cells, sizeof(*m->cells));
	m->kept = mem_calloc(t->kept, sizeof(*m->kept));
	if (!m->cells || !m->kept)
		return -ENOMEM;
	drop_init(m->cells, compact_positions(m->c), t->cells);
	if (m->p->method != DROP_WINDOW) {
		r = room_for_keys(m);
		for (uint32_t i = 0; r == 0 && compact_keys(m->c, i, &k); i++)
			r = score_layer(m, &k);
	}
	if (r == 0)
		drop_select(m->p, m->cells, t->cells, t->kept, m->kept);
	return r;
}

/* ---- 3: the file ----------------------------------------------------------- */

static int append(void *arg, const void *buf, size_t len)
{
	struct making *m = arg;
	int r = io_pwrite_all(m->t->fd, buf, len, m->off);

	m->off += len;
	return r;
}

static int write_file(struct making *m, char *why)
{
	struct thin_content *t = m->t;
	int r = compact_choose(m->c, m->kept, t->kept, &t->size);

	if (r == -EOPNOTSUPP)
		return refuse(why, "with so few tokens it would not be recognised any more");
	if (r == 0)
		r = space_reserve(t->st, t->size, m->ino);
	if (r < 0)
		return r;
	t->reserved = t->size;
	t->fd = openat(t->st->objects_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (t->fd < 0)
		return -errno;
	r = compact_write(m->c, append, m);
	return r == 0 && m->off != t->size ? -KVFS_EVERIFY : r;
}

/* ---- 4: the check ---------------------------------------------------------- */

struct made {
	struct recognise file;
	int fd;
};

static int64_t read_made(struct recognise *r, void *buf, size_t len, uint64_t off)
{
	return io_pread(container_of(r, struct made, file)->fd, buf, len, off);
}

/* What was made holds these cells and is what its source was. */
static int check_positions(struct making *m, struct recognise *file, char *why)
{
	struct layout_input in = recognise_input(file);
	const int32_t *was = compact_positions(m->c), *is;
	struct compact *c;
	int r = compact_open(&in, m->t->layout, &c, why, THIN_WHY_MAX);

	if (r < 0)
		return r == -EOPNOTSUPP ? -KVFS_EVERIFY : r;
	is = compact_positions(c);
	for (uint32_t i = 0; r == 0 && i < m->t->kept; i++)
		if (is[i] != was[m->kept[i]])
			r = -KVFS_EVERIFY;
	compact_close(c);
	return r;
}

static int check(struct making *m, struct recognise *source, const struct layout *l, char *why)
{
	struct thin_content *t = m->t;
	struct made made = { { t->st, source->node, t->size, read_made }, t->fd };
	int r = recognise_layout(&made.file, &t->layout);

	if (r < 0)
		return r;
	if (t->layout->name != l->name || t->layout->tokens != t->kept ||
	    t->layout->n_regions != l->n_regions || t->layout->lossy_veto)
		return refuse(why, "without these tokens it would not be recognised any more");
	return check_positions(m, &made.file, why);
}

/* ---- the whole ------------------------------------------------------------- */

/* What compact and drop keep of a cell, with room for its part of a header. */
#define CELL_BYTES (sizeof(struct drop_cell) + sizeof(uint32_t) + sizeof(int32_t) + 64)

static void count_memory(struct thin_content *t)
{
	struct budget *b = &t->st->dram;

	t->counted = t->cells * CELL_BYTES + 2 * KEYS_BUF;
	if (budget_take(b, BUDGET_BUFFER, t->counted) == 0)
		return;
	(void)space_dram(t->st, t->counted, NULL); /* as far as it goes: there is one at a time */
	budget_force(b, BUDGET_BUFFER, t->counted);
}

static int make(struct making *m, struct recognise *file, const struct layout *l, char *why)
{
	struct thin_content *t = m->t;
	int r;

	t->cells = compact_cells(m->c);
	t->kept = drop_count(m->p, t->cells);
	if (t->kept >= t->cells)
		return refuse(why, "no token would go");
	count_memory(t);
	r = choose(m);
	if (r == 0)
		r = write_file(m, why);
	if (r == 0)
		r = check(m, file, l, why);
	return r;
}

int thin_content_make(struct recognise *file, const struct layout *l, const struct drop_params *p,
		      struct thin_content *ret, char *why)
{
	struct layout_input in = recognise_input(file);
	struct making m = { .t = ret, .in = &in, .p = p, .ino = node_ino(file->node) };
	int r;

	*ret = (struct thin_content){ .st = file->st, .fd = -1 };
	r = compact_open(&in, l, &m.c, why, THIN_WHY_MAX);
	if (r < 0)
		return r == -EOPNOTSUPP ? -KVFS_ENODROP : r;
	r = make(&m, file, l, why);
	mem_free(m.cells);
	mem_free(m.kept);
	mem_free(m.work);
	mem_free(m.buf);
	compact_close(m.c);
	budget_give(&ret->st->dram, BUDGET_BUFFER, ret->counted);
	return r;
}

void thin_content_fini(struct thin_content *t)
{
	if (!t->st)
		return;
	io_close(&t->fd);
	layout_destroy(t->layout);
	space_release(t->st, t->reserved);
}

/* ---- positions ------------------------------------------------------------- */

int thin_positions(struct recognise *file, const struct layout *l, struct sbuf *ret)
{
	struct layout_input in = recognise_input(file);
	char why[THIN_WHY_MAX];
	struct compact *c;
	int r = compact_open(&in, l, &c, why, sizeof(why));

	if (r < 0)
		return r == -EOPNOTSUPP ? -ENODATA : r;
	compact_ranges(compact_positions(c), compact_cells(c), ret);
	compact_close(c);
	return ret->failed ? -ENOMEM : 0;
}
