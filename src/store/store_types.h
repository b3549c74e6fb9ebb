/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_STORE_TYPES_H
#define KVCACHEFS_STORE_STORE_TYPES_H
/* Bodies shared by the files of store/. Nobody outside includes this. */
#include <pthread.h>
#include <stdatomic.h>

#include "base/budget.h"
#include "base/lock.h"
#include "base/workers.h"
#include "store/copy.h"
#include "store/ctx.h"
#include "store/cold_load.h"
#include "store/meta.h"
#include "store/node.h"
#include "store/read.h"
#include "store/stats.h"
#include "store/store.h"
#include "tiers/tier.h"

/* Files smaller than this are not sealed. */
#define SEAL_MIN_BYTES 65536u
#define SEAL_MAX_BYTES (1ull << 40)
#define STORE_BLOCK 4096u
/* Whole readers are expected until others have been seen. */
#define STORE_WHOLE_BIAS 4

/* An object to be removed if the walk over tree/ finds no record of it (orphan.c). */
struct orphan {
	struct object_id id;
	char trash[24]; /* its name in trash/, or "" */
	bool used;
};
struct orphans {
	struct orphan *v; /* owned */
	size_t n;
};

struct ctx_table {
	struct lock lock;
	struct list *hash;   /* lock; n_hash lists */
	unsigned n_hash;
	unsigned count;      /* lock */
	struct list lru;     /* lock: contexts in DRAM, coldest first */
	struct list kept;    /* lock: n_kept closed ones with objects, first closed first */
	unsigned n_kept;     /* lock */
	unsigned max_kept;
};

/* Runs after everything done so far is durable, or after that failed with
 * @result < 0: then only to give back what it holds (commit.c). May free a. */
struct after {
	struct list link;
	void (*run)(struct store *st, struct after *a, int result);
};
struct committer {
	struct lock lock;
	struct cond wake, done;
	struct list queue;   /* lock */
	uint64_t asked, finished; /* lock: barrier generations */
	uint64_t failed_upto; /* lock: last generation of the last barrier that failed */
	int failure;         /* lock: of that barrier */
	unsigned flips;      /* of the barrier file's size; only inside a barrier */
	bool stop;           /* lock */
	bool running;
	pthread_t thread;
};

/* A directory of which it is known that neither it nor one above grants anything. */
struct grant_none {
	uint64_t ino, age;
};
#define GRANT_NONE_SLOTS 256u
struct trace; /* trace.h */
struct trace_rec;
struct grants {
	struct lock lock;
	uint64_t age GUARDED; /* lock: what was remembered before this is void */
	struct grant_none none[GRANT_NONE_SLOTS]; /* lock */
};

struct adapt;
struct reprofile;
/* level_quality.c: what readers measured. */
struct models {
	struct lock lock; /* leaf */
	struct reprofile *known GUARDED; /* lock */
};
struct sealer {
	struct lock lock;
	struct cond wake;
	struct cond left;    /* a seal is no longer in progress */
	struct list queue;   /* lock: contexts by due time */
	unsigned n_queue;    /* lock */
	unsigned running;    /* lock: jobs of the queue, until they are durable */
	unsigned stuck;      /* lock: of them, waiting for a gate at the end */
	unsigned active;     /* lock: seals in progress, the queue's and others */
	unsigned limit;      /* of both */
	uint64_t *feed;      /* lock: to be queued as the queue gets short; owned */
	size_t n_feed;       /* lock: left of them, from the front */
	bool stop;           /* lock */
	bool drain;          /* lock: everything is due */
	unsigned pressed;    /* lock: writers waiting for room */
	uint64_t ended;      /* lock: seals that ended, well or not */
	uint64_t sealed;     /* lock: of them, well */
	bool started;
	pthread_t thread;
};

enum fs_type { FS_OTHER, FS_EXT4, FS_XFS, FS_BTRFS };

