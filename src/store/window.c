/* SPDX-License-Identifier: MIT */
/*
 * The window's slots. One lock; nothing slow happens under it.
 *
 *  state    pins  list           hashed  buf  meaning
 *  FREE     0     free           no      no
 *  LOADING  any   none           yes(*)  yes  phase says who works on it; obj, and
 *                                             rep or fb, belong to the load
 *  READY    0     lru or reuse   yes     yes  evictable
 *  READY    >0    none           yes(*)  yes  slices point into buf
 *  FAILED   >0    none           no      no   waiters take err and leave; the last
 *                                             unpin makes it FREE
 *  (*) no after window_forget: then the last unpin makes it FREE.
 *
 *  phases of LOADING:  FETCH -> QUEUED or CLAIMABLE -> DECODE -> (READY, FAILED)
 *  Loads from the replica start in QUEUED (ahead) or DECODE (the reader itself).
 *
 * Where a buffer comes from, in this order: the newest consumed cheap slot of
 * the same size (its buffer is warm), an idle buffer, a new one within
 * window_bytes and the budget, the least recently used slot. Chunks decoded
 * ahead and not read yet are only taken for a reader that waits. Failed
 * loads are not remembered: the next reader tries again.
 */
#include "store/window.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "store/fetch.h"
#include "store/object_format.h"

#define SLOTS_MIN 64u
#define SLOTS_MAX 2048u
#define FETCH_SLACK (16u << 10) /* unaligned ends of the layers' ranges */
#define EVICT_SCAN 64           /* slots looked at for one that is not ahead */

int window_init(struct window *w, struct reader *r, struct budget *b, uint64_t window_bytes,
		uint64_t buffer_bytes) NO_TSA
{
	uint64_t n = window_bytes / (64u << 10);
	int err = -ENOMEM;

	memset(w, 0, sizeof(*w));
	w->n_slots = (unsigned)(n < SLOTS_MIN ? SLOTS_MIN : n > SLOTS_MAX ? SLOTS_MAX : n);
	for (w->n_hash = 64; w->n_hash < w->n_slots; w->n_hash *= 2)
		;
	w->slots = mem_calloc(w->n_slots, sizeof(*w->slots));
	w->hash = mem_calloc(w->n_hash, sizeof(*w->hash));
	if (!w->slots || !w->hash)
		goto err_free;
	err = pages_init(&w->dec, b, BUDGET_WINDOW, sizeof(struct pbuf), 0, CODEC_CHUNK_MAX,
			 window_bytes);
	if (err)
		goto err_free;
	err = pages_init(&w->enc, b, BUDGET_BUFFER, sizeof(struct fbuf), FETCH_SLACK,
			 (size_t)OBJECT_STORED_MAX(CODEC_CHUNK_MAX) +
				 2 * CODEC_LAYERS_MAX * KVFS_PAGE,
			 buffer_bytes);
	if (err)
		goto err_dec;
	lock_init(&w->lock);
	cond_init(&w->avail);
	list_init(&w->free);
	list_init(&w->reuse);
	list_init(&w->lru);
	for (unsigned i = 0; i < w->n_slots; i++) {
		w->slots[i].reader = r;
		cond_init(&w->slots[i].cond);
		list_add_tail(&w->free, &w->slots[i].link);
	}
	return 0;
err_dec:
	pages_fini(&w->dec);
err_free:
	mem_free(w->hash);
	mem_free(w->slots);
	w->slots = NULL;
	return err;
}

/* ---- keys ----------------------------------------------------------------- */

static struct slot **bucket(struct window *w, const struct object_id *id, uint32_t chunk,
			    unsigned n_layers) REQUIRES(w->lock)
{
	uint64_t x;

	memcpy(&x, id->id, sizeof(x));
	x ^= (uint64_t)id->generation << 32 ^ ((uint64_t)chunk << 3 | (n_layers & 7));
	return &w->hash[hash_u64(x) & (w->n_hash - 1)];
}

static bool same_object(const struct object_id *a, const struct object_id *b)
{
	return a->generation == b->generation && memcmp(a->id, b->id, sizeof(a->id)) == 0;
}

struct slot *window_find_locked(struct window *w, const struct slot_want *q)
{
	struct slot *s = *bucket(w, &q->obj->id, q->chunk, q->n_layers);

