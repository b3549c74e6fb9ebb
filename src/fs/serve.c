/* SPDX-License-Identifier: MIT */
/*
 * Serving loop. `threads` threads wait in read() on the session; when the last
 * waiting one picks up a request another is started (up to SERVE_MAX), so that
 * slow requests (fsync, cold reads) never keep others waiting; surplus ones
 * leave when they are idle again. Before libfuse parses a request we look at
 * it: what libfuse 3.14 does not hand on (the kernel's wish to drop setuid
 * bits) is marked in the open flags, SYNCFS, which it does not know, is
 * answered here, and the client's thread id feeds "follow".
 *
 * Ends when the kernel says ENODEV (unmounted) or when serve_stop wakes the
 * threads by SIGUSR1, which only they do not block.
 */
#include "fs/serve.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/thread.h"
#include "fs/reply.h"

#define SERVE_MAX 48
#define SERVE_SPARE 4 /* idle threads kept beyond the configured ones */

struct server {
	struct list link; /* in server_set.all */
	struct fs *fs;    /* borrowed */
	pthread_t thread;
	_Atomic pid_t tid;
	_Atomic bool gone;   /* about to return: join it */
	long switches;       /* context switches when the last request came */
	struct fuse_buf buf; /* owned memory */
};

struct server_set {
	struct lock lock;
	struct list all GUARDED; /* by lock */
	unsigned total GUARDED;  /* by lock */
	unsigned base;           /* threads that always wait */
	_Atomic unsigned idle;   /* threads in read() */
	_Atomic bool stopping;
	int ended_fd; /* owned eventfd */
};

static int server_spawn(struct fs *fs);

/* Requests that say nothing about who is being waited for. */
static bool opcode_is_aside(uint32_t op)
{
	return op == KF_FORGET || op == KF_BATCH_FORGET || op == KF_INTERRUPT || op == KF_RELEASE ||
	       op == KF_RELEASEDIR || op == KF_DESTROY || op == KF_INIT;
}

static void mark_kill(uint32_t *flags)
{
	*flags |= FS_FLAG_KILL_SUIDGID;
}

/* Hands on in the open flags what libfuse 3.14 drops. */
static void request_mark(struct kf_in_header *in, size_t len)
{
	void *arg = in + 1;
	size_t arg_len = len - sizeof(*in);

	if (in->opcode == KF_WRITE && arg_len >= sizeof(struct kf_write_in)) {
		struct kf_write_in *w = arg;

		if (w->write_flags & KF_WRITE_KILL_SUIDGID)
			mark_kill(&w->flags);
	} else if (in->opcode == KF_OPEN && arg_len >= sizeof(struct kf_open_in)) {
		struct kf_open_in *o = arg;

		if (o->open_flags & KF_OPEN_KILL_SUIDGID)
			mark_kill(&o->flags);
	} else if (in->opcode == KF_CREATE && arg_len >= sizeof(struct kf_create_in)) {
		struct kf_create_in *c = arg;

		if (c->open_flags & KF_OPEN_KILL_SUIDGID)
			mark_kill(&c->flags);
	}
}

static void answer_syncfs(struct fs *fs, const struct kf_in_header *in)
{
	struct kf_out_header out = {
		.len = sizeof(out),
		.error = -err_errno(store_syncfs(fs->st)),
		.unique = in->unique,
	};

	if (write(fuse_session_fd(fs->se), &out, sizeof(out)) < 0)
		log_debug(fs->log, "reply to syncfs: %s", strerror(errno));
}

/* True when libfuse should see the request. */
static bool request_look(struct fs *fs, struct fuse_buf *buf)
{
	struct kf_in_header *in = buf->mem;

	atomic_fetch_add_explicit(&fs->requests[in->opcode < KF_OPCODES ? in->opcode : 0], 1,
				  memory_order_relaxed);
	if (in->opcode == KF_INIT && !fs->feat.done && buf->size >= sizeof(*in) + 16) {
		struct kf_init_in init;
		size_t len = buf->size - sizeof(*in);

		memset(&init, 0, sizeof(init));
		memcpy(&init, in + 1, len < sizeof(init) ? len : sizeof(init));
		fs->feat.minor = init.minor;
		fs->feat.offered = init.flags;
		if (init.flags & KF_INIT_EXT)
			fs->feat.offered |= (uint64_t)init.flags2 << 32;
		fs->feat.init_unique = in->unique;
	}
	if (in->opcode == KF_SYNCFS) {
		answer_syncfs(fs, in);
		return false;
	}
	request_mark(in, buf->size);
	return true;
}

int serve_one(struct fs *fs, struct fuse_buf *buf)
{
	int n = fuse_session_receive_buf(fs->se, buf);

	if (n == 0 || (n < 0 && fuse_session_exited(fs->se)))
		return 1;
	if (n < 0)
		return n;
	if (request_look(fs, buf))
		fuse_session_process_buf(fs->se, buf);
	return 0;
}

static void servers_follow(struct fs *fs)
{
	struct server_set *set = fs->servers;

	lock_acquire(&set->lock);
	list_for_each (l, &set->all) {
		struct server *s = container_of(l, struct server, link);

		if (s->tid && !s->gone)
			follow_apply(&fs->follow, s->tid);
	}
	lock_release(&set->lock);
}

