/* SPDX-License-Identifier: MIT */
/*
 * Log sink: formats one line on the stack and hands it to stderr with a single
 * write, so that lines of several threads do not mix, or to syslog. Control
 * characters become '?': names come from users, and a newline in one must not
 * forge a second message. Longer lines are cut.
 */
#include "base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define LOG_LINE_MAX 2048

struct log {
	const char *program; /* borrowed for ever */
	_Atomic int max;     /* enum log_level */
	_Atomic bool to_syslog;
};

static const struct {
	const char *name;
	int prio;
} log_levels[] = {
	[LOG_LVL_ERROR] = { "error", LOG_ERR },
	[LOG_LVL_WARN] = { "warning", LOG_WARNING },
	[LOG_LVL_INFO] = { "info", LOG_INFO },
	[LOG_LVL_DEBUG] = { "debug", LOG_DEBUG },
};

struct log *log_create(const char *program, enum log_level max, bool to_syslog)
{
	struct log *l = mem_zalloc(sizeof(*l));

	if (!l)
		return NULL;
	l->program = program;
	log_set_level(l, max);
	log_set_syslog(l, to_syslog);
	return l;
}

void log_destroy(struct log *l)
{
	if (!l)
		return;
	log_set_syslog(l, false);
	mem_free(l);
}

void log_set_level(struct log *l, enum log_level max)
{
	l->max = (int)max;
}

void log_set_syslog(struct log *l, bool on)
{
	bool was = atomic_exchange(&l->to_syslog, on);

	if (on && !was)
		openlog(l->program, LOG_PID, LOG_DAEMON);
	else if (!on && was)
		closelog();
}

void log_vat(struct log *l, enum log_level lvl, const char *fmt, va_list ap)
{
	char line[LOG_LINE_MAX];
	int head, n;
	size_t len;
	ssize_t rc;

	if (!l || (int)lvl > l->max)
		return;
	head = snprintf(line, sizeof(line) - 1, "%s: %s: ", l->program, log_levels[lvl].name);
	if (head < 0 || head >= LOG_LINE_MAX - 1)
		return;
	n = vsnprintf(line + head, sizeof(line) - 1 - (size_t)head, fmt, ap);
	if (n < 0)
		return;
	len = strlen(line);
	for (size_t i = (size_t)head; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	if (l->to_syslog) {
		syslog(log_levels[lvl].prio, "%s", line + head);
		return;
	}
	line[len++] = '\n';
	rc = write(STDERR_FILENO, line, len);
	(void)rc; /* nowhere left to report it */
}

void log_at(struct log *l, enum log_level lvl, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vat(l, lvl, fmt, ap);
	va_end(ap);
}

bool log_limited(uint64_t *state, uint64_t period_ns)
{
	uint64_t now = clock_mono_ns();
	uint64_t last = __atomic_load_n(state, __ATOMIC_RELAXED);

	if (last && now - last < period_ns)
		return false;
	/* Of several threads here at once, the one that swaps may speak. */
	return __atomic_compare_exchange_n(state, &last, now, false, __ATOMIC_RELAXED,
					   __ATOMIC_RELAXED);
}
