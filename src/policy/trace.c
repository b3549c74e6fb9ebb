/* SPDX-License-Identifier: MIT */
/*
 * Records as text. Numbers are printed so that they read back as they were, but for heat, which
 * is not recorded: whoever reads a trace counts.
 */
#include "policy/trace.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "policy/policy.h"

#define NS 1000000000ull

static const char *const events[] = { "open", "seal", "remove", "state", NULL };
static const char *const founds[] = { "plain", "ssd", "part", "dram", "copy", NULL };
static const char *const serveds[] = { "native", "stream", "cached", NULL };
static const char *const classes[] = { "opaque", "exact", "layered", NULL };
static const char *const paths[] = { "stream", "open", NULL };
static const char *const packings[] = { "ssd", "dram", NULL };

const char *trace_found_name(enum trace_found f)
{
	return founds[f];
}

/* ---- printing ------------------------------------------------------------------- */

static void add_time(struct sbuf *out, uint64_t ns)
{
	sbuf_addf(out, " time=%llu.%09llu", (unsigned long long)(ns / NS),
		  (unsigned long long)(ns % NS));
}

static void add_bytes(struct sbuf *out, const char *key, uint64_t bytes)
{
	sbuf_addf(out, " %s=%llu", key, (unsigned long long)bytes);
}

static void add_item(struct sbuf *out, const struct cost_item *it)
{
	sbuf_addf(out, " class=%s decoded=%s layers=", classes[it->class], paths[it->path]);
	for (unsigned i = 0; i < it->levels; i++)
		sbuf_addf(out, "%s%llu", i ? "," : "",
			  (unsigned long long)it->layer_pages[i] * COST_PAGE_BYTES);
	add_bytes(out, "base", (uint64_t)it->base_pages * COST_PAGE_BYTES);
	sbuf_adds(out, " quality=");
	for (unsigned i = 0; i < it->levels; i++)
		sbuf_addf(out, "%s%.9g", i ? "," : "", (double)it->quality[i]);
	sbuf_addf(out, " floor=%.9g recompute=%.9g", (double)it->floor, (double)it->recompute_s);
	sbuf_addf(out, " pinned=%d exact=%d stored=%u memory=%u packing=%s copy=%u level=%u",
		  (it->flags & COST_PINNED) != 0, (it->flags & COST_VETO) != 0, it->now.stored,
		  it->now.dram, packings[it->now.packing], it->now.copy, it->now.level);
}

void trace_print(const struct trace_rec *r, struct sbuf *out)
{
	sbuf_adds(out, events[r->event]);
	add_time(out, r->t_ns);
	add_bytes(out, "inode", r->it.id);
	if (r->event == TRACE_REMOVE) {
		sbuf_adds(out, "\n");
		return;
	}
	add_bytes(out, "size", r->bytes);
	if (r->event == TRACE_OPEN) {
		sbuf_addf(out, " found=%s served=%s write=%d", founds[r->found],
			  serveds[r->served], r->writes);
		if (r->read_bytes != TRACE_READ_UNSEEN)
			add_bytes(out, "read", r->read_bytes);
		sbuf_addf(out, " delay=%.9f", r->delay_s);
	}
	if (r->it.levels)
		add_item(out, &r->it);
	sbuf_adds(out, "\n");
}

void trace_print_state(const struct trace_state *s, struct sbuf *out)
{
	const struct cost_rates *r = &s->rates;

	sbuf_adds(out, events[TRACE_STATE]);
	add_time(out, s->t_ns);
	sbuf_addf(out, " policy=%s", s->policy);
	add_bytes(out, "dram", s->dram_bytes);
	add_bytes(out, "room", s->room_bytes);
	add_bytes(out, "ssd", s->ssd_bytes);
	sbuf_addf(out, " evict=%d alpha=%.9g recompute=%.9g", s->params.may_remove,
		  s->params.alpha_s, s->params.recompute_s_per_page / COST_PAGE_BYTES * 1e6);
	sbuf_addf(out, " storage=%.9g,%.9g memory=%.9g copy=%.9g,%.9g recode=%.9g", r->ssd_Bps,
		  r->ssd_latency_s, r->dram_latency_s, r->copy_Bps, r->copy_latency_s,
		  r->recode_Bps);
	for (unsigned c = 0; c < COST_CLASSES; c++)
		for (unsigned p = 0; p < COST_PATHS; p++)
			for (unsigned k = 0; k < COST_PACKINGS; k++) {
				sbuf_addf(out, " %s.%s.%s=", classes[c], paths[p], packings[k]);
				for (unsigned l = 0; l < COST_LEVELS_MAX; l++)
					sbuf_addf(out, "%s%.6g", l ? "," : "",
						  r->decode_Bps[c][p][k][l]);
			}
	sbuf_adds(out, "\n");
}