/* Of both kinds: a lone client on our CPU that preempts us right at the reply
 * has its next request there before we ask, and yet waits for each. */
static long thread_switches(void)
{
	struct rusage ru;

	return getrusage(RUSAGE_THREAD, &ru) == 0 ? ru.ru_nvcsw + ru.ru_nivcsw : 0;
}

static void server_follow(struct server *s)
{
	const struct kf_in_header *in = s->buf.mem;
	bool waiting = false;

	if (!s->fs->follow.on || opcode_is_aside(in->opcode))
		return;
	if (in->opcode == KF_READ || in->opcode == KF_WRITE) {
		long now = thread_switches();

		waiting = now == s->switches;
		s->switches = now;
	}
	if (follow_note(&s->fs->follow, in->pid, waiting))
		servers_follow(s->fs);
}

static void session_ended(struct server_set *set)
{
	uint64_t one = 1;

	if (write(set->ended_fd, &one, sizeof(one)) < 0)
		return; /* counter full: it is readable already */
}

/* A thread too many: more idle ones than will be needed soon. */
static bool server_surplus(struct server_set *set)
{
	bool yes;

	lock_acquire(&set->lock);
	yes = set->total > set->base && set->idle > SERVE_SPARE;
	if (yes)
		set->total--;
	lock_release(&set->lock);
	return yes;
}

static void serve_loop(struct server *s)
{
	struct fs *fs = s->fs;
	struct server_set *set = fs->servers;

	while (!set->stopping) {
		int n;

		set->idle++;
		n = fuse_session_receive_buf(fs->se, &s->buf);
		if (--set->idle == 0 && n > 0)
			(void)server_spawn(fs); /* more threads are a convenience */
		if (fuse_session_exited(fs->se))
			break;
		if (n == -EINTR || n == -EAGAIN || n == -ENOMEM)
			continue;
		if (n <= 0) {
			fuse_session_exit(fs->se);
			break;
		}
		server_follow(s);
		if (request_look(fs, &s->buf))
			fuse_session_process_buf(fs->se, &s->buf);
		if (server_surplus(set))
			return;
	}
	session_ended(set);
}

static void *server_main(void *arg)
{
	struct server *s = arg;
	sigset_t wake;

	sigemptyset(&wake);
	sigaddset(&wake, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
	s->tid = (pid_t)syscall(SYS_gettid);
	follow_apply(&s->fs->follow, s->tid);
	serve_loop(s);
	free(s->buf.mem); /* libfuse's malloc */
	s->buf.mem = NULL;
	s->gone = true;
	return NULL;
}

/* Joins threads that have left by themselves. */
static void servers_reap(struct server_set *set) REQUIRES(set->lock)
{
	list_for_each_safe (l, tmp, &set->all) {
		struct server *s = container_of(l, struct server, link);

		if (!s->gone)
			continue;
		pthread_join(s->thread, NULL);
		list_del(&s->link);
		mem_free(s);
	}
}

static int server_spawn(struct fs *fs)
{
	struct server_set *set = fs->servers;
	struct server *s;
	int r = 0;

	lock_acquire(&set->lock);
	servers_reap(set);
	if (set->stopping || set->total >= SERVE_MAX)
		goto out;
	r = -ENOMEM;
	s = mem_zalloc(sizeof(*s));
	if (!s)
		goto out;
	s->fs = fs;
	r = thread_start("kvfs-serve", server_main, s, &s->thread);
	if (r < 0) {
		mem_free(s);
		goto out;
	}
	list_add_tail(&set->all, &s->link);
	set->total++;
out:
	lock_release(&set->lock);
	return r;
}

static void on_wake(int sig)
{
	(void)sig; /* only there to interrupt read() */
}

int serve_start(struct fs *fs, unsigned threads)
{
	struct server_set *set = mem_zalloc(sizeof(*set));
	struct sigaction sa = { .sa_handler = on_wake };
	int r = 0;

	if (!set)
		return -ENOMEM;
	set->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (set->ended_fd < 0) {
		r = -errno;
		mem_free(set);
		return r;
	}
	lock_init(&set->lock);
	list_init(&set->all);
	set->base = threads;
	fs->servers = set;
	sigaction(SIGUSR1, &sa, NULL);
	for (unsigned i = 0; i < threads && r == 0; i++)
		r = server_spawn(fs);
	if (r < 0)
		serve_stop(fs);
	return r;
}

int serve_ended_fd(const struct fs *fs)
{
	return fs->servers->ended_fd;
}

/* The first thread that still runs, or NULL. */
static bool servers_kick(struct server_set *set)
{
	bool any = false;

	lock_acquire(&set->lock);
	servers_reap(set);
	list_for_each (l, &set->all) {
		pthread_kill(container_of(l, struct server, link)->thread, SIGUSR1);
		any = true;
	}
	lock_release(&set->lock);
	return any;
}

void serve_stop(struct fs *fs)
{
	struct server_set *set = fs->servers;

	if (!set)
		return;
	set->stopping = true;
	fuse_session_exit(fs->se);
	/* A signal may come just before read(): repeat until all have left. */
	while (servers_kick(set))
		poll(NULL, 0, 5);
	fs->servers = NULL;
	io_close(&set->ended_fd);
	lock_fini(&set->lock);
	mem_free(set);
}
