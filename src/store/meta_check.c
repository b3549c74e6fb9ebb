/* SPDX-License-Identifier: MIT */
/*
 * LMDB trusts its file: a damaged page makes it follow wild pointers. So before
 * it opens the file, everything that it will rely on is checked here: the two
 * head pages, every page of every tree (its own number, bounds of its nodes, the
 * order of keys, the counts), and the list of free pages, which must share no
 * page with the trees. Read once, in order of the trees; the pages are then in
 * the page cache, where the mount wants them. What it cannot see, values with
 * flipped bits, the sums of meta.c find.
 *
 * The file format is LMDB's data version 1 (all of 0.9); another one is left to
 * LMDB to refuse.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "store/meta.h"

#define PAGE_HEAD 16u
#define NODE_HEAD 8u
#define P_BRANCH 0x01u
#define P_LEAF 0x02u
#define P_OVERFLOW 0x04u
#define P_META 0x08u
#define F_BIGDATA 0x01u
#define F_SUBDATA 0x02u
#define DB_INTEGERKEY 0x08u
#define DB_NONE UINT64_MAX
#define LMDB_MAGIC 0xBEEFC0DEu
#define DEPTH_MAX 32u
#define PAGE_MAX 65536u

/* As they lie in the file, in the byte order of the machine. */
struct page {
	uint64_t pgno;
	uint16_t pad, flags, lower, upper; /* lower, upper: uint32_t pages of an overflow */
};
struct node {
	uint16_t lo, hi, flags, ksize;
};
struct db {
	uint32_t pad;
	uint16_t flags, depth;
	uint64_t branch, leaf, overflow, entries, root;
};
struct head {
	uint32_t magic, version;
	uint64_t address, mapsize;
	struct db dbs[2]; /* free pages, named tables */
	uint64_t last_pg, txnid;
};
static_assert(sizeof(struct page) == PAGE_HEAD && sizeof(struct node) == NODE_HEAD &&
	      sizeof(struct db) == 48 && sizeof(struct head) == 136, "LMDB data version 1");

struct check {
	const uint8_t *map;
	uint64_t n_pages, last_pg;
	uint32_t ps;      /* page size */
	uint8_t *used;    /* one bit per page, owned */
};

struct tree {
	struct check *k;
	const struct db *db;
	uint64_t branch, leaf, overflow, entries;
	uint64_t key_len;
	uint8_t key[512]; /* the last key seen */
	bool has_key;
	bool (*value)(struct check *k, const uint8_t *p, uint64_t len, unsigned flags);
};

static bool take_page(struct check *k, uint64_t pg)
{
	if (pg < 2 || pg > k->last_pg || pg / 8 >= (k->last_pg + 8) / 8 ||
	    (k->used[pg / 8] & (1u << pg % 8)))
		return false;
	k->used[pg / 8] |= (uint8_t)(1u << pg % 8);
	return true;
}

static const uint8_t *page_at(struct check *k, uint64_t pg, struct page *ret)
{
	const uint8_t *p;

	if (pg >= k->n_pages || !take_page(k, pg))
		return NULL;
	p = k->map + pg * k->ps;
	memcpy(ret, p, sizeof(*ret));
	return ret->pgno == pg ? p : NULL;
}

/* Keys grow strictly, by the table's order. */
static bool next_key(struct tree *t, const uint8_t *key, uint64_t len)
{
	int c = -1;

	if (len > sizeof(t->key) || ((t->db->flags & DB_INTEGERKEY) && len != 8))
		return false;
	if (t->has_key && (t->db->flags & DB_INTEGERKEY)) {
		uint64_t a, b;

		memcpy(&a, t->key, 8);
		memcpy(&b, key, 8);
		c = a < b ? -1 : 1;
	} else if (t->has_key) {
		c = memcmp(t->key, key, (size_t)(len < t->key_len ? len : t->key_len));
		if (c == 0)
			c = t->key_len < len ? -1 : 1;
	}
	memcpy(t->key, key, (size_t)len);
	t->key_len = len;
	t->has_key = true;
	return c < 0;
}