struct store {
	struct store_config cfg; /* path and policy are owned copies */
	struct log *log;
	int store_fd, tree_fd, objects_fd, trash_fd, damaged_fd, lock_fd, barrier_fd;
	bool read_only, privileged;
	bool fresh;             /* made by this mount */
	bool clean;             /* the index was trustworthy at open */
	uint64_t begun_ns;      /* CLOCK_REALTIME at open */
	enum fs_type fs_type;
	bool ordered;           /* its metadata become durable in the order of the changes */
	const char *xattr;      /* the record's name */
	char uuid[40];

	struct budget dram;
	struct arena *arena;
	struct copy_pool *copies; /* NULL when there can be none */
	struct tier_io *ssd;
	struct workers *workers;
	struct reader *reader;
	struct meta *meta;
	struct node_table *nodes;

	const struct store_kernel_ops *k; /* NULL before store_start */
	void *karg;
	unsigned paths;         /* enum path_bits in force */

	struct orphans orphans;      /* filled by recovery, settled by the walk after it */
	_Atomic uint64_t renames;    /* names moved since the mount */

	struct gate names;           /* changes of names: see remove.c */
	struct ctx_table ctxs;
	struct committer commit;
	struct sealer seal;
	struct grants grants;        /* grant.c */
	struct models models;        /* level_quality.c */

	_Atomic uint64_t ssd_used, ssd_limit;
	_Atomic uint64_t ssd_reserved; /* of ssd_used: asked for and not yet released */
	_Atomic uint64_t ssd_beside;   /* of ssd_used: in damaged/, which is in no index */
	const struct policy_ops *policy;
	_Atomic bool pruning;
	_Atomic uint64_t prune_after_ns;
	size_t prune_cursor;    /* only by who set pruning */
	_Atomic unsigned n_lost; /* contexts with lost_held */
	_Atomic unsigned moves; /* replicas being made in the background */
	/* CLOCK_MONOTONIC: until then the kernel likely reads copies for somebody, unseen */
	_Atomic uint64_t passing_until_ns;
	_Atomic uint64_t uses;       /* store_uses() */
	_Atomic int whole_bias; /* > 0: readers read files from start to end: open.c */
	_Atomic unsigned looks; /* opens decided without history */
	struct rates rates;           /* measured: what the policy counts with */
	struct adapt *adapt;          /* adapt.h; NULL under policies that do not plan */
	struct cold_loads cold;       /* from SSD: copies or streams */
	_Atomic bool preparing; /* pages for a decoded copy, in the background */
	_Atomic uint64_t reserve_ns; /* CLOCK_MONOTONIC: when so many were last asked for */
	_Atomic uint64_t made_bytes; /* of copies that opens have made, while they are open */

	struct lock tick_lock;
	struct cond tick_wake;
	bool tick_stop;         /* tick_lock */
	bool tick_started;
	pthread_t tick_thread;  /* flushes the index, polls passthrough writers */
	struct lock evict_lock; /* one eviction pass at a time; held across I/O by design */
	uint64_t pins_bytes, pins_ns; /* evict_lock: what pins hold, summed then (CLOCK_MONOTONIC) */
	struct lock scrub_lock;
	struct scrub_status scrub; /* scrub_lock */
	bool scrub_started;        /* scrub_lock */
	pthread_t scrub_tid;
	_Atomic bool stopping;       /* background jobs end */
	_Atomic bool stopping_seals; /* seals in progress give up */

	struct trace *trace;         /* NULL: accesses are not recorded */

	_Atomic uint64_t counters[CNT_N_];
};

struct file {
	struct store *st;
	struct ctx *ctx;     /* one reference */
	struct node *node;   /* one reference */
	int flags;           /* of open(2) */
	enum serve_mode mode;
	bool writes;         /* opened for writing */
	bool wrote;          /* wrote through us */
	bool in_memory;      /* where the open has found its content; what it makes comes later */
	bool from_ssd;       /* a whole file that lay only on SSD, to be timed: cold_load.h */
	unsigned layers;     /* that it reads; valid when from_ssd */
	uint64_t opened_ns;  /* CLOCK_MONOTONIC */
	uint64_t decoding_ns; /* of opening it, for its copy */
	uint64_t made_bytes; /* of the decoded copy that it has made; 0: none */
	uint64_t copied_ns;  /* its decoded copy was there so long after; 0: none made */
	struct read_state rs;
	struct trace_rec *trace; /* owned; NULL: not recorded */
	_Atomic uint64_t read_ns; /* CLOCK_MONOTONIC of the last read, when recorded */
};

