/* SPDX-License-Identifier: MIT */
/*
 * io_uring as far as a reader needs it, by system calls (no liburing): up to 32 reads
 * in flight, into a registered buffer (READ_FIXED). Where the kernel or a sandbox
 * refuses rings, pread.
 */
#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "replay.h"

#define DEPTH 32u

struct ring {
	int fd;
	struct io_uring_params p;
	uint8_t *sq, *cq; /* one mapping (FEAT_SINGLE_MMAP) */
	size_t len;
	struct io_uring_sqe *sqes;
};

static uint32_t *word(uint8_t *base, uint32_t off)
{
	return (uint32_t *)(void *)(base + off);
}

static bool ring_init(const struct replay *r, struct ring *g)
{
	size_t sq, cq;

	*g = (struct ring){ .fd = -1 };
	g->fd = (int)syscall(SYS_io_uring_setup, DEPTH, &g->p);
	if (g->fd < 0)
		return false;
	MUST(r, g->p.features & IORING_FEAT_SINGLE_MMAP);
	sq = g->p.sq_off.array + g->p.sq_entries * 4u;
	cq = g->p.cq_off.cqes + g->p.cq_entries * sizeof(struct io_uring_cqe);
	g->len = sq > cq ? sq : cq;
	g->sq = g->cq = mmap(NULL, g->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, g->fd,
			     IORING_OFF_SQ_RING);
	MUST(r, g->sq != MAP_FAILED);
	g->sqes = mmap(NULL, g->p.sq_entries * sizeof(*g->sqes), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, g->fd, IORING_OFF_SQES);
	MUST(r, g->sqes != MAP_FAILED);
	return true;
}

static void ring_fini(struct ring *g)
{
	munmap(g->sqes, g->p.sq_entries * sizeof(*g->sqes));
	munmap(g->sq, g->len);
	close(g->fd);
}

static void ring_put(struct ring *g, int fd, bool fixed, char *buf, size_t len, uint64_t off)
{
	uint32_t *tail = word(g->sq, g->p.sq_off.tail), at = *tail & (g->p.sq_entries - 1);

	g->sqes[at] = (struct io_uring_sqe){ .opcode = fixed ? IORING_OP_READ_FIXED
							     : IORING_OP_READ,
					     .fd = fd,
					     .off = off,
					     .addr = (uintptr_t)buf,
					     .len = (uint32_t)len,
					     .user_data = len };
	word(g->sq, g->p.sq_off.array)[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
}

/* Takes what is there; each must have done the whole. */
static uint32_t ring_reap(const struct replay *r, struct ring *g)
{
	uint32_t *head = word(g->cq, g->p.cq_off.head), n = 0;
	const struct io_uring_cqe *cqes = (const void *)(g->cq + g->p.cq_off.cqes);

	while (*head != __atomic_load_n(word(g->cq, g->p.cq_off.tail), __ATOMIC_ACQUIRE)) {
		const struct io_uring_cqe *c = &cqes[*head & (g->p.cq_entries - 1)];

		errno = c->res < 0 ? -c->res : 0;
		MUST(r, c->res == (int32_t)c->user_data);
		__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
		n++;
	}
	return n;
}

void ring_read(const struct replay *r, int fd, char *buf, size_t len, size_t part)
{
	struct iovec whole = { buf, len };
	uint32_t flying = 0;
	struct ring g;
	bool fixed;

	if (!ring_init(r, &g)) {
		for (size_t at = 0; at < len; at += part) {
			size_t n = len - at < part ? len - at : part;

			MUST(r, pread(fd, buf + at, n, (off_t)at) == (ssize_t)n);
		}
		return;
	}
	fixed = !syscall(SYS_io_uring_register, g.fd, IORING_REGISTER_BUFFERS, &whole, 1);
	for (size_t at = 0; at < len || flying;) {
		uint32_t n = 0;

		for (; at < len && flying + n < DEPTH; n++, at += part)
			ring_put(&g, fd, fixed, buf + at, len - at < part ? len - at : part, at);
		flying += n;
		MUST(r, syscall(SYS_io_uring_enter, g.fd, n, 1, IORING_ENTER_GETEVENTS, NULL, 0) ==
				(long)n);
		flying -= ring_reap(r, &g);
	}
	ring_fini(&g);
}