static bool leaf_node(struct tree *t, const uint8_t *p, const struct node *n, uint64_t len)
{
	const uint8_t *key = p + NODE_HEAD, *data = key + n->ksize;
	struct page o;
	uint64_t pg;
	uint32_t pages;

	t->entries++;
	if (!next_key(t, key, n->ksize) || (n->flags & ~(F_BIGDATA | F_SUBDATA)))
		return false;
	if (!(n->flags & F_BIGDATA))
		return t->value(t->k, data, len, n->flags);
	memcpy(&pg, data, sizeof(pg));
	data = page_at(t->k, pg, &o);
	if (!data || o.flags != P_OVERFLOW)
		return false;
	memcpy(&pages, data + offsetof(struct page, lower), sizeof(pages));
	if (pages == 0 || pages > t->k->n_pages - pg ||
	    len > (uint64_t)pages * t->k->ps - PAGE_HEAD)
		return false;
	for (uint32_t i = 1; i < pages; i++)
		if (!take_page(t->k, pg + i))
			return false;
	t->overflow += pages;
	return t->value(t->k, data + PAGE_HEAD, len, n->flags);
}

static bool walk_page(struct tree *t, uint64_t pg, unsigned depth);

/* Bytes of the node at @off, or 0 when it leaves its page. */
static uint32_t node_bytes(struct tree *t, const uint8_t *p, const struct page *h, uint32_t off,
			   struct node *ret)
{
	uint64_t need;

	if (off < h->upper || off % 2 || off + NODE_HEAD > t->k->ps)
		return 0;
	memcpy(ret, p + off, sizeof(*ret));
	need = NODE_HEAD + ret->ksize;
	if (h->flags == P_LEAF)
		need += (ret->flags & F_BIGDATA) ? 8 : ret->lo | (uint64_t)ret->hi << 16;
	need += need & 1;
	return need <= t->k->ps - off ? (uint32_t)need : 0;
}

static bool walk_node(struct tree *t, const uint8_t *p, const struct page *h, unsigned i,
		      unsigned depth, uint8_t *taken, uint32_t *ret_bytes)
{
	uint64_t low;
	struct node n;
	uint16_t off;
	uint32_t bytes;

	memcpy(&off, p + PAGE_HEAD + 2 * i, sizeof(off));
	bytes = node_bytes(t, p, h, off, &n);
	if (!bytes)
		return false;
	for (uint32_t at = off / 2; at < (off + bytes) / 2; at++) {
		if (taken[at / 8] & (1u << at % 8))
			return false;
		taken[at / 8] |= (uint8_t)(1u << at % 8);
	}
	*ret_bytes += bytes;
	low = n.lo | (uint64_t)n.hi << 16;
	if (h->flags == P_LEAF)
		return leaf_node(t, p + off, &n, low);
	return walk_page(t, low | (uint64_t)n.flags << 32, depth + 1);
}

/* Recursion is bounded by the depth that the table's head names. */
static bool walk_page(struct tree *t, uint64_t pg, unsigned depth)
{
	uint8_t taken[PAGE_MAX / 16];
	struct page h;
	const uint8_t *p = page_at(t->k, pg, &h);
	unsigned want = depth == t->db->depth ? P_LEAF : P_BRANCH;
	uint32_t n, bytes = 0;

	if (!p || h.flags != want || h.lower < PAGE_HEAD || h.lower > h.upper ||
	    h.upper > t->k->ps || h.lower % 2)
		return false;
	n = (h.lower - PAGE_HEAD) / 2;
	if (n == 0 || (want == P_BRANCH && n < 2))
		return false;
	memset(taken, 0, t->k->ps / 16);
	for (uint32_t i = 0; i < n; i++)
		if (!walk_node(t, p, &h, i, depth, taken, &bytes))
			return false;
	if (want == P_LEAF)
		t->leaf++;
	else
		t->branch++;
	return bytes == t->k->ps - h.upper;
}