/* Grows with every use of the mount that the daemon sees: opens as they begin and end, what it
 * reads and writes for clients, what writers served by the kernel wrote (watch.c), seals. */
static inline uint64_t store_uses(struct store *st)
{
	return atomic_load(&st->uses) + atomic_load(&st->counters[CNT_READ_BYTES]) +
	       atomic_load(&st->counters[CNT_WRITE_BYTES]) + atomic_load(&st->counters[CNT_SEALED]);
}
static inline void store_count(struct store *st, enum store_counter c, uint64_t n)
{
	atomic_fetch_add_explicit(&st->counters[c], n, memory_order_relaxed);
}

/* ctx.c */
/* The context of @ino with a reference; made when absent unless !create
 * (then -ENOENT). -ENOMEM. */
WUR int ctx_get(struct store *st, uint64_t ino, bool create, struct ctx **ret);
void ctx_ref(struct ctx *c);
void ctx_put(struct ctx *c);
/* The file is gone for good: gives everything back and takes the context out of
 * the table, because its inode number may come again. */
void ctx_gone(struct ctx *c);
void ctx_gone_locked(struct ctx *c); /* gate exclusive */
/* Enters the gate, exclusive. -ESTALE, and not entered, when the last name and the
 * last user of the file are gone: nothing may be done to it any more. */
WUR int ctx_enter(struct ctx *c);
/* Its last name is about to go: from here on only who has it open uses it. False
 * when somebody else has said so. Gate exclusive. */
WUR bool ctx_leave_begin(struct ctx *c);
/* It is @gone, or stays. True when nobody has it open, so that the caller
 * finishes what the last close would have done; else that will. */
WUR bool ctx_leave_end(struct ctx *c, bool gone);
WUR int ctx_table_init(struct ctx_table *t);
void ctx_table_fini(struct store *st); /* drops replicas and copies */
/* load.c. Opens the tree file and reads the record if that was not done yet; @n
 * says where. Gate exclusive. */
WUR int ctx_load_locked(struct ctx *c, struct node *n);
/* Notes in the record where the stand-in has data, if that changed: copies of the
 * store go by it. Gate exclusive, file not in use. */
void load_note_map(struct ctx *c);
/* Loads the object of a sealed context. Gate exclusive. -code marks damage. */
WUR int ctx_object_locked(struct ctx *c);
/* object_open that makes room for the tables in the memory budget. */
WUR int ctx_object_open(struct ctx *c, const struct object_id *id, struct object **ret);
/* Changes rec and state, under the gate and the lock. */
void ctx_set_record(struct ctx *c, const struct kvfs_record *r);
/* Accounts what the file occupies now (@sb of its tree file). */
void ctx_account(struct ctx *c, const struct stat *sb);
void ctx_account_gone(struct ctx *c);
/*
 * A write or fsync of the file failed: fsync says so until the content is given up,
 * whoever closes and opens the file between. So the context stays, with a
 * reference of its own, for as long as that; beyond CTX_LOST_MAX files at once, only
 * while the file is in use.
 */
#define CTX_LOST_MAX 4096u
void ctx_lose(struct ctx *c);
/* Its content goes: cut to nothing or removed. The caller has a reference, too. */
void ctx_lose_end(struct ctx *c);
/* Marks use: newest in the LRU, hits and heat when @hit. */
void ctx_touch(struct ctx *c, bool hit);
/* Something in DRAM went: out of the LRU when that was all; else its place stays. */
void ctx_cooled(struct ctx *c);
/* The coldest contexts that hold DRAM, with references; @cb false stops. False when
 * there are none. */
/* The same for those used last, the coldest of them first. */
void ctx_recent(struct store *st, bool (*cb)(struct ctx *c, void *arg), void *arg);
bool ctx_coldest(struct store *st, bool (*cb)(struct ctx *c, void *arg), void *arg);
/* Calls @cb for every context with a reference held. */
void ctx_each(struct store *st, bool (*cb)(struct ctx *c, void *arg), void *arg);
void ctx_reason(struct ctx *c, const char *why);