	while (s && !(s->chunk == q->chunk && s->n_layers == q->n_layers &&
		      same_object(&s->id, &q->obj->id)))
		s = s->hash_next;
	return s;
}

static void unhash(struct window *w, struct slot *s) REQUIRES(w->lock)
{
	struct slot **at = bucket(w, &s->id, s->chunk, s->n_layers);

	if (!s->hashed)
		return;
	while (*at != s)
		at = &(*at)->hash_next;
	*at = s->hash_next;
	s->hashed = false;
}

/* ---- slots becoming free and busy ----------------------------------------- */

static void notify(struct window *w) REQUIRES(w->lock)
{
	if (w->avail_waiters)
		cond_broadcast(&w->avail);
}

/* Unhashes and takes the buffer out; the slot goes to the free list. */
static struct pbuf *release_slot(struct window *w, struct slot *s) REQUIRES(w->lock)
{
	struct pbuf *b = s->buf;

	assert(s->pins == 0 && s->state != SLOT_LOADING && s->state != SLOT_FREE);
	if (s->ahead)
		w->ahead_unused++;
	unhash(w, s);
	s->buf = NULL;
	s->state = SLOT_FREE;
	list_del(&s->link);
	list_add_head(&w->free, &s->link);
	return b;
}

static void free_slot(struct window *w, struct slot *s) REQUIRES(w->lock)
{
	struct pbuf *b = release_slot(w, s);

	if (b)
		pages_give(&w->dec, b);
	notify(w);
}

void window_pin_locked(struct window *w, struct slot *s)
{
	(void)w;
	if (s->pins++ == 0)
		list_del(&s->link);
}

void window_unpin_locked(struct window *w, struct slot *s)
{
	assert(s->pins > 0);
	if (--s->pins > 0 || s->state == SLOT_LOADING)
		return;
	if (!s->hashed) {
		free_slot(w, s);
		return;
	}
	if (s->consumed && s->cheap)
		list_add_head(&w->reuse, &s->link);
	else
		list_add_tail(&w->lru, &s->link);
	notify(w);
}

void window_loaded_locked(struct window *w, struct slot *s, int err)
{
	assert(s->state == SLOT_LOADING);
	if (s->fb)
		pages_give(&w->enc, &s->fb->p);
	s->fb = NULL;
	s->obj = NULL;
	s->rep = NULL;
	s->err = err;
	s->state = err ? SLOT_FAILED : SLOT_READY;
	w->n_loading--;
	if (err) {
		unhash(w, s);
		s->ahead = false;
		pages_give(&w->dec, s->buf);
		s->buf = NULL;
	}
	if (s->pins == 0) {
		/* as if the last pin went now */
		s->pins = 1;
		window_unpin_locked(w, s);
	}
	cond_broadcast(&s->cond);
	notify(w);
}

void window_wait_locked(struct window *w)
{
	w->avail_waiters++;
	w->waits++;
	cond_wait(&w->avail, &w->lock);
	w->avail_waiters--;
}

/* ---- where buffers come from ----------------------------------------------- */

/* The evictable slot that is worth least. */
static struct slot *victim(struct window *w, bool demand) REQUIRES(w->lock)
{
	unsigned n = 0;

	/* the oldest of the reuse list: the newest are warm */
	if (!list_empty(&w->reuse))
		return container_of(w->reuse.prev, struct slot, link);
	list_for_each(l, &w->lru) {
		struct slot *s = container_of(l, struct slot, link);

		if (!s->ahead)
			return s;
		if (++n == EVICT_SCAN)
			break;
	}
	return demand && !list_empty(&w->lru) ? container_of(w->lru.next, struct slot, link) : NULL;
}

/* A warm buffer of exactly this class. */
static struct pbuf *take_warm(struct window *w, size_t len) REQUIRES(w->lock)
{
	unsigned cls = pages_class(&w->dec, len);
	unsigned n = 0;

	list_for_each(l, &w->reuse) {
		struct slot *s = container_of(l, struct slot, link);

		if (s->buf->cls == cls && !s->buf->reserved)
			return release_slot(w, s);
		if (++n == 4)
			break;
	}
	return NULL;
}

