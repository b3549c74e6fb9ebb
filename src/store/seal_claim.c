/* SPDX-License-Identifier: MIT */
/*
 * What seals and thins of one file ask for and give back, and how who opens it ends them: a
 * lease on the daemon's only descriptor says that nobody else has it open or mapped.
 */
#include <errno.h>
#include <fcntl.h>

#include "store/seal.h"

bool seal_canceled(struct ctx *c)
{
	bool yes;

	lock_acquire(&c->lock);
	yes = c->cancel || c->opens > 0 || c->unlinked;
	lock_release(&c->lock);
	return yes || atomic_load(&c->st->stopping_seals);
}

int seal_copy_gone(struct ctx *c)
{
	bool gone;

	space_drop_dram(c, false, true);
	lock_acquire(&c->lock);
	gone = !c->copy;
	lock_release(&c->lock);
	return gone ? 0 : -EBUSY;
}

int seal_lease(struct ctx *c)
{
	int r = 0;

	lock_acquire(&c->lock);
	if (c->cancel)
		r = -EBUSY;
	else if (fcntl(c->fd, F_SETLEASE, F_WRLCK) == 0)
		c->leased = true;
	else if (errno == EAGAIN)
		r = -EBUSY; /* else no leases here, as the switch finds */
	lock_release(&c->lock);
	return r;
}

static void unlease(struct ctx *c) REQUIRES(&c->lock)
{
	if (c->leased)
		err_ignore(fcntl(c->fd, F_SETLEASE, F_UNLCK)); /* may be gone already */
	c->leased = false;
}

void seal_unlease(struct ctx *c)
{
	lock_acquire(&c->lock);
	unlease(c);
	lock_release(&c->lock);
}

void seal_unclaim_locked(struct ctx *c)
{
	lock_acquire(&c->lock);
	unlease(c);
	c->sealing = false;
	lock_release(&c->lock);
}

void seal_cancel(struct ctx *c)
{
	lock_acquire(&c->lock);
	if (c->sealing) {
		c->cancel = true;
		unlease(c);
	}
	lock_release(&c->lock);
}