/* ---- parsing -------------------------------------------------------------------- */

/* Index in @names, or -EINVAL. */
static int name_of(const char *const *names, const char *s)
{
	for (int i = 0; names[i]; i++)
		if (strcmp(names[i], s) == 0)
			return i;
	return -EINVAL;
}

static int get_name(const char *const *names, const char *s, unsigned *ret)
{
	int i = name_of(names, s);

	if (i >= 0)
		*ret = (unsigned)i;
	return i < 0 ? i : 0;
}

static int get_time(char *s, uint64_t *ret)
{
	char *dot = strchr(s, '.');
	uint64_t sec, ns = 0;
	int r;

	if (dot) {
		if (strlen(dot + 1) != 9)
			return -EINVAL;
		*dot = '\0';
	}
	/* leading zeros are decimal here */
	for (char *p = dot ? dot + 1 : NULL; p && *p; p++) {
		if (*p < '0' || *p > '9')
			return -EINVAL;
		ns = ns * 10 + (uint64_t)(*p - '0');
	}
	r = units_parse_u64(s, 0, UINT64_MAX / NS - 1, &sec);
	if (r == 0)
		*ret = sec * NS + ns;
	return r;
}

/* "a,b,c": up to @max numbers; how many, or -EINVAL. */
static int get_list(char *s, unsigned max, double hi, double *ret)
{
	unsigned n = 0;

	for (char *comma = s; comma; s = comma + 1) {
		comma = strchr(s, ',');
		if (comma)
			*comma = '\0';
		if (n == max || units_parse_double(s, 0, hi, &ret[n]) < 0)
			return -EINVAL;
		n++;
	}
	return (int)n;
}

static int get_u8(const char *s, unsigned max, uint8_t *ret)
{
	uint64_t v;
	int r = units_parse_u64(s, 0, max, &v);

	if (r == 0)
		*ret = (uint8_t)v;
	return r;
}

static int get_flag(const char *s, uint8_t bit, uint8_t *flags)
{
	uint8_t on = 0;
	int r = get_u8(s, 1, &on);

	if (on)
		*flags |= bit;
	return r;
}

/* Traces come from anywhere: what is computed from them is to stay within its types. */
#define BYTES_MAX (1ull << 53)
#define RATE_MIN 1e3 /* bytes a second; 0 is not known */

static int get_bytes(const char *s, uint64_t *ret)
{
	int r = units_parse_u64(s, 0, UINT64_MAX, ret);

	if (r == 0 && *ret > BYTES_MAX)
		*ret = BYTES_MAX;
	return r;
}

static double rate_of(double Bps)
{
	return Bps > 0 && Bps < RATE_MIN ? RATE_MIN : Bps;
}

static int get_pages(const char *s, uint32_t *ret)
{
	uint64_t v;
	int r = units_parse_u64(s, 0, UINT64_MAX, &v);

	if (r == 0)
		*ret = cost_pages(v);
	return r;
}

struct parsed {
	unsigned qualities;
	bool has_time, has_inode;
};