/* idle.c */
/* Closes the descriptor when nobody needs it, and the object beyond what the limit of
 * open files allows. Waits for the gate; _try, for who must not wait, does nothing while
 * it is taken: whoever holds it uses the context then. */
void ctx_idle(struct ctx *c);
void ctx_idle_try(struct ctx *c);
/* Around work that leaves the gate and comes back to the same object: nobody's close
 * takes it away meanwhile (changes of the content still do). */
void ctx_work_begin(struct ctx *c);
void ctx_work_end(struct ctx *c);
/* No descriptor was to be had: closes what closed contexts keep. False: nothing. */
bool ctx_spare_fds(struct store *st);
unsigned ctx_kept_max(void);
void ctx_unkeep_locked(struct ctx_table *t, struct ctx *c) REQUIRES(&t->lock);

/* attr.c */
/* stat of what is at @at, adjusted by the record. ret_rec may be NULL. */
WUR int attr_at(struct store *st, struct node *n, const struct at *at, struct stat *ret);
WUR int attr_node(struct store *st, struct node *n, struct stat *ret);
void attr_apply(const struct kvfs_record *rec, struct stat *sb);
/* A change of metadata makes the tree's ctime count again. */
void attr_ctime_live(struct store *st, struct node *n);

/* remove.c: store_unlink of this very inode, only when nobody uses it and it has
 * no other name, never waiting for who does: -EBUSY, -ESTALE. @pinned: even so,
 * unless it is root's. */
WUR int remove_idle(struct store *st, struct node *dir, const char *name, uint64_t ino,
		    bool pinned);

/* commit.c */
WUR int commit_start(struct store *st);
void commit_stop(struct store *st); /* runs what is queued */
/* Everything done to names, xattrs and sizes so far is durable. Blocks. */
WUR int commit_barrier(struct store *st);
void commit_after(struct store *st, struct after *a);
/* What was done to the inode of @fd is durable before what is done next, where the
 * filesystem does not see to that by itself. May block. */
WUR int commit_inode(struct store *st, int fd);

/* trash.c */
/* Removes the object, if it has one, and the trash name of a file whose last name is
 * gone and that nobody has open. */
void trash_remove(struct store *st, uint64_t ino, const struct kvfs_record *rec);
void trash_name(uint64_t ino, char buf[24]);
/* Deletes an object once all done so far is durable; takes its intent along. */
/* Punches a stand-in's data out up to the end of its last block, so that not
 * even a zeroed tail is left to be taken for an overlay. */
WUR int trash_punch(int fd, uint64_t size);
/* Before that: cuts the tree file to the size that a SWITCHED record says, durably, if it
 * is longer (thin.c); *ret_sb is what it is now. */
WUR int trash_cut(struct store *st, int fd, const struct kvfs_record *rec, struct stat *ret_sb);
/* Says durably what is about to be done to object @id of @c, whose tree file is open. */
WUR int trash_intent(struct ctx *c, enum intent_kind kind, const struct object_id *id);
void trash_object_later(struct store *st, const struct object_id *id);
WUR int recover_all(struct store *st, struct sbuf *why);
/* Walks tree/ and objects/ and makes the index right (unclean shutdown). */
void recover_reindex(struct store *st);

/* orphan.c: recovery leaves the decision on an object to the walk. @trash: its
 * entry there, or NULL when an intent names it. */
WUR int orphan_defer(struct store *st, const struct object_id *id, const char *trash);
void orphan_saw(struct store *st, const struct kvfs_record *rec); /* by the walk */
void orphan_settle(struct store *st, bool complete);
void orphan_free(struct store *st);

/* seal.c */
WUR int seal_start(struct store *st);
void seal_stop(struct store *st, bool drain);
void seal_queue(struct ctx *c);
void seal_unqueue(struct ctx *c);
/* Space is short: seals what waits at once and waits for one to be done. False
 * when there is nothing to wait for. */
