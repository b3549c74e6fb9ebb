// SPDX-License-Identifier: MIT
/*
 * A writer lets new files of real caches arrive at a steady 0.4 GB/s for some
 * seconds, while a reader loads one hot file (a decoded copy, served by
 * passthrough) over and over. Once with sealing put off, once with sealing at
 * work: the one's effect on the reader is the ratio of its speeds. Sealing keeps
 * up when what is still unsealed after the last file's settling time and one
 * more file's time is nothing: the ratio is the input's time by the sealing's.
 */
#include "write_seal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"

#define INPUT_BPS 400000000.0
#define INPUT_SECONDS 10
#define FILES 64
#define SETTLE_S 1.0
#define DRAIN_S 60

struct reader {
	const char *path;
	char *buf;
	size_t len;
	_Atomic bool stop;
	uint64_t bytes;
	double seconds;
	int err;
};

static void *reader_main(void *arg)
{
	struct reader *rd = arg;

	while (!atomic_load(&rd->stop)) {
		double s = load_file(rd->path, LOAD_READ, rd->buf, rd->len);

		if (s < 0) {
			rd->err = (int)s;
			break;
		}
		rd->bytes += rd->len;
		rd->seconds += s;
	}
	return NULL;
}

struct stream {
	struct rig *g;
	const struct rig_corpus *c;
	const char *dir, *buf;
	uint64_t file_bytes;
	char path[FILES][RIG_PATH];
	unsigned n;
	uint64_t start_ns, end_ns;
};

/* Files one after another, each begun when its turn has come. */
static int stream_write(struct stream *s)
{
	s->n = 0;
	s->start_ns = clock_mono_ns();
	while (s->n < FILES && !rig_interrupted(s->g)) {
		double due = (double)(s->n + 1) * (double)s->file_bytes / INPUT_BPS;
		double t;

		snprintf(s->path[s->n], RIG_PATH, "%.4000s/stream-%u.bin", s->dir, s->n);
		t = save_file(s->path[s->n], s->buf, s->file_bytes, s->file_bytes, 1u << 20);
		if (t < 0)
			return rig_fail((int)t, "writing %s: %s", s->path[s->n], err_text((int)t));
		s->n++;
		if (due > INPUT_SECONDS)
			break;
		while ((double)(clock_mono_ns() - s->start_ns) / 1e9 < due)
			usleep(2000);
	}
	s->end_ns = clock_mono_ns();
	return rig_interrupted(s->g) ? -EINTR : 0;
}

/* Seconds from the first byte until all files are sealed. */
static double stream_sealed(struct stream *s)
{
	uint64_t until = clock_mono_ns() + DRAIN_S * NSEC_PER_SEC;
	unsigned done = 0;
	char state[32];

	while (done < s->n && clock_mono_ns() < until && !rig_interrupted(s->g)) {
		rig_ask(s->path[done], "state", state, sizeof(state));
		if (strcmp(state, "sealed") == 0)
			done++;
		else
			usleep(20000);
	}
	return done == s->n ? (double)(clock_mono_ns() - s->start_ns) / 1e9 : -ETIMEDOUT;
}

static void stream_remove(struct stream *s)
{
	for (unsigned i = 0; i < s->n; i++)
		if (unlink(s->path[i]) < 0)
			(void)rig_fail(-errno, "removing %s", s->path[i]);
}

/* The reader's speed while the stream arrives. */
static int with_reader(struct stream *s, const char *hot, char *buf, size_t len, double *ret_bps)
{
	struct reader rd = { .path = hot, .buf = buf, .len = len };
	pthread_t t;
	int r = rig_steer(hot, "move", "copy");

	if (r < 0)
		return r;
	if (pthread_create(&t, NULL, reader_main, &rd) != 0)
		return -EAGAIN;
	r = stream_write(s);
	atomic_store(&rd.stop, true);
	pthread_join(t, NULL);
	if (r == 0 && rd.err)
		r = rig_fail(rd.err, "reading %s: %s", hot, err_text(rd.err));
	*ret_bps = rd.seconds > 0 ? (double)rd.bytes / rd.seconds : 0;
	return r;
}

static int remount(struct rig *g, struct rig_mount *m, bool sealing)
{
	int r = rig_mount_stop(g, m);

	return r ? r : rig_mount_start(g, m, "kvcachefs", sealing ? "dram=6G,settle=1s"
								   : "dram=6G,settle=1h");
}

static int measure(struct stream *s, struct rig_mount *m, const char *hot, char *buf, size_t len,
		   struct row *keeps_up, struct row *reader)
{
	double without = 0, with = 0, took;
	int r = remount(s->g, m, false);

	if (r == 0 && reader) {
		r = with_reader(s, hot, buf, len, &without);
		stream_remove(s);
	}
	if (r == 0)
		r = remount(s->g, m, true);
	if (r == 0)
		r = with_reader(s, hot, buf, len, &with);
	if (r < 0)
		return r;
	took = stream_sealed(s);
	stream_remove(s);
	if (took < 0)
		return rig_fail((int)took, "files were not sealed within %d s", DRAIN_S);
	took -= SETTLE_S + (double)s->file_bytes / INPUT_BPS;
	if (keeps_up)
		bench_add(&keeps_up->ours, (double)s->n * (double)s->file_bytes / INPUT_BPS / took);
	if (reader)
		bench_add(&reader->ours, without > 0 ? with / without : 0);
	return 0;
}

int seal_rows(struct rig *g, struct rig_mount *m, const struct rig_corpus *c, const char *buf,
	      struct report *rep)
{
	struct row *keeps_up = report_row(rep, g, "seal.keeps_up", "sealing with 0.4 GB/s of new files",
					  "the input's rate", 0.97, 0);
	struct row *reader = report_row(rep, g, "seal.reader", "hot reader while sealing",
					"the same, not sealing", 0.80, 0);
	struct stream s = { .g = g, .c = c, .dir = m->mnt, .buf = buf,
			    .file_bytes = c->bytes[0] / 2 & ~(uint64_t)((1u << 20) - 1) };
	char hot[RIG_PATH], *dest;
	int r;

	if (!keeps_up && !reader)
		return 0;
	dest = load_buffer(c->bytes[0]);
	if (!dest)
		return -ENOMEM;
	snprintf(hot, sizeof(hot), "%.4000s/hot.bin", m->mnt);
	r = copy_in(c->path[0], hot);
	if (r == 0)
		r = rig_steer(hot, "seal", "1");
	if (keeps_up)
		keeps_up->direct = true;
	if (reader)
		reader->direct = true;
	for (unsigned k = 0; k < g->o->rounds && r == 0; k++) {
		rig_say("sealing under load: round %u of %u", k + 1, g->o->rounds);
		r = measure(&s, m, hot, dest, c->bytes[0], keeps_up, reader);
	}
	munmap(dest, c->bytes[0]);
	return r;
}
