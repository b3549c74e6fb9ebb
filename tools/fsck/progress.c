/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "fsck.h"

#define SHOW_NS (100 * NSEC_PER_MSEC)
#define QUIET_NS NSEC_PER_SEC
#define BAR 24

void bar_begin(struct bar *b, const char *what, uint64_t total, bool bytes, bool quiet)
{
	*b = (struct bar) { .what = what, .total = total, .bytes = bytes,
			    .start_ns = clock_mono_ns(),
			    .tty = !quiet && isatty(STDERR_FILENO) };
}

static void show(struct bar *b, uint64_t now)
{
	double s = (double)(now - b->start_ns) / 1e9, rate = (double)b->done / s;
	char bar[BAR + 1];
	unsigned fill;

	b->shown_ns = now;
	if (!b->total) {
		fprintf(stderr, "\r\033[K%s: %llu", b->what, (unsigned long long)b->done);
		return;
	}
	fill = (unsigned)((double)b->done / (double)b->total * BAR);
	for (unsigned i = 0; i < BAR; i++)
		bar[i] = i < fill ? '#' : '.';
	bar[BAR] = 0;
	if (b->bytes)
		fprintf(stderr, "\r\033[K%s [%s] %.2f of %.2f GB  %.2f GB/s  %.0f s left", b->what, bar,
			(double)b->done / 1e9, (double)b->total / 1e9, rate / 1e9,
			rate > 0 ? (double)(b->total - b->done) / rate : 0.0);
	else
		fprintf(stderr, "\r\033[K%s [%s] %llu of %llu", b->what, bar,
			(unsigned long long)b->done, (unsigned long long)b->total);
}

void bar_add(struct bar *b, uint64_t n)
{
	uint64_t now;

	b->done += n;
	if (b->total && b->done > b->total)
		b->done = b->total;
	if (!b->tty)
		return;
	now = clock_mono_ns();
	if (now - b->start_ns > QUIET_NS && now - b->shown_ns > SHOW_NS)
		show(b, now);
}

void bar_clear(struct bar *b)
{
	if (b->tty && b->shown_ns)
		fputs("\r\033[K", stderr);
	b->shown_ns = 0;
}
