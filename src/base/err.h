/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_ERR_H
#define KVCACHEFS_BASE_ERR_H
/*
 * One error convention: a function returns 0 (or a count) or -code. A code is
 * an errno or one of the private causes below, so that each cause has its own
 * name in logs and tests. err_errno() maps a cause to the errno that a system
 * call may return; only fs/reply.c and the programs' exits call it.
 */

/* X(name, errno it is shown as, text) */
#define KVFS_ERRORS(X)                                                        \
	X(KVFS_EMAGIC, EUCLEAN, "not one of our files (bad magic)")           \
	X(KVFS_EVERSION, EUCLEAN, "written by a newer version")               \
	X(KVFS_EFORMAT, EUCLEAN, "malformed structure")                       \
	X(KVFS_ECHECKSUM, EIO, "checksum mismatch")                           \
	X(KVFS_ETRUNCATED, EIO, "stored data ends too early")                 \
	X(KVFS_EIDENTITY, EIO, "stored data belongs to another object")       \
	X(KVFS_ECODEC, EIO, "encoded data is malformed")                      \
	X(KVFS_ENOGAIN, E2BIG, "encoding does not make it smaller")           \
	X(KVFS_ENOLAYOUT, ENOMSG, "layout not recognised")                    \
	X(KVFS_EBUDGET, ENOMEM, "memory budget reached")                      \
	X(KVFS_EFULL, ENOSPC, "storage budget reached")                       \
	X(KVFS_ECANCELED, ECANCELED, "given up because the file is in use")   \
	X(KVFS_EVERIFY, EIO, "encoded data did not decode to its original")   \
	X(KVFS_EDAMAGED, EIO, "file is damaged")                              \
	X(KVFS_ELOCKED, EBUSY, "store is mounted by another process")         \
	X(KVFS_ELOST, EIO, "an earlier write or fsync of this file failed")   \
	X(KVFS_EEXACT, EPERM, "no quality below 1 is granted for the file")   \
	X(KVFS_EFLOOR, EPERM, "the level's quality is below the one granted, or not known") \
	X(KVFS_EVETO, EOPNOTSUPP, "the file must stay exact: unknown layout, quantised, or a checksum beside it") \
	X(KVFS_EGONE, EOPNOTSUPP, "the layers for that were dropped and cannot be brought back") \
	X(KVFS_ECHANGED, EBUSY, "the file was changed since it was sealed") \
	X(KVFS_ENOLAYERS, EOPNOTSUPP, "nothing in the file can be kept in layers") \
	X(KVFS_ENOACCEPT, EPERM, "its readers did not ask for it: user.kvcache.accept is not drop") \
	X(KVFS_ENODROP, EOPNOTSUPP, "the file cannot lose tokens; user.kvcache.reason says why")

#define KVFS_ERR_BASE 10000
enum kvfs_err {
	KVFS_ERR_FIRST_ = KVFS_ERR_BASE - 1,
#define X(name, no, text) name,
	KVFS_ERRORS(X)
#undef X
	KVFS_ERR_END_
};

#define WUR __attribute__((warn_unused_result))

/* Drops a result on purpose; the reason stands beside the call. */
static inline void err_ignore(long r)
{
	(void)r;
}

/* Positive errno for a (positive or negative) code; unknown private codes map
 * to EIO, 0 to 0. */
int err_errno(int code);
/* Short static text for a (positive or negative) code; never NULL. Thread-safe. */
const char *err_text(int code);
/* Symbolic name of a private cause ("KVFS_ECHECKSUM") or of a common errno. */
const char *err_name(int code);

#endif