/* Makes a buffer without the lock. -EAGAIN when there is one now. */
static int grow(struct window *w, struct pages *p, size_t len) REQUIRES(w->lock)
{
	struct pages_shape shape;
	struct pbuf *b;

	if (!pages_may_grow(p, len, &shape))
		return -EBUSY;
	lock_release(&w->lock);
	b = pages_grow(p, &shape);
	lock_acquire(&w->lock);
	if (!b) {
		pages_grow_failed(p, &shape);
		return -EBUSY;
	}
	pages_add(p, b);
	notify(w);
	return -EAGAIN;
}

/* Idle buffers of other sizes go, so that one of this size may come. */
static int exchange(struct window *w, struct pages *p, size_t len) REQUIRES(w->lock)
{
	struct list out;

	list_init(&out);
	if (!pages_idle(p, len, &out))
		return -EBUSY;
	lock_release(&w->lock);
	pages_free(p, &out);
	lock_acquire(&w->lock);
	return -EAGAIN;
}

/* Nothing else helped: the reader is not to wait for what nobody holds. */
static int largest(struct window *w, struct pages *p, size_t len, bool demand)
	REQUIRES(w->lock)
{
	struct pbuf *b;

	if (!demand || !pages_wants_largest(p, len))
		return -EBUSY;
	lock_release(&w->lock);
	b = pages_make_largest(p);
	lock_acquire(&w->lock);
	pages_add_largest(p, b);
	return b ? -EAGAIN : -ENOMEM;
}

/* A larger buffer, or idle memory of other sizes in exchange. */
static int make_do(struct window *w, size_t len, bool demand, struct pbuf **ret)
	REQUIRES(w->lock)
{
	*ret = pages_take(&w->dec, len, true, demand);
	return *ret ? 0 : exchange(w, &w->dec, len);
}

/* Evicts until there is a buffer. Buffers share slabs, which are exchanged only
 * whole, so that a reader who waits may have to evict more than it needs: it must
 * not wait for what nobody holds. */
static int take_dec(struct window *w, size_t len, bool demand, struct pbuf **ret)
	REQUIRES(w->lock)
{
	uint64_t freed = 0;
	struct slot *s;
	int err;

	*ret = take_warm(w, len);
	if (!*ret)
		*ret = pages_take(&w->dec, len, false, false);
	if (*ret)
		return 0;
	err = grow(w, &w->dec, len);
	if (err == -EAGAIN)
		return err;
	while ((freed < len || demand) && (s = victim(w, demand)) != NULL) {
		freed += s->buf->reserved ? 0 : s->buf->cap_bytes;
		free_slot(w, s);
		*ret = pages_take(&w->dec, len, false, demand);
		if (*ret)
			return 0;
		if (freed < len)
			continue;
		err = make_do(w, len, demand, ret);
		if (err != -EBUSY)
			return err;
	}
	err = make_do(w, len, demand, ret);
	return err == -EBUSY ? largest(w, &w->dec, len, demand) : err;
}

static int take_enc(struct window *w, size_t len, bool demand, struct pbuf **ret)
	REQUIRES(w->lock)
{
	int err;

	*ret = pages_take(&w->enc, len, false, false);
	if (*ret)
		return 0;
	err = grow(w, &w->enc, len);
	if (err == -EAGAIN)
		return err;
	*ret = pages_take(&w->enc, len, true, demand);
	if (*ret)
		return 0;
	err = exchange(w, &w->enc, len);
	return err == -EBUSY ? largest(w, &w->enc, len, demand) : err;
}

static int take_slot(struct window *w, bool demand, struct slot **ret) REQUIRES(w->lock)
{
	if (list_empty(&w->free)) {
		struct slot *s = victim(w, demand);

		if (!s)
			return -EBUSY;
		free_slot(w, s);
	}
	*ret = container_of(w->free.next, struct slot, link);
	return 0;
}

/* Everything for a new slot; what was taken is in *@dec and *@enc also on failure. */
static int take_all(struct window *w, const struct slot_want *q, struct pbuf **dec,
		    struct pbuf **enc, struct slot **ret) REQUIRES(w->lock)
{
	int err = 0;

