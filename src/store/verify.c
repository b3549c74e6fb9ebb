/* SPDX-License-Identifier: MIT */
/*
 * Verifying what lies on the device: one chunk of an object is fetched, checked and
 * decoded past the window, which may hold what a replica was decoded to. Readers
 * lose nothing of the window by it.
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

int reader_verify(struct reader *r, const struct object *o, uint32_t chunk, void *buf)
{
	unsigned n_layers = o->n_layers_max;
	struct verify v = { .done = false };
	struct fbuf *f;
	int err;

	if (o->layers[o->chunks[chunk].first_layer].codec == CODEC_HOLE)
		return 0;
	f = window_fbuf_get(&r->w, fetch_bytes(o, chunk, n_layers), true);
	if (!f)
		return -ENOMEM;
	lock_init(&v.lock);
	cond_init(&v.cond);
	f->ready = fetched;
	f->owner = &v;
	fetch_start(r, f, o, chunk, n_layers);
	lock_acquire(&v.lock);
	while (!v.done)
		cond_wait(&v.cond, &v.lock);
	lock_release(&v.lock);
	cond_fini(&v.cond);
	lock_fini(&v.lock);
	err = atomic_load(&f->err);
	if (!err)
		err = fetch_decode(r, o, chunk, n_layers, f->in, buf, 0);
	window_fbuf_put(&r->w, f);
	return err;
}
