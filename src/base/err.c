/* SPDX-License-Identifier: MIT */
/*
 * Names, texts and errnos of error codes. Pure: a constant table made from the
 * one list in err.h, and glibc's thread-safe descriptions for everything else.
 */
#include "base/err.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct {
	const char *name, *text;
	int no;
} err_table[] = {
#define X(name, no, text) { #name, text, no },
	KVFS_ERRORS(X)
#undef X
};

_Static_assert(sizeof(err_table) / sizeof(err_table[0]) == KVFS_ERR_END_ - KVFS_ERR_BASE,
	       "one row per private cause");

/* Magnitude of a code of either sign, safe for INT_MIN. */
static unsigned err_abs(int code)
{
	return code < 0 ? 0u - (unsigned)code : (unsigned)code;
}

static int err_index(unsigned c)
{
	return c >= KVFS_ERR_BASE && c < KVFS_ERR_END_ ? (int)(c - KVFS_ERR_BASE) : -1;
}

int err_errno(int code)
{
	unsigned c = err_abs(code);
	int i = err_index(c);

	if (i >= 0)
		return err_table[i].no;
	return c < KVFS_ERR_BASE ? (int)c : EIO;
}

const char *err_text(int code)
{
	unsigned c = err_abs(code);
	int i = err_index(c);
	const char *s = NULL;

	if (i >= 0)
		return err_table[i].text;
	if (c < KVFS_ERR_BASE)
		s = strerrordesc_np((int)c);
	return s ? s : "unknown error";
}

const char *err_name(int code)
{
	unsigned c = err_abs(code);
	int i = err_index(c);
	const char *s = NULL;

	if (i >= 0)
		return err_table[i].name;
	if (c < KVFS_ERR_BASE)
		s = strerrorname_np((int)c);
	return s ? s : "?";
}
