/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_FAKE_STORE_H
#define KVCACHEFS_TESTS_FAKE_STORE_H
/*
 * A test double of store/store.h: a plain directory, handed through, without
 * sealing, budgets or durability. With it src/fs is tested alone: what fails
 * here is the FUSE layer's fault. KVCACHEFS_FAKE_CONTEXTS=N makes N contexts up.
 */
#include <dirent.h>

#include "base/list.h"
#include "base/lock.h"
#include "store/store.h"

#define FAKE_BUCKETS 4096u

struct node {
	struct node *chain; /* same bucket; under store.lock */
	uint64_t refs;      /* under store.lock */
	dev_t dev;
	ino_t ino;
	int fd; /* owned, O_PATH */
	bool pinned;
	/* Passthrough: one backing for all opens of the node; under store.lock. */
	unsigned backing_users;
	int backing_fd, backing_id;
};

struct store {
	struct lock lock;
	struct log *log;
	const struct store_kernel_ops *k;
	void *karg;
	struct node root;
	struct node *bucket[FAKE_BUCKETS];
	uint64_t nodes;
	_Atomic uint64_t opens;
	uint64_t dram_limit, ssd_limit;
	unsigned paths;
	bool read_only;
	char *path;
	struct scrub_status scrub;
};

struct file {
	struct store *st;
	struct node *node;
	int fd;
	enum serve_mode mode;
};

struct dirh {
	struct store *st;
	struct node *node; /* referenced by the open in the kernel */
	DIR *d;
	uint64_t pos; /* where d stands */
};

/* fake_names.c: "/proc/self/fd/N" of a node. */
void fake_path(const struct node *n, char buf[40]);
/* A referenced node for @name in @dir. */
WUR int fake_node_at(struct store *st, struct node *dir, const char *name, struct node **ret,
		     struct stat *ret_attr);
/* errno after a call that returned @r. */
WUR int fake_err(int r);

#endif
