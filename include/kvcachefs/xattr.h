/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_XATTR_H
#define KVCACHEFS_XATTR_H
/*
 * The extended attributes by which a mounted kvcachefs is looked at and
 * steered, as one table. Programs may include this file; the prose is in
 * kvcachefs-xattr(7). Values are text without a trailing newline or NUL.
 *
 * X(id, name, kind, on, set, value, help)
 *   kind  INFO: computed, read by name, never listed
 *         SETTING: kept with the file and listed once somebody set it;
 *                  removing it returns to the inherited or default value
 *         ACTION: write-only unless its help says what reading shows, done when
 *         set returns
 *   on    what has it: FILE regular files, TREE those and directories, ROOT the
 *         root of the mount
 *   set   NOBODY, OWNER (of the file, or root), MOUNTER (who runs the daemon, or root)
 *   value what it holds or takes: BYTES, COUNT, NUMBER, FLAG (1 or 0), LEVEL
 *         0..1, SECONDS (>= 0), TEXT, or choices
 */
#define KVCACHEFS_XATTR_PREFIX "user.kvcache."

#define KVCACHEFS_XATTRS(X)                                                                     \
	X(STATE, "state", INFO, FILE, NOBODY, "plain|sealing|sealed|overlay",                   \
	  "how the content is held")                                                            \
	X(RECOGNISED, "recognised", INFO, FILE, NOBODY, "TEXT",                                 \
	  "the layout that was found in the content")                                           \
	X(CODEC, "codec", INFO, FILE, NOBODY, "TEXT", "codec of most bytes")                    \
	X(LEVELS, "levels", INFO, FILE, NOBODY, "TEXT",                                         \
	  "levels that are there, each with its bytes on storage")                              \
	X(ESTIMATE, "estimate", INFO, FILE, NOBODY, "TEXT",                                     \
	  "levels, each with its expected quality")                                             \
	X(POSITIONS, "positions", INFO, FILE, NOBODY, "TEXT",                                   \
	  "token positions that the file holds, such as 0-3,128,200-255")                       \
	X(TIER, "tier", INFO, FILE, NOBODY, "ssd|dram|copy",                                    \
	  "fastest place of the content: storage, encoded or decoded copy in memory")           \
	X(LOGICAL_BYTES, "logical_bytes", INFO, FILE, NOBODY, "BYTES", "size as written")       \
	X(STORED_BYTES, "stored_bytes", INFO, FILE, NOBODY, "BYTES", "size on storage")         \
	X(REPLICA_BYTES, "replica_bytes", INFO, FILE, NOBODY, "BYTES",                          \
	  "encoded copy in memory")                                                             \
	X(COPY_BYTES, "copy_bytes", INFO, FILE, NOBODY, "BYTES", "decoded copy in memory")      \
	X(RATIO, "ratio", INFO, FILE, NOBODY, "NUMBER", "logical over stored size")             \
	X(HITS, "hits", INFO, FILE, NOBODY, "COUNT", "reads of the file so far")                \
	X(FREQUENCY, "frequency", INFO, FILE, NOBODY, "NUMBER", "hits, older ones count less")  \
	X(OPENS, "opens", INFO, FILE, NOBODY, "COUNT", "open descriptions now")                 \
	X(DAMAGED, "damaged", INFO, FILE, NOBODY, "FLAG", "a checksum failed")                  \
	X(REASON, "reason", INFO, FILE, NOBODY, "TEXT",                                         \
	  "why it was last moved, stays plain, or may not go to a lower level")                 \
	X(UTILITY, "utility", INFO, FILE, NOBODY, "NUMBER",                                     \
	  "seconds: reads expected, each alpha x quality less its delay; policy=adaptive")      \
	X(WHY, "why", INFO, FILE, NOBODY, "TEXT",                                               \
	  "sentences on where it is and why; policy=adaptive")                                  \
	X(LAYOUT, "layout", SETTING, TREE, OWNER, "TEXT",                                       \
	  "declared geometry of raw K and V data; unset it shows what was recognised")          \
	X(QUALITY, "quality", SETTING, TREE, OWNER, "LEVEL",                                    \
	  "lowest quality granted, 1: exact; inherited by new files")                           \
	X(PIN, "pin", SETTING, FILE, OWNER, "FLAG", "never evict")                              \
	X(PROFILE, "profile", SETTING, TREE, OWNER, "TEXT",                                     \
	  "quality of each level as measured by the reader")                                    \
	X(ACCEPT, "accept", SETTING, TREE, OWNER, "drop",                                       \
	  "what its readers understand; drop: missing tokens; inherited by new files")          \
	X(FEEDBACK, "feedback", SETTING, FILE, OWNER, "TEXT",                                   \
	  "quality of levels that a reader measured; counts where it is lower than expected")   \
	X(RECOMPUTE, "recompute", SETTING, TREE, OWNER, "SECONDS",                              \
	  "what it costs to compute the content anew")                                          \
	X(PREFETCH, "prefetch", ACTION, FILE, OWNER, "FLAG",                                    \
	  "start bringing it into memory")                                                      \
	X(MOVE, "move", ACTION, FILE, OWNER, "ssd|dram|copy", "bring it there and wait")        \
	X(LEVEL, "level", ACTION, FILE, OWNER, "TEXT",                                          \
	  "drop all layers above this level, or tokens; reading shows what the next open gets") \
	X(EVICT, "evict", ACTION, FILE, OWNER, "FLAG", "remove the file as a full store would") \
	X(SEAL, "seal", ACTION, FILE, OWNER, "FLAG", "encode now and wait")                     \
	X(UNSEAL, "unseal", ACTION, FILE, OWNER, "FLAG", "back to plain bytes")                 \
	X(DRAM, "dram", ACTION, ROOT, MOUNTER, "BYTES", "limit of memory; reading shows it")    \
	X(SSD, "ssd", ACTION, ROOT, MOUNTER, "BYTES", "limit of storage; reading shows it")     \
	X(SCRUB, "scrub", ACTION, ROOT, MOUNTER, "FLAG",                                          \
	  "verify everything in the background; reading shows how far it is")

enum kvcachefs_xattr_kind {
	KVCACHEFS_XATTR_INFO,
	KVCACHEFS_XATTR_SETTING,
	KVCACHEFS_XATTR_ACTION,
};
enum kvcachefs_xattr_on {
	KVCACHEFS_XATTR_FILE = 1,
	KVCACHEFS_XATTR_DIR = 2,
	KVCACHEFS_XATTR_TREE = 3,
	KVCACHEFS_XATTR_ROOT = 4,
};
enum kvcachefs_xattr_set {
	KVCACHEFS_XATTR_NOBODY,
	KVCACHEFS_XATTR_OWNER,
	KVCACHEFS_XATTR_MOUNTER,
};

enum kvcachefs_xattr_id {
#define X(id, name, kind, on, set, value, help) KVCACHEFS_XATTR_ID_##id,
	KVCACHEFS_XATTRS(X)
#undef X
	KVCACHEFS_XATTR_IDS
};

#endif
