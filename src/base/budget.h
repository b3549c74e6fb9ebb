/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_BUDGET_H
#define KVCACHEFS_BASE_BUDGET_H
/*
 * One hard limit of bytes shared by several users (the dram= option). Every
 * byte held for data is taken here first, so the sum can never pass the limit.
 * Lock-free; never blocks, never calls out: making room is the caller's job
 * (store/evict), because only it knows what is worth least.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum budget_use {
	BUDGET_REPLICA, /* encoded copies in DRAM */
	BUDGET_COPY,    /* decoded copies on the private tmpfs */
	BUDGET_WINDOW,  /* decoded chunks of streaming readers */
	BUDGET_BUFFER,  /* I/O and encode buffers */
	BUDGET_TABLE,   /* nodes, open files, indexes of loaded objects */
	BUDGET_USES_
};

struct budget {
	_Atomic uint64_t limit_bytes;
	_Atomic uint64_t used_bytes; /* sum over all uses */
	_Atomic uint64_t use_bytes[BUDGET_USES_];
	_Atomic uint64_t peak_bytes;
};

void budget_init(struct budget *b, uint64_t limit_bytes);
/* 0, or -KVFS_EBUDGET with nothing taken. */
WUR int budget_take(struct budget *b, enum budget_use u, uint64_t bytes);
/* Takes even beyond the limit: only for what must exist (table entries the
 * kernel already refers to); whoever calls it must make room soon. */
void budget_force(struct budget *b, enum budget_use u, uint64_t bytes);
void budget_give(struct budget *b, enum budget_use u, uint64_t bytes);
uint64_t budget_used(const struct budget *b);
uint64_t budget_limit(const struct budget *b);
uint64_t budget_free(const struct budget *b); /* 0 when over */
/* What must be given before @bytes are free; what is over the limit counts. */
uint64_t budget_short(const struct budget *b, uint64_t bytes);
const char *budget_use_name(enum budget_use u);

#endif
