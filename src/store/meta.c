/* SPDX-License-Identifier: MIT */
/*
 * LMDB behind meta.h. The queue is a hash of inode -> latest record (or a
 * deletion); meta_flush swaps it out under the lock and writes it in one
 * transaction, so callers never wait for the disk except in intents.
 *
 * Failure: a flush that fails keeps nothing (the index is rebuildable); the
 * environment is then marked and the clean flag will not be set at close.
 * LMDB syncs on commit; its own recovery needs no log.
 */
#include "store/meta.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/lock.h"
#include "base/mem.h"
#include "store/meta_rec.h"

#define META_MAP_BYTES (64ull << 30)
#define META_MAP_SMALL (1ull << 30)
#define META_QUEUE_HASH 4096u
#define META_QUEUE_MAX 16384u
/* seeds of sums */
#define KVFS_SUM_INTENT 1u
#define KVFS_SUM_STATE 2u

struct pending {
	struct pending *next;
	uint64_t ino;
	bool del;
	void *rec; /* packed, @len bytes; owned; NULL for del */
	size_t len;
};
struct dead_intent {
	struct dead_intent *next;
	uint8_t key[20];
};

struct state {
	uint64_t clean, tree_ino, fsid;
	struct meta_totals totals;
	uint64_t sum;
};

struct meta {
	MDB_env *env;
	MDB_dbi intents, index, state_db;
	bool read_only;
	struct lock write_lock; /* one write transaction at a time, held across I/O by design */
	struct lock lock;
	struct pending **queue GUARDED; /* lock */
	_Atomic unsigned n_queue;       /* lock to change; looked at without: a hint */
	struct pending **flushing;      /* being written: still visible to meta_get; lock */
	struct dead_intent *dead GUARDED; /* lock */
	struct state state;             /* lock */
	bool failed;                    /* lock */
	bool same_tree;
	int (*durable)(void *arg);      /* set before threads run */
	void *durable_arg;
};

static int meta_err(int r)
{
	switch (r) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
		return -ENOSPC;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_PANIC:
		return -KVFS_EFORMAT;
	default:
		return r > 0 ? -r : -EIO;
	}
}

static uint64_t intent_sum(const struct intent *i)
{
	return hash64(i, offsetof(struct intent, sum), KVFS_SUM_INTENT);
}

static uint64_t state_sum(const struct state *s)
{
	return hash64(s, offsetof(struct state, sum), KVFS_SUM_STATE);
}

/* ---- queue ---------------------------------------------------------------- */

static struct pending **queue_slot(struct pending **q, uint64_t ino)
{
	struct pending **p = &q[hash_u64(ino) & (META_QUEUE_HASH - 1)];

	while (*p && (*p)->ino != ino)
		p = &(*p)->next;
	return p;
}

static void queue_free(struct pending **q)
{
	if (!q)
		return;
	for (unsigned i = 0; i < META_QUEUE_HASH; i++) {
		while (q[i]) {
			struct pending *p = q[i];

			q[i] = p->next;
			mem_free(p->rec);
			mem_free(p);
		}
	}
	mem_free(q);
}

static int queue_add(struct meta *m, uint64_t ino, const struct meta_rec *rec)
{
	uint8_t packed[META_REC_BYTES_MAX], *copy = NULL;
	struct pending *p, **slot;
	size_t len = 0;

	if (m->read_only)
		return 0;
	if (rec) {
		len = meta_rec_pack(ino, rec, packed);
		copy = mem_alloc(len);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, packed, len);
	}
	p = mem_zalloc(sizeof(*p));
	if (!p) {
		mem_free(copy);
		return -ENOMEM;
	}
	lock_acquire(&m->lock);
	slot = queue_slot(m->queue, ino);
	if (*slot) {
		mem_free((*slot)->rec);
		(*slot)->rec = copy;
		(*slot)->len = len;
		(*slot)->del = !rec;
		mem_free(p);
	} else {
		p->ino = ino;
		p->rec = copy;
		p->len = len;
		p->del = !rec;
		*slot = p;
		m->n_queue++;
	}
	lock_release(&m->lock);
	return 0;
}

