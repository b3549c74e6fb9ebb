/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_STATS_H
#define KVCACHEFS_STORE_STATS_H
/*
 * Counters of the store: X(id, name, help). Names are shipped as Prometheus
 * counters "kvcachefs_NAME_total" and never change. Values only grow.
 */
#define STORE_COUNTERS(X)                                                              \
	X(SEALED, "sealed", "files sealed")                                             \
	X(SEALED_BYTES, "sealed_bytes", "logical bytes sealed")                         \
	X(SEAL_STORED_BYTES, "seal_stored_bytes", "bytes written as sealed objects")    \
	X(ENCODED_BYTES, "encoded_bytes", "bytes that were encoded for storage")        \
	X(RELAYERED, "relayered", "sealed files encoded anew, in layers")               \
	X(RESAMPLED, "resampled", "estimates of files that got another sample")          \
	X(REPROFILED, "reprofiled", "times that feedback changed the estimates of a model") \
	X(LEVELS_DROPPED, "levels_dropped", "files that went to a lower level")         \
	X(TOKENS_DROPPED, "tokens_dropped", "tokens that files lost by request")        \
	X(FETCHED_BYTES, "fetched_bytes", "bytes of objects read from storage")         \
	X(SEAL_CANCELED, "seal_canceled", "seals given up because the file was opened") \
	X(SEAL_NOGAIN, "seal_nogain", "files left plain because sealing gains nothing") \
	X(SEAL_FAILED, "seal_failed", "seals that failed")                              \
	X(UNSEALED, "unsealed", "files turned back to plain")                           \
	X(OVERLAY_WRITES, "overlay_writes", "writes into sealed files")                 \
	X(READ_BYTES, "read_bytes", "bytes replied to reads by the daemon")             \
	X(WRITE_BYTES, "write_bytes", "bytes written through the daemon")               \
	X(OPENS, "opens", "files opened")                                               \
	X(OPENS_PASSTHROUGH, "opens_passthrough", "opens served by the kernel alone")   \
	X(OPENS_DRAM, "opens_dram", "opens of sealed files found in DRAM")              \
	X(OPENS_SSD, "opens_ssd", "opens of sealed files found on SSD only")            \
	X(COPIES, "copies", "decoded copies made")                                      \
	X(REPLICAS, "replicas", "replicas completed in DRAM")                           \
	X(DRAM_EVICTED, "dram_evicted", "replicas and copies dropped from DRAM")        \
	X(EVICTED, "evicted", "files removed because the store was full")               \
	X(EVICTED_BYTES, "evicted_bytes", "stored bytes of removed files")              \
	X(ENOSPC, "enospc", "writes refused because the store was full")                \
	X(DAMAGE, "damage", "reads that found damage")                                  \
	X(HIDDEN, "hidden", "damaged files moved to damaged/ (damage=hide)")            \
	X(BARRIERS, "barriers", "durable commits of the backing filesystem")            \
	X(PRUNED, "pruned", "names dropped to bound the node table")                    \
	X(TRACED, "traced", "accesses recorded (trace=)")                               \
	X(TRACE_DROPPED, "trace_dropped", "accesses not recorded for want of room")     \
	X(RECOVERED, "recovered", "steps in flight finished or undone at mount")

enum store_counter {
#define X(id, name, help) CNT_##id,
	STORE_COUNTERS(X)
#undef X
	CNT_N_
};

#endif
