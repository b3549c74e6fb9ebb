/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_READ_H
#define KVCACHEFS_STORE_READ_H
/*
 * Reading sealed content. A request is cut into chunks; each chunk's decoded
 * bytes come from the window (decoded lately), else are decoded from the
 * replica in DRAM, else from the object on SSD. One decode serves everybody who
 * asks for the same chunk meanwhile. A sequential reader is recognised at its
 * second request; from then on the next chunks are fetched and decoded ahead.
 *
 *   reader_read -> window_get -> replica | fetch (tier_submit, verify) -> decode
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/budget.h"
#include "base/err.h"
#include "base/workers.h"
#include "codecs/codec.h"
#include "store/object.h"
#include "store/rates.h"
#include "store/replica.h"
#include "store/store.h"
#include "tiers/tier.h"

struct reader; /* the machinery: window, buffers, codec contexts; one per store */

struct reader_config {
	struct budget *budget;     /* borrowed */
	struct workers *workers;   /* borrowed */
	struct tier_io *ssd;       /* borrowed */
	uint64_t window_bytes;     /* most that decoded chunks may hold (BUDGET_WINDOW) */
	uint64_t buffer_bytes;     /* most that encoded fetch buffers may hold (BUDGET_BUFFER) */
	unsigned ahead_chunks;     /* depth of decode-ahead */
	struct rates *rates;       /* borrowed; NULL: nobody asks how fast it decodes */
};
/* Takes 6 MiB (small windows) to 24 MiB of the budget at once, so that reading goes
 * on when others have used up the rest. Beyond a full budget it may take 4 MiB or a
 * sixteenth of it for decoding on several threads and, where windows are small, once 10 MiB
 * for chunks over 1 MiB. -ENOMEM, -KVFS_EBUDGET. */
WUR int reader_create(const struct reader_config *cfg, struct reader **ret);
/* No call may be running; waits for what was fetched ahead, so workers and ssd
 * must still be there. NULL ok. */
void reader_destroy(struct reader *r);

/* What is read: valid while the caller holds the context's gate shared. */
struct read_source {
	struct object *obj;   /* borrowed for the call; the window takes references */
	struct replica *rep;  /* borrowed; NULL when not in DRAM */
	uint64_t valid_bytes; /* object bytes from here on read as zeros */
	unsigned n_layers;    /* level + 1 to decode; all: obj->n_layers_max */
};
/* Per open file; zero-initialised; updated without a lock (racing readers only
 * blunt the prediction). */
struct read_state {
	_Atomic uint64_t next_off; /* where a sequential reader goes on */
	_Atomic uint32_t streak;   /* sequential requests in a row */
	_Atomic uint64_t total;    /* bytes delivered, for whole_reads */
	_Atomic uint32_t ahead_to; /* chunks before this one were started ahead */
};

/*
 * Fills @ret (see struct read_reply) with [off, off+len) cut at @size, the
 * file's logical size (beyond the object's bytes: zeros). Slices are pinned
 * until reader_done. -KVFS_ECHECKSUM, -KVFS_ECODEC, -KVFS_ETRUNCATED when the
 * chunk at @off is damaged; damage further on cuts the reply short before it.
 * -ENOMEM, -errno of the device. Damage in the replica alone is not seen: the
 * object is read instead.
 */
WUR int reader_read(struct reader *r, const struct read_source *src, struct read_state *rs,
		    uint64_t off, size_t len, uint64_t size, struct read_reply *ret);
void reader_done(struct reader *r, struct read_reply *ret);

/* Plain copy-out of a range (overlay edges, unseal, copy_range); uses
 * the window but no prediction. 0 when all was read. */
WUR int reader_copy(struct reader *r, const struct read_source *src, uint64_t off, void *buf,
		    size_t len);

/* For who need not be fast. */
struct read_pace {
	const _Atomic bool *cancel; /* stops it: -KVFS_ECANCELED; NULL: nothing does */
	bool alone; /* the calling thread, at its priority, with few reads ahead */
};
/*
 * Decodes the whole object into @dst (mmap of a copy, dst_len = size, any
 * alignment) on the calling thread and idle workers, fetching from SSD what the
 * replica lacks, with deep queue; @pace NULL: like that.
 */
WUR int reader_decode_all(struct reader *r, const struct read_source *src, void *dst,
			  uint64_t size, const struct read_pace *pace);

/* Fetches the first @n_layers layers of chunk @chunk of @obj, checks and decodes them
 * into @buf (its decoded length), whatever window and replicas hold. As reader_read. */
WUR int reader_verify(struct reader *r, const struct object *obj, uint32_t chunk,
		      unsigned n_layers, void *buf);

/* Fetches its layers [@first, @n_layers), checks them and hands the stored bytes to @take, valid
 * during the call; in[] of those before @first is undefined. Its result is the result. */
WUR int reader_stored(struct reader *r, const struct object *obj, uint32_t chunk,
		      unsigned first, unsigned n_layers,
		      int (*take)(void *arg, unsigned codec, const struct codec_in in[], unsigned n),
		      void *arg);

/* Drops what the window holds of @obj (it was unsealed or removed). */
void reader_forget(struct reader *r, const struct object *obj);
/* Gives window memory back until @bytes are free in the budget, or nothing more can go. */
void reader_shrink(struct reader *r, uint64_t bytes);

struct reader_stats {
	uint64_t decodes, decoded_bytes, window_hits, joined; /* joined: waited for another's decode */
	uint64_t fetches, fetched_bytes, ahead, ahead_unused, checksum_errors;
	double decode_Bps; /* moving average of one thread */
};
void reader_stats(struct reader *r, struct reader_stats *ret);

#endif
