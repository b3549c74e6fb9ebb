/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl.h"

#define SHOW_NS (100 * NSEC_PER_MSEC)
#define QUIET_NS NSEC_PER_SEC /* what is over by then shows nothing */

void progress_begin(struct progress *p, const char *what, uint64_t total)
{
	*p = (struct progress){ .what = what,
				.total = total,
				.start_ns = clock_mono_ns(),
				.tty = isatty(STDERR_FILENO) };
}

static void show(struct progress *p, uint64_t now)
{
	double s = (double)(now - p->start_ns) / 1e9;
	double rate = s > 0 ? (double)p->done / s : 0;
	unsigned pct = p->total ? (unsigned)(100.0 * (double)p->done / (double)p->total) : 100;
	double left = rate > 0 && p->total > p->done ? (double)(p->total - p->done) / rate : 0;

	fprintf(stderr, "\r%s %3u %%  %.2f of %.2f GB  %.2f GB/s  %.0f s left   ", p->what, pct,
		(double)p->done / 1e9, (double)p->total / 1e9, rate / 1e9, left);
	p->shown_ns = now;
}

void progress_add(struct progress *p, uint64_t bytes)
{
	uint64_t now;

	p->done += bytes;
	if (!p->tty)
		return;
	now = clock_mono_ns();
	if (now - p->start_ns > QUIET_NS && now - p->shown_ns > SHOW_NS)
		show(p, now);
}

void progress_end(struct progress *p)
{
	if (p->tty && p->shown_ns) {
		show(p, clock_mono_ns());
		fputc('\n', stderr);
	}
}
