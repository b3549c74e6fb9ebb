/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_TRACE_H
#define KVCACHEFS_POLICY_TRACE_H
/*
 * The text of a recorded access: what the daemon writes with trace= and what replay and plan
 * read. kvcachefs-format(5) describes it. One line per record,
 *
 *	EVENT key=value key=value ...
 *
 * and a first line that says what it is. Each record of a context says all that the cost
 * model needs of it, so that any line can be lost. Unknown keys are ignored. Pure functions.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sbuf.h"
#include "policy/cost.h"

#define TRACE_HEAD "kvcachefs-trace 1\n"
#define TRACE_LINE_MAX 4096u
/* Bytes that were read are not known: the kernel served them. */
#define TRACE_READ_UNSEEN UINT64_MAX

enum trace_event { TRACE_OPEN, TRACE_SEAL, TRACE_REMOVE, TRACE_STATE };
/* Where an open found the content. */
enum trace_found { TRACE_PLAIN, TRACE_SSD, TRACE_PART, TRACE_DRAM, TRACE_COPY };
/* How it was served. */
enum trace_served { TRACE_NATIVE, TRACE_STREAM, TRACE_CACHED };

struct trace_rec {
	enum trace_event event;
	uint64_t t_ns; /* CLOCK_REALTIME; of an open: when it began */
	uint64_t bytes; /* logical */
	/* TRACE_OPEN, written when it is closed */
	enum trace_found found;
	enum trace_served served;
	bool writes;         /* opened for writing */
	uint64_t read_bytes; /* or TRACE_READ_UNSEEN */
	double delay_s;      /* from the open to the last byte, or to the close if unseen */
	/* id: inode; levels 0: plain, and the rest is not set. now: as it was found, level: as served */
	struct cost_item it;
};

/* What the daemon counts with. */
struct trace_state {
	uint64_t t_ns;
	char policy[32];
	uint64_t dram_bytes, ssd_bytes;
	uint64_t room_bytes; /* of dram_bytes, what contexts may have; 0: not known */
	struct cost_params params;
	struct cost_rates rates;
};

void trace_print(const struct trace_rec *r, struct sbuf *out);
void trace_print_state(const struct trace_state *s, struct sbuf *out);
/* @line without its newline, changed. The event that it was, with that one of @r and @s
 * filled in; -EINVAL: not a record. */
WUR int trace_parse(char *line, struct trace_rec *r, struct trace_state *s);
/* "dram" */
const char *trace_found_name(enum trace_found f);

#endif
