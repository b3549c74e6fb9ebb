/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_MOUNTINFO_H
#define KVCACHEFS_BASE_MOUNTINFO_H
/* The mounts that this process sees (/proc/self/mountinfo), unescaped. */
#include <stdbool.h>

struct mountinfo {
	const char *device; /* "MAJOR:MINOR" */
	const char *where, *type, *source;
};

/* Calls @cb with each, the oldest first, until it returns true; what it returned
 * last. The strings are valid within the call. False when nothing can be read. */
bool mountinfo_each(bool (*cb)(const struct mountinfo *m, void *arg), void *arg);

#endif
