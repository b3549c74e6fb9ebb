/* SPDX-License-Identifier: MIT */
/* Open handles are kept in a list so that an abrupt end (SIGTERM under
 * clients) can give everything back to the store. */
#include "fs/handle.h"

#include "base/mem.h"
#include "fs/contexts.h"

struct handle *handle_create(struct fs *fs, enum handle_kind kind)
{
	struct handle *h = mem_zalloc(sizeof(*h));

	if (!h)
		return NULL;
	h->kind = kind;
	lock_init(&h->lock);
	lock_acquire(&fs->lock);
	list_add_tail(&fs->handles, &h->link);
	lock_release(&fs->lock);
	return h;
}

static void handle_close(struct handle *h)
{
	if (h->file)
		store_release(h->file);
	if (h->dir)
		store_closedir(h->dir);
	contexts_close(h->contexts);
	sbuf_fini(&h->text);
	lock_fini(&h->lock);
	mem_free(h);
}

void handle_destroy(struct fs *fs, struct handle *h)
{
	lock_acquire(&fs->lock);
	list_del(&h->link);
	lock_release(&fs->lock);
	handle_close(h);
}

void handles_close_all(struct fs *fs)
{
	for (;;) {
		struct handle *h = NULL;

		lock_acquire(&fs->lock);
		if (!list_empty(&fs->handles)) {
			h = container_of(fs->handles.next, struct handle, link);
			list_del(&h->link);
		}
		lock_release(&fs->lock);
		if (!h)
			return;
		handle_close(h);
	}
}

void *scratch_take(struct fs *fs)
{
	void *buf = NULL;

	lock_acquire(&fs->lock);
	if (fs->n_scratch)
		buf = fs->scratch[--fs->n_scratch];
	lock_release(&fs->lock);
	return buf ? buf : mem_alloc_pages(FS_REQUEST_MAX);
}

void scratch_give(struct fs *fs, void *buf)
{
	lock_acquire(&fs->lock);
	if (fs->n_scratch < FS_SCRATCH_KEEP) {
		fs->scratch[fs->n_scratch++] = buf;
		buf = NULL;
	}
	lock_release(&fs->lock);
	mem_free_pages(buf, FS_REQUEST_MAX);
}

void scratch_fini(struct fs *fs)
{
	lock_acquire(&fs->lock);
	while (fs->n_scratch)
		mem_free_pages(fs->scratch[--fs->n_scratch], FS_REQUEST_MAX);
	lock_release(&fs->lock);
}