bool seal_press(struct store *st);
/* Queues what the index says was written and not yet examined. */
void seal_queue_pending(struct store *st);
/* The same for these inodes, some at a time. Takes @ino over. Once. */
void seal_feed(struct store *st, uint64_t *ino, size_t n);
/* Files wait that should have been sealed by now: moves to memory give way. */
bool seal_behind(struct store *st);
void scrub_stop(struct store *st);
/* Finishes a pending punch (state SWITCHED). Gate exclusive. */
WUR int seal_punch_locked(struct ctx *c);

/* write.c */
WUR int unseal_locked(struct ctx *c, struct stat *ret_sb);
WUR int write_truncate(struct ctx *c, uint64_t size);
/* Data into the stand-in of a sealed file: all of it, or none that shows. */
WUR int overlay_write_locked(struct ctx *c, const void *buf, size_t len, uint64_t off);
WUR int overlay_fill_locked(struct ctx *c, uint64_t off, uint64_t len);
/* The source for reader_*: gate held; *ret_rep to be put by the caller. */
void read_source_of(struct ctx *c, struct read_source *ret);
/* Bytes as the file's readers get them now, of a sealed or plain context. Gate held. */
WUR int read_served(struct ctx *c, uint64_t off, void *buf, size_t len, uint64_t size);
/* The same as exact as they are to be had. */
WUR int read_range(struct ctx *c, uint64_t off, void *buf, size_t len, uint64_t size);

/* damage.c */
/* Does @code say that stored bytes are not what was written? */
bool damage_is(int code);
/* No record, though the content may be in an object or nowhere: see format.h. */
bool damage_record_lost(const struct stat *sb);
/* Marks, counts and logs damage; other codes pass. Returns the code to give. */
int damage_note(struct ctx *c, int code);
/* damage=hide: moves name and object to STORE/damaged. No gate held. True when
 * the name is gone now; false leaves everything as it was. */
bool damage_hide(struct ctx *c, struct node *n);
/* Both, when @code is damage; other codes pass. No gate held. Returns the code to give. */
int damage_found(struct ctx *c, struct node *n, int code);
/* The same for a name just looked up whose record is lost or damaged. */
bool damage_hide_name(struct store *st, struct node *n, const struct stat *sb);
/* At mount: finishes what a crash left half moved; bytes that damaged/ holds. */
uint64_t damage_scan(struct store *st);

/* io.c: a write with the gate held exclusive, whatever the state. */
WUR int write_locked(struct ctx *c, const void *buf, size_t len, uint64_t off);

/* watch.c: writers that the kernel serves by itself */
/* The last descriptor was closed: watches on while a mapping is left. No gate held. */
void watch_closed(struct ctx *c);
/* The file goes, or the store ends: gives the reference back, of several. */
void watch_end(struct ctx *c);
bool watch_all(struct store *st); /* by kvfs-tick; true while there is somebody to watch */
void watch_stop(struct store *st);

/* serving.c: the copy that readers are passed through to follows the file. */
/* Something about the content is about to be unseen here: a copy in use is shared
 * from now on, any other goes. Gate exclusive. */
void serving_follow(struct ctx *c);
WUR int serving_write(struct ctx *c, const void *buf, size_t len, uint64_t off);
WUR int serving_truncate(struct ctx *c, uint64_t size);
WUR int serving_allocate(struct ctx *c, int mode, uint64_t off, uint64_t len);
/* From a shared copy: bytes, or -ENOENT when there is none. */
WUR ssize_t serving_read(struct ctx *c, void *buf, size_t len, uint64_t off);
/* Stores into mappings of a shared copy become writes. Gate exclusive. */
WUR int serving_write_back(struct ctx *c);
/* Ends the sharing when nobody uses the copy any more: true if it ended. */
bool serving_end(struct ctx *c);
/* The daemon ends: what clients stored into mappings so far becomes writes. Those
 * that are still mapped show what they showed, and nothing of it is kept. */
void serving_stop(struct ctx *c);

/* space.c */
/* Room for @bytes more on SSD: evicts when allowed; -KVFS_EFULL. */
WUR int space_reserve(struct store *st, uint64_t bytes, uint64_t keep_ino);
/* The same for an object being sealed: may use the last room, never waits; files that are worth
 * more than the one that is sealed do not go for it. */