int meta_put(struct meta *m, uint64_t ino, const struct meta_rec *r)
{
	return queue_add(m, ino, r);
}

int meta_del(struct meta *m, uint64_t ino)
{
	return queue_add(m, ino, NULL);
}

bool meta_wants_flush(const struct meta *m)
{
	return m->n_queue >= META_QUEUE_MAX;
}

/* 1 found, 0 not queued, -ENOENT queued as deleted. */
static int queue_get(struct pending **q, uint64_t ino, struct meta_rec *ret)
{
	struct pending *p;

	if (!q)
		return 0;
	p = *queue_slot(q, ino);
	if (!p)
		return 0;
	if (p->del)
		return -ENOENT;
	return meta_rec_unpack(ino, p->rec, p->len, ret) ? 1 : -ENOENT;
}

bool meta_same_tree(const struct meta *m)
{
	return m->same_tree;
}

void meta_unclean(struct meta *m)
{
	lock_acquire(&m->lock);
	m->failed = true;
	lock_release(&m->lock);
}

int meta_get(struct meta *m, uint64_t ino, struct meta_rec *ret)
{
	MDB_val k = { sizeof(ino), &ino }, v;
	MDB_txn *txn;
	int r;

	lock_acquire(&m->lock);
	r = queue_get(m->queue, ino, ret);
	if (r == 0)
		r = queue_get(m->flushing, ino, ret);
	lock_release(&m->lock);
	if (r != 0)
		return r > 0 ? 0 : r;
	r = mdb_txn_begin(m->env, NULL, MDB_RDONLY, &txn);
	if (r)
		return meta_err(r);
	r = mdb_get(txn, m->index, &k, &v);
	if (r == 0 && !meta_rec_unpack(ino, v.mv_data, v.mv_size, ret)) {
		meta_unclean(m);
		r = MDB_NOTFOUND; /* as if it were not there: rebuilt at the next mount */
	}
	mdb_txn_abort(txn);
	return meta_err(r);
}

/* ---- flush ---------------------------------------------------------------- */

static void totals_add(struct meta_totals *t, const struct meta_rec *r, int sign)
{
	uint64_t s = (uint64_t)(int64_t)sign;

	if (r->flags & META_DIR)
		return;
	t->files += s;
	t->sealed += (r->flags & META_SEALED) ? s : 0;
	t->stored_bytes += s * r->stored_bytes;
	t->logical_bytes += s * r->logical_bytes;
}

static int flush_one(struct meta *m, MDB_txn *txn, struct pending *p, struct meta_totals *t)
{
	MDB_val k = { sizeof(p->ino), &p->ino }, v;
	struct meta_rec old, now;
	int r = mdb_get(txn, m->index, &k, &v);

	if (r == 0 && meta_rec_unpack(p->ino, v.mv_data, v.mv_size, &old))
		totals_add(t, &old, -1);
	else if (r != 0 && r != MDB_NOTFOUND)
		return r;
	if (p->del) {
		r = r == 0 ? mdb_del(txn, m->index, &k, NULL) : 0;
		return r;
	}
	v.mv_size = p->len;
	v.mv_data = p->rec;
	if (meta_rec_unpack(p->ino, p->rec, p->len, &now))
		totals_add(t, &now, 1);
	return mdb_put(txn, m->index, &k, &v, 0);
}

static int state_write(struct meta *m, MDB_txn *txn, struct state *s)
{
	MDB_val k = { 5, (void *)"state" }, v = { sizeof(*s), s };

	s->sum = state_sum(s);
	return mdb_put(txn, m->state_db, &k, &v, 0);
}

static int flush_all(struct meta *m, MDB_txn *txn, struct pending **q, struct dead_intent *dead,
		     struct state *s)
{
	int r = 0;

