/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_LOG_H
#define KVCACHEFS_BASE_LOG_H
/*
 * A log sink that is passed down, never global. Messages are one line:
 * "kvcachefs: LEVEL: text". A rate limit per call site is the caller's
 * business (log_limited). Thread-safe; may block on the sink's write.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

struct log; /* opaque */

/* @program borrowed for ever (a literal). @to_syslog: syslog(3) instead of
 * stderr (after going into the background). Returns NULL when out of memory. */
struct log *log_create(const char *program, enum log_level max, bool to_syslog);
void log_destroy(struct log *l); /* NULL ok */
void log_set_level(struct log *l, enum log_level max);
void log_set_syslog(struct log *l, bool on);
/* A NULL log drops the message. No newline at the end of @fmt. */
void log_at(struct log *l, enum log_level lvl, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void log_vat(struct log *l, enum log_level lvl, const char *fmt, va_list ap);
#define log_error(l, ...) log_at((l), LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(l, ...) log_at((l), LOG_LVL_WARN, __VA_ARGS__)
#define log_info(l, ...) log_at((l), LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(l, ...) log_at((l), LOG_LVL_DEBUG, __VA_ARGS__)

/* True at most once per @period_ns for one @state (zero-initialised by the
 * caller; atomic). Use: if (log_limited(&s, NSEC_PER_SEC)) log_warn(...). */
bool log_limited(uint64_t *state, uint64_t period_ns);

#endif