	if (q->fetch_bytes)
		err = take_enc(w, q->fetch_bytes, q->demand, enc);
	if (!err)
		err = take_dec(w, q->obj->chunks[q->chunk].len_bytes, q->demand, dec);
	if (!err)
		err = take_slot(w, q->demand, ret);
	/* buffers are made without the lock: somebody may have entered the chunk */
	if (!err && window_find_locked(w, q))
		err = -EAGAIN;
	return err;
}

int window_new_locked(struct window *w, const struct slot_want *q, struct slot **ret)
{
	struct pbuf *dec = NULL, *enc = NULL;
	uint64_t waits = w->waits;
	struct slot **at;
	struct slot *s;
	int err = take_all(w, q, &dec, &enc, &s);

	if (err) {
		if (dec)
			pages_give(&w->dec, dec);
		if (enc)
			pages_give(&w->enc, enc);
		/* who began to wait meanwhile did not see these; no others, or two that
		 * fail would wake each other forever */
		if ((dec || enc) && w->waits != waits)
			notify(w);
		return err;
	}
	list_del(&s->link);
	s->state = SLOT_LOADING;
	s->phase = PHASE_FETCH;
	s->hashed = true;
	s->consumed = s->cheap = s->ahead = false;
	s->err = 0;
	s->id = q->obj->id;
	s->chunk = q->chunk;
	s->n_layers = q->n_layers;
	s->len_bytes = q->obj->chunks[q->chunk].len_bytes;
	s->buf = dec;
	s->fb = enc ? container_of(enc, struct fbuf, p) : NULL;
	at = bucket(w, &s->id, s->chunk, s->n_layers);
	s->hash_next = *at;
	*at = s;
	w->n_loading++;
	*ret = s;
	return 0;
}

/* ---- giving memory back ---------------------------------------------------- */

void window_forget(struct window *w, const struct object_id *id)
{
	lock_acquire(&w->lock);
	for (unsigned i = 0; i < w->n_slots; i++) {
		struct slot *s = &w->slots[i];

		if (!s->hashed || !same_object(&s->id, id))
			continue;
		unhash(w, s);
		if (s->state == SLOT_READY && s->pins == 0)
			free_slot(w, s);
	}
	window_check_locked(w);
	lock_release(&w->lock);
}

void window_shrink(struct window *w, struct budget *b, uint64_t bytes)
{
	for (;;) {
		uint64_t have = budget_free(b), got;
		struct list dec, enc;
		struct slot *s;

		if (have >= bytes)
			return;
		list_init(&dec);
		list_init(&enc);
		lock_acquire(&w->lock);
		got = pages_idle(&w->dec, bytes - have, &dec);
		if (got < bytes - have)
			got += pages_idle(&w->enc, bytes - have - got, &enc);
		s = got ? NULL : victim(w, true);
		if (s)
			free_slot(w, s);
		window_check_locked(w);
		lock_release(&w->lock);
		pages_free(&w->dec, &dec);
		pages_free(&w->enc, &enc);
		if (!got && !s)
			return;
	}
}

void window_fini(struct window *w) NO_TSA
{
	if (!w->slots)
		return;
	assert(w->n_loading == 0);
	for (unsigned i = 0; i < w->n_slots; i++) {
		assert(w->slots[i].pins == 0);
		if (w->slots[i].state != SLOT_FREE)
			free_slot(w, &w->slots[i]);
		cond_fini(&w->slots[i].cond);
	}
	pages_fini(&w->dec);
	pages_fini(&w->enc);
	mem_free(w->hash);
	mem_free(w->slots);
	cond_fini(&w->avail);
	lock_fini(&w->lock);
}

struct fbuf *window_fbuf_get(struct window *w, size_t len, bool wait)
{
	struct pbuf *b = NULL;
	int err;

	lock_acquire(&w->lock);
	while ((err = take_enc(w, len, wait, &b)) != 0) {
		if (err == -EAGAIN)
			continue;
		if (!wait || err == -ENOMEM)
			break;
		window_wait_locked(w);
	}
	lock_release(&w->lock);
	return b ? container_of(b, struct fbuf, p) : NULL;
}

void window_fbuf_put(struct window *w, struct fbuf *f)
{
	lock_acquire(&w->lock);
	pages_give(&w->enc, &f->p);
	notify(w);
	lock_release(&w->lock);
}