	for (unsigned i = 0; i < META_QUEUE_HASH && r == 0; i++)
		for (struct pending *p = q[i]; p && r == 0; p = p->next)
			r = flush_one(m, txn, p, &s->totals);
	for (; dead && r == 0; dead = dead->next) {
		MDB_val k = { sizeof(dead->key), dead->key };

		r = mdb_del(txn, m->intents, &k, NULL);
		if (r == MDB_NOTFOUND)
			r = 0;
	}
	if (r == 0)
		r = state_write(m, txn, s);
	return r;
}

static void dead_free(struct dead_intent *d)
{
	while (d) {
		struct dead_intent *next = d->next;

		mem_free(d);
		d = next;
	}
}

/* The write lock is held: one transaction with the queue, without the intents in
 * @dead, and, if not NULL, with @put. */
static int commit(struct meta *m, struct intent *put, struct dead_intent *dead)
{
	struct pending **fresh = mem_calloc(META_QUEUE_HASH, sizeof(*fresh)), **q;
	struct state s;
	MDB_txn *txn;
	int r;

	if (!fresh)
		return -ENOMEM;
	lock_acquire(&m->lock);
	q = m->flushing = m->queue;
	m->queue = fresh;
	m->n_queue = 0;
	s = m->state;
	lock_release(&m->lock);
	r = mdb_txn_begin(m->env, NULL, 0, &txn);
	if (r == 0) {
		r = flush_all(m, txn, q, dead, &s);
		if (r == 0 && put) {
			uint8_t key[20];
			MDB_val k = { sizeof(key), key }, v = { sizeof(*put), put };

			memcpy(key, put->id, 16);
			memcpy(key + 16, &put->generation, 4);
			put->sum = intent_sum(put);
			r = mdb_put(txn, m->intents, &k, &v, 0);
		}
		if (r == 0)
			r = mdb_txn_commit(txn);
		else
			mdb_txn_abort(txn);
	}
	lock_acquire(&m->lock);
	m->flushing = NULL;
	if (r == 0)
		m->state.totals = s.totals;
	else
		m->failed = true;
	lock_release(&m->lock);
	queue_free(q);
	return meta_err(r);
}

/* Intents that have done their work. What they covered must be durable before
 * they go: LMDB's own sync need not commit the filesystem's journal. */
static struct dead_intent *take_dead(struct meta *m)
{
	struct dead_intent *dead;

	lock_acquire(&m->lock);
	dead = m->dead;
	m->dead = NULL;
	lock_release(&m->lock);
	if (dead && m->durable && m->durable(m->durable_arg) < 0) {
		dead_free(dead); /* recovery looks at them once more: harmless */
		dead = NULL;
	}
	return dead;
}

void meta_set_durable(struct meta *m, int (*durable)(void *arg), void *arg)
{
	m->durable = durable;
	m->durable_arg = arg;
}

int meta_flush(struct meta *m, bool sync)
{
	struct dead_intent *dead;
	int r;

	if (m->read_only)
		return 0;
	lock_acquire(&m->write_lock);
	dead = take_dead(m);
	r = commit(m, NULL, dead);
	lock_release(&m->write_lock);
	dead_free(dead);
	(void)sync; /* every commit is durable */
	return r;
}

void meta_totals(struct meta *m, struct meta_totals *ret)
{
	lock_acquire(&m->lock);
	*ret = m->state.totals;
	lock_release(&m->lock);
}

/* ---- intents -------------------------------------------------------------- */

/* An object's next intent has the key of its last one, which must not take the
 * new one along when it goes. */
static void revive(struct meta *m, const struct intent *i)
{
	struct dead_intent **p, *d;

	lock_acquire(&m->lock);
	p = &m->dead;
	while ((d = *p)) {
		if (memcmp(d->key, i->id, 16) == 0 && memcmp(d->key + 16, &i->generation, 4) == 0) {
			*p = d->next;
			mem_free(d);
		} else {
			p = &d->next;
		}
	}
	lock_release(&m->lock);
}

