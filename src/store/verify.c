/* SPDX-License-Identifier: MIT */
/*
 * Verifying what lies on the device: one chunk of an object is fetched, checked and
 * decoded past the window, which may hold what a replica was decoded to. Readers
 * lose nothing of the window by it. A replica of a chunk with layers is made of the
 * stored bytes, which come the same way.
 */
#include <errno.h>
#include <stdatomic.h>

#include "store/fetch.h"
#include "store/read.h"
#include "store/read_types.h"

struct verify {
	struct lock lock;
	struct cond cond;
	bool done GUARDED; /* lock */
};

static void fetched(struct fbuf *f)
{
	struct verify *v = f->owner;

	lock_acquire(&v->lock);
	v->done = true;
	cond_signal(&v->cond);
	lock_release(&v->lock);
}

/* The chunk's layers [first, n_layers), fetched. On failure there is nothing to put. */
static int fetch(struct reader *r, const struct object *o, uint32_t chunk, unsigned first,
		 unsigned n_layers, struct fbuf **ret)
{
	struct verify v = { .done = false };
	struct fbuf *f = window_fbuf_get(&r->w, fetch_bytes(o, chunk, first, n_layers), true);
	int err;

	if (!f)
		return -ENOMEM;
	lock_init(&v.lock);
	cond_init(&v.cond);
	f->ready = fetched;
	f->owner = &v;
	fetch_start(r, f, o, chunk, first, n_layers);
	lock_acquire(&v.lock);
	while (!v.done)
		cond_wait(&v.cond, &v.lock);
	lock_release(&v.lock);
	cond_fini(&v.cond);
	lock_fini(&v.lock);
	err = atomic_load(&f->err);
	if (err)
		window_fbuf_put(&r->w, f);
	else
		*ret = f;
	return err;
}

int reader_verify(struct reader *r, const struct object *o, uint32_t chunk, unsigned n_layers,
		  void *buf)
{
	struct fbuf *f;
	int err;

	if (o->layers[o->chunks[chunk].first_layer].codec == CODEC_HOLE)
		return 0;
	n_layers = fetch_layers(o, chunk, n_layers);
	err = fetch(r, o, chunk, 0, n_layers, &f);
	if (err)
		return err;
	err = fetch_decode(r, o, chunk, n_layers, f->in, buf, 0);
	window_fbuf_put(&r->w, f);
	return err;
}

int reader_stored(struct reader *r, const struct object *o, uint32_t chunk, unsigned first,
		  unsigned n_layers,
		  int (*take)(void *arg, unsigned codec, const struct codec_in in[], unsigned n),
		  void *arg)
{
	struct fbuf *f;
	int err;

	n_layers = fetch_layers(o, chunk, n_layers);
	err = fetch(r, o, chunk, first, n_layers, &f);
	if (err)
		return err;
	for (unsigned i = first; i < n_layers && !err; i++)
		err = object_check(o, chunk, i, f->in[i].buf, f->in[i].len);
	if (!err)
		err = take(arg, o->layers[o->chunks[chunk].first_layer].codec, f->in, n_layers);
	window_fbuf_put(&r->w, f);
	return err;
}