static int item_key(struct cost_item *it, struct parsed *ps, const char *k, char *v)
{
	double list[COST_LEVELS_MAX];
	unsigned name = 0;
	int r = 0;

	if (strcmp(k, "layers") == 0) {
		r = get_list(v, COST_LEVELS_MAX, 1e18, list);
		it->levels = (uint8_t)(r > 0 ? r : 0);
		for (int i = 0; i < r; i++)
			it->layer_pages[i] = cost_pages((uint64_t)list[i]);
	} else if (strcmp(k, "quality") == 0) {
		r = get_list(v, COST_LEVELS_MAX, 1, list);
		ps->qualities = (unsigned)(r > 0 ? r : 0);
		for (int i = 0; i < r; i++)
			it->quality[i] = (float)list[i];
	} else if (strcmp(k, "class") == 0) {
		r = get_name(classes, v, &name);
		it->class = (uint8_t)name;
	} else if (strcmp(k, "decoded") == 0) {
		r = get_name(paths, v, &name);
		it->path = (uint8_t)name;
	} else if (strcmp(k, "packing") == 0) {
		r = get_name(packings, v, &name);
		it->now.packing = (uint8_t)name;
	} else if (strcmp(k, "base") == 0) {
		r = get_pages(v, &it->base_pages);
	} else if (strcmp(k, "floor") == 0) {
		r = units_parse_double(v, 0, 1e9, &list[0]);
		it->floor = r == 0 ? (float)list[0] : 1;
	} else if (strcmp(k, "recompute") == 0) {
		r = units_parse_double(v, -1, 1e9, &list[0]);
		it->recompute_s = r == 0 ? (float)list[0] : -1;
	} else if (strcmp(k, "pinned") == 0) {
		r = get_flag(v, COST_PINNED, &it->flags);
	} else if (strcmp(k, "exact") == 0) {
		r = get_flag(v, COST_VETO, &it->flags);
	} else if (strcmp(k, "stored") == 0) {
		r = get_u8(v, COST_LEVELS_MAX, &it->now.stored);
	} else if (strcmp(k, "memory") == 0) {
		r = get_u8(v, COST_LEVELS_MAX, &it->now.dram);
	} else if (strcmp(k, "copy") == 0) {
		r = get_u8(v, 1, &it->now.copy);
	} else if (strcmp(k, "level") == 0) {
		r = get_u8(v, COST_LEVELS_MAX - 1, &it->now.level);
	}
	return r < 0 ? r : 0;
}

static int rec_key(struct trace_rec *r, struct parsed *ps, const char *k, char *v)
{
	unsigned name = 0;
	uint8_t flag = 0;
	int e;

	if (strcmp(k, "inode") == 0) {
		ps->has_inode = true;
		return units_parse_u64(v, 0, UINT64_MAX, &r->it.id);
	}
	if (strcmp(k, "size") == 0)
		return get_bytes(v, &r->bytes);
	if (strcmp(k, "read") == 0)
		return units_parse_u64(v, 0, INT64_MAX, &r->read_bytes);
	if (strcmp(k, "delay") == 0)
		return units_parse_double(v, 0, 1e9, &r->delay_s);
	if (strcmp(k, "found") == 0) {
		e = get_name(founds, v, &name);
		r->found = (enum trace_found)name;
		return e;
	}
	if (strcmp(k, "served") == 0) {
		e = get_name(serveds, v, &name);
		r->served = (enum trace_served)name;
		return e;
	}
	if (strcmp(k, "write") == 0) {
		e = get_u8(v, 1, &flag);
		r->writes = flag;
		return e;
	}
	return item_key(&r->it, ps, k, v);
}

/* "layered.stream.dram=..." */
static int rates_key(struct cost_rates *r, char *k, char *v)
{
	char *p = strchr(k, '.'), *q = p ? strchr(p + 1, '.') : NULL;
	unsigned c, path, pack;

	if (!q)
		return 0; /* of a later version */
	*p = *q = '\0';
	if (get_name(classes, k, &c) < 0 || get_name(paths, p + 1, &path) < 0 ||
	    get_name(packings, q + 1, &pack) < 0)
		return 0;
	if (get_list(v, COST_LEVELS_MAX, 1e18, r->decode_Bps[c][path][pack]) != (int)COST_LEVELS_MAX)
		return -EINVAL;
	for (unsigned l = 0; l < COST_LEVELS_MAX; l++)
		r->decode_Bps[c][path][pack][l] = rate_of(r->decode_Bps[c][path][pack][l]);
	return 0;
}