int meta_intent_put(struct meta *m, struct intent *i)
{
	int r;

	lock_acquire(&m->write_lock);
	revive(m, i);
	r = commit(m, i, NULL);
	lock_release(&m->write_lock);
	return r;
}

void meta_intent_del(struct meta *m, const struct object_id *id)
{
	struct dead_intent *d = mem_zalloc(sizeof(*d));

	if (!d)
		return; /* recovery will look at it once more: harmless */
	memcpy(d->key, id->id, 16);
	memcpy(d->key + 16, &id->generation, 4);
	lock_acquire(&m->lock);
	d->next = m->dead;
	m->dead = d;
	lock_release(&m->lock);
}

/* Walks one table; cb gets key and value. */
static int each(struct meta *m, MDB_dbi db, int (*cb)(void *arg, MDB_val *k, MDB_val *v), void *arg)
{
	MDB_cursor *cur;
	MDB_txn *txn;
	MDB_val k, v;
	int r = mdb_txn_begin(m->env, NULL, MDB_RDONLY, &txn), cr = 0;

	if (r)
		return meta_err(r);
	r = mdb_cursor_open(txn, db, &cur);
	if (r == 0) {
		while (cr == 0 && (r = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0)
			cr = cb(arg, &k, &v);
		if (r == MDB_NOTFOUND)
			r = 0;
		mdb_cursor_close(cur);
	}
	mdb_txn_abort(txn);
	return r ? meta_err(r) : cr;
}

struct each_arg {
	struct meta *m;
	int (*intent)(void *arg, const struct intent *i);
	bool (*rec)(void *arg, uint64_t ino, const struct meta_rec *r);
	void *arg;
};

static int intent_cb(void *arg, MDB_val *k, MDB_val *v)
{
	struct each_arg *a = arg;
	struct intent i;

	(void)k;
	if (v->mv_size != sizeof(i))
		return 0; /* damaged: acting on it could remove what is in use */
	memcpy(&i, v->mv_data, sizeof(i));
	i.name[NAME_MAX] = 0;
	if (i.handle_len > sizeof(i.handle) || intent_sum(&i) != i.sum)
		return 0;
	return a->intent(a->arg, &i);
}

int meta_each_intent(struct meta *m, int (*cb)(void *arg, const struct intent *i), void *arg)
{
	struct each_arg a = { .m = m, .intent = cb, .arg = arg };

	return each(m, m->intents, intent_cb, &a);
}

static int rec_cb(void *arg, MDB_val *k, MDB_val *v)
{
	struct each_arg *a = arg;
	struct meta_rec rec;
	uint64_t ino;

	if (k->mv_size != sizeof(ino))
		return 0;
	memcpy(&ino, k->mv_data, sizeof(ino));
	if (!meta_rec_unpack(ino, v->mv_data, v->mv_size, &rec)) {
		meta_unclean(a->m); /* no reason to miss the others */
		return 0;
	}
	return a->rec(a->arg, ino, &rec) ? 0 : 1;
}

int meta_each(struct meta *m, bool (*cb)(void *arg, uint64_t ino, const struct meta_rec *r),
	      void *arg)
{
	struct each_arg a = { .m = m, .rec = cb, .arg = arg };
	int r = each(m, m->index, rec_cb, &a);

	return r > 0 ? 0 : r;
}

/* ---- opening -------------------------------------------------------------- */

static int open_tables(struct meta *m)
{
	unsigned create = m->read_only ? 0 : MDB_CREATE;
	MDB_val k = { 5, (void *)"state" }, v;
	MDB_txn *txn;
	int r = mdb_txn_begin(m->env, NULL, m->read_only ? MDB_RDONLY : 0, &txn);

	if (r)
		return r;
	r = mdb_dbi_open(txn, "intents", create, &m->intents);
	if (r == 0)
		r = mdb_dbi_open(txn, "index", create | MDB_INTEGERKEY, &m->index);
	if (r == 0)
		r = mdb_dbi_open(txn, "state", create, &m->state_db);
	if (r) {
		mdb_txn_abort(txn);
		return r;
	}
	r = mdb_get(txn, m->state_db, &k, &v);
	if (r == 0 && v.mv_size == sizeof(m->state)) {
		memcpy(&m->state, v.mv_data, sizeof(m->state));
		if (state_sum(&m->state) != m->state.sum)
			memset(&m->state, 0, sizeof(m->state)); /* unclean: all is rebuilt */
	}
	r = mdb_txn_commit(txn);
	return r;
}

static int open_env(struct meta *m, int store_fd)
{
	unsigned flags = MDB_NOTLS | (m->read_only ? MDB_RDONLY | MDB_NOLOCK : 0);
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/meta", store_fd);
	r = mdb_env_create(&m->env);
	if (r)
		return r;
	mdb_env_set_maxdbs(m->env, 4);
	mdb_env_set_maxreaders(m->env, 256);
	mdb_env_set_mapsize(m->env, META_MAP_BYTES);
	r = mdb_env_open(m->env, path, flags, 0600);
	if (r != ENOMEM)
		return r;
	/* address space is limited: a smaller map holds some millions of files */
	mdb_env_close(m->env);
	m->env = NULL;
	r = mdb_env_create(&m->env);
	if (r)
		return r;
	mdb_env_set_maxdbs(m->env, 4);
	mdb_env_set_mapsize(m->env, META_MAP_SMALL);
	return mdb_env_open(m->env, path, flags, 0600);
}

int meta_open(int store_fd, uint64_t tree_ino, uint64_t fsid, bool read_only, struct meta **ret,
	      bool *ret_clean) NO_TSA
{
	struct meta *m = mem_zalloc(sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	lock_init(&m->lock);
	lock_init(&m->write_lock);
	m->read_only = read_only;
	m->queue = mem_calloc(META_QUEUE_HASH, sizeof(*m->queue));
	r = m->queue ? 0 : ENOMEM;
	if (r == 0)
		r = open_env(m, store_fd);
	if (r == 0)
		r = open_tables(m);
	if (r) {
		m->read_only = true; /* nothing to flush */
		meta_close(m, false);
		return meta_err(r);
	}
	m->same_tree = m->state.tree_ino == tree_ino && m->state.fsid == fsid;
	*ret_clean = m->state.clean == 1 && m->same_tree;
	m->state.tree_ino = tree_ino;
	m->state.fsid = fsid;
	*ret = m;
	return 0;
}

int meta_begin(struct meta *m)
{
	m->state.clean = 0;
	return meta_flush(m, true);
}

int meta_reset_index(struct meta *m)
{
	MDB_txn *txn;
	int r;

	lock_acquire(&m->write_lock);
	r = mdb_txn_begin(m->env, NULL, 0, &txn);
	if (r == 0) {
		r = mdb_drop(txn, m->index, 0);
		r = r ? (mdb_txn_abort(txn), r) : mdb_txn_commit(txn);
	}
	lock_acquire(&m->lock);
	if (r == 0)
		memset(&m->state.totals, 0, sizeof(m->state.totals));
	lock_release(&m->lock);
	lock_release(&m->write_lock);
	return meta_err(r);
}

void meta_close(struct meta *m, bool clean) NO_TSA
{
	if (!m)
		return;
	if (!m->read_only) {
		m->state.clean = clean && !m->failed;
		err_ignore(meta_flush(m, true)); /* unclean then: rebuilt at the next mount */
	}
	if (m->env)
		mdb_env_close(m->env);
	queue_free(m->queue);
	dead_free(m->dead);
	lock_fini(&m->lock);
	lock_fini(&m->write_lock);
	mem_free(m);
}
