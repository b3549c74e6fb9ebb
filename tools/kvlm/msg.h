/* SPDX-License-Identifier: MIT */
#ifndef KVLM_MSG_H
#define KVLM_MSG_H
/*
 * How kvlm reports a failure: a function returns 0 or -errno and leaves one
 * sentence for the person in the caller's struct msg. Whoever finds the fault
 * writes it; whoever passes it on may only put context before it. Only a
 * command's end prints it, once.
 */
#include <stdarg.h>

#define WUR __attribute__((warn_unused_result))

struct msg {
	char text[400]; /* always NUL-terminated; "" when nothing failed */
};

/* Writes the text and returns @code (-errno) as it is. @m may be NULL. */
int msg_fail(struct msg *m, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "CONTEXT: " before what is there and returns @code. */
int msg_prefix(struct msg *m, int code, const char *context);

#endif