/* Both of "Bps,latency". */
static int get_pair(char *v, double *a, double *b)
{
	double list[2];

	if (get_list(v, 2, 1e18, list) != 2 || list[1] > 1e9)
		return -EINVAL;
	*a = rate_of(list[0]);
	*b = list[1];
	return 0;
}

static int state_key(struct trace_state *s, char *k, char *v)
{
	struct cost_rates *r = &s->rates;
	uint8_t flag = 0;
	int e;

	if (strcmp(k, "policy") == 0) {
		if (strlen(v) >= sizeof(s->policy) || !policy_by_name(v))
			return -EINVAL; /* it is shown */
		strcpy(s->policy, v);
		return 0;
	}
	if (strcmp(k, "dram") == 0)
		return get_bytes(v, &s->dram_bytes);
	if (strcmp(k, "room") == 0)
		return get_bytes(v, &s->room_bytes);
	if (strcmp(k, "ssd") == 0)
		return get_bytes(v, &s->ssd_bytes);
	if (strcmp(k, "alpha") == 0)
		return units_parse_double(v, 0, 1e9, &s->params.alpha_s);
	if (strcmp(k, "evict") == 0) {
		e = get_u8(v, 1, &flag);
		s->params.may_remove = flag;
		return e;
	}
	if (strcmp(k, "recompute") == 0) {
		e = units_parse_double(v, 0, 1e9, &s->params.recompute_s_per_page);
		s->params.recompute_s_per_page *= COST_PAGE_BYTES / 1e6;
		return e;
	}
	if (strcmp(k, "storage") == 0)
		return get_pair(v, &r->ssd_Bps, &r->ssd_latency_s);
	if (strcmp(k, "copy") == 0)
		return get_pair(v, &r->copy_Bps, &r->copy_latency_s);
	if (strcmp(k, "memory") == 0)
		return units_parse_double(v, 0, 1e9, &r->dram_latency_s);
	if (strcmp(k, "recode") == 0) {
		e = units_parse_double(v, 0, 1e18, &r->recode_Bps);
		r->recode_Bps = rate_of(r->recode_Bps);
		return e;
	}
	return rates_key(r, k, v);
}

/* Of what was said, does it hold together? */
static bool rec_check(struct trace_rec *r, const struct parsed *ps)
{
	struct cost_item *it = &r->it;

	if (!ps->has_inode)
		return false;
	if (it->levels == 0)
		return r->event != TRACE_SEAL;
	it->decoded_pages = cost_pages(r->bytes);
	return ps->qualities == it->levels && it->now.stored > 0 &&
	       it->now.stored <= it->levels && it->now.level < it->levels && cost_item_check(it);
}

int trace_parse(char *line, struct trace_rec *r, struct trace_state *s)
{
	struct parsed ps = { 0 };
	char *save = NULL, *word = strtok_r(line, " ", &save);
	int event = word ? name_of(events, word) : -EINVAL, e = 0;
	struct trace_state st = { .t_ns = 0 };

	if (event < 0)
		return event;
	*r = (struct trace_rec){ .event = (enum trace_event)event,
				 .read_bytes = TRACE_READ_UNSEEN,
				 .it = { .recompute_s = -1, .floor = 1 } };
	while (e == 0 && (word = strtok_r(NULL, " ", &save))) {
		char *v = strchr(word, '=');

		if (!v)
			return -EINVAL;
		*v++ = '\0';
		if (strcmp(word, "time") == 0) {
			e = get_time(v, &r->t_ns);
			ps.has_time = true;
		} else if (event == TRACE_STATE) {
			e = state_key(&st, word, v);
		} else {
			e = rec_key(r, &ps, word, v);
		}
	}
	if (e < 0 || !ps.has_time)
		return -EINVAL;
	if (event == TRACE_STATE) {
		st.t_ns = r->t_ns;
		*s = st;
		return event;
	}
	return rec_check(r, &ps) ? event : -EINVAL;
}