WUR int space_reserve_seal(struct store *st, uint64_t bytes, uint64_t keep_ino);
/* Evicts until @bytes are free, as far as it goes (full=evict only). */
void space_trim(struct store *st, uint64_t bytes);
/* Of a limit, what writers leave to sealing while anything else can give way. */
uint64_t space_seal_room(uint64_t limit);
/* Free space below which no writer may write past the daemon: reserve=. */
uint64_t space_write_reserve(struct store *st);
void space_release(struct store *st, uint64_t bytes);
uint64_t space_free(struct store *st);
/* What must go for @bytes to fit, with what there is above the limit. */
uint64_t space_short(struct store *st, uint64_t bytes);
uint64_t space_limit(struct store *st); /* of it all, less what files grow by themselves */
uint64_t space_used(struct store *st);
/* Makes room for @bytes in DRAM by dropping the coldest. False: not enough. */
bool space_dram(struct store *st, uint64_t bytes, const struct ctx *keep);
/* Is there room for a copy of @bytes at once? Where memory is full, the older ones of the
 * copies that opens have made lately make way. */
bool space_copy(struct store *st, uint64_t bytes, const struct ctx *keep);
void space_drop_dram(struct ctx *c, bool replica, bool copy);
void space_prune_nodes(struct store *st);
/* The limit that option ssd= asks for: 0 is all of the filesystem. */
uint64_t space_limit_of(struct store *st, uint64_t ssd_bytes);

/* info.c: inode numbers of all indexed files, *ret for mem_free; as far as memory goes. */
size_t info_inodes(struct store *st, uint64_t **ret);

/* mover.c, move_replica.c, move_copy.c */
/* Fills the replica of @c from its object, on the calling thread. */
WUR int move_replica(struct ctx *c);
/* The same with the first @layers, packed so; ends when the file is opened. */
WUR int move_replica_as(struct ctx *c, unsigned layers, enum cost_packing packing);
/* Gate held; @pace NULL: as fast as may be. */
WUR int move_copy(struct ctx *c, const struct read_pace *pace);
/* Makes pages for a decoded copy of @size bytes in the background, so that an
 * open need not wait for the kernel to clear them. */
void move_prepare(struct store *st, uint64_t size);
/* Bytes of memory that a policy that plans leaves for such copies. */
uint64_t move_copies_room(const struct store *st);
/* Background work for memory waits while somebody reads, 20 ms at most. */
void move_yield(struct store *st);
/* Makes a replica in the background. */
void move_later(struct ctx *c, struct node *n);
/* A file was read from SSD: the policy says whether it gets a replica. */
void move_after_read(struct ctx *c, struct node *n, bool whole, uint64_t size);

/* index.c: what the index keeps of a file */
void index_put(struct store *st, struct node *n, struct ctx *c, const struct stat *sb, bool sealed);
/* Size, blocks and times are what the tree file says now: accounts, record and,
 * while it has a name, index follow. Gate held, c->fd open. */
void index_follow(struct ctx *c, struct node *n);
void index_put_dir(struct store *st, struct node *n);
void index_moved(struct store *st, struct node *n);
void index_del(struct store *st, uint64_t ino);
void index_heat(struct ctx *c);
/* A time that was kept, at @now_ns (both CLOCK_REALTIME). One that is still to come, from
 * when the clock was wrong, is that of the mount: else it would stay the newest of all. */
uint64_t index_when(const struct store *st, uint64_t ns, uint64_t now_ns);
/* What was found out about its levels. */
void index_sampled(struct ctx *c, const struct meta_sample *s);
/* The file occupies @bytes now, nothing else of it changed. */
void index_occupies(struct store *st, uint64_t ino, uint64_t bytes);
void index_flag(struct store *st, uint64_t ino, uint32_t flag, bool on);
/* The node of an indexed file that the kernel need not know: one reference. */
struct node *index_node(struct store *st, uint64_t ino);
/* The node in use, else the same: one reference; NULL when there is none. */
struct node *index_find(struct store *st, uint64_t ino);
/* user.kvcache.NAME of the file or the nearest directory above that has it;
 * false when none. */
bool index_setting(struct store *st, struct node *n, const char *xattr, char *buf, size_t len);

#endif