static bool walk_tree(struct tree *t)
{
	const struct db *d = t->db;

	if (d->root == DB_NONE)
		return d->depth == 0 && d->entries == 0;
	return d->depth > 0 && d->depth <= DEPTH_MAX && walk_page(t, d->root, 1) &&
	       t->branch == d->branch && t->leaf == d->leaf && t->overflow == d->overflow &&
	       t->entries == d->entries;
}

static bool value_plain(struct check *k, const uint8_t *p, uint64_t len, unsigned flags)
{
	(void)k;
	(void)p;
	(void)len;
	return !(flags & F_SUBDATA);
}

/* A named table: its head is the value. */
static bool value_table(struct check *k, const uint8_t *p, uint64_t len, unsigned flags)
{
	struct db d;
	struct tree t = { .k = k, .db = &d, .value = value_plain };

	if (flags != F_SUBDATA || len != sizeof(d))
		return false;
	memcpy(&d, p, sizeof(d));
	return !(d.flags & ~DB_INTEGERKEY) && walk_tree(&t);
}

/* Pages free since one transaction: a count, then numbers that fall. */
static bool value_free(struct check *k, const uint8_t *p, uint64_t len, unsigned flags)
{
	uint64_t n, pg, last = UINT64_MAX;

	if ((flags & F_SUBDATA) || len < 8)
		return false;
	memcpy(&n, p, sizeof(n));
	if (n > len / 8 - 1)
		return false;
	for (uint64_t i = 1; i <= n; i++, last = pg) {
		memcpy(&pg, p + 8 * i, sizeof(pg));
		if (pg >= last || !take_page(k, pg))
			return false;
	}
	return true;
}

static bool head_at(const struct check *k, uint64_t pg, struct head *ret)
{
	const uint8_t *p = k->map + pg * k->ps;
	struct page h;

	memcpy(&h, p, sizeof(h));
	memcpy(ret, p + PAGE_HEAD, sizeof(*ret));
	return h.pgno == pg && (h.flags & P_META) && ret->magic == LMDB_MAGIC &&
	       ret->dbs[0].pad == k->ps;
}

static bool check_all(struct check *k)
{
	struct head a, b;
	struct head *h;
	struct tree free_tree = { .k = k, .value = value_free };
	struct tree main_tree = { .k = k, .value = value_table };
	bool ok;

	if (!head_at(k, 0, &a) || !head_at(k, 1, &b))
		return false;
	h = a.txnid >= b.txnid ? &a : &b;
	if (h->last_pg < 1 || h->last_pg > (1ull << 40) / k->ps || (h->dbs[0].flags & 0xff) != 8 ||
	    (h->dbs[1].flags & 0xff) != 0)
		return false;
	if (h->version != 1)
		return true; /* LMDB refuses it */
	k->last_pg = h->last_pg;
	k->used = mem_zalloc((size_t)(k->last_pg / 8 + 1));
	if (!k->used)
		return false;
	free_tree.db = &h->dbs[0];
	main_tree.db = &h->dbs[1];
	ok = walk_tree(&main_tree) && walk_tree(&free_tree);
	mem_free(k->used);
	return ok;
}

static int check_fd(int fd)
{
	struct check k = { .ps = (uint32_t)sysconf(_SC_PAGESIZE) };
	struct stat sb;
	void *map;
	bool ok;

	if (fstat(fd, &sb) < 0)
		return -errno;
	if (sb.st_size == 0)
		return 0; /* LMDB makes it anew */
	if (k.ps > 32768) /* LMDB's largest */
		k.ps = 32768;
	k.n_pages = (uint64_t)sb.st_size / k.ps;
	if (k.n_pages < 2)
		return -KVFS_EFORMAT;
	map = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	k.map = map;
	ok = check_all(&k);
	munmap(map, (size_t)sb.st_size);
	return ok ? 0 : -KVFS_EFORMAT;
}

int meta_check(int store_fd)
{
	int dir, fd, r;

	dir = openat(store_fd, "meta", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	fd = io_open_regular(dir, "data.mdb", O_RDONLY, 0);
	io_close(&dir);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	r = check_fd(fd);
	io_close(&fd);
	return r;
}
