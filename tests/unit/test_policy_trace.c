/* SPDX-License-Identifier: MIT */
/* The text of recorded accesses: what is written reads back, and what is damaged is left out. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/trace_set.h"
#include "policy_items.h"
#include "testlib.h"

#define SEC 1000000000ull

static struct trace_rec make(uint64_t ino, uint64_t t_ns)
{
	struct trace_rec r = { .event = TRACE_OPEN, .t_ns = t_ns, .bytes = 1000000, .found = TRACE_PART,
			       .served = TRACE_STREAM, .read_bytes = 4096, .delay_s = 0.012345678,
			       .it = { .id = ino, .layer_pages = { 20, 30, 40 }, .base_pages = 22,
				       .decoded_pages = 245, .quality = { 0.5f, 0.875f, 1 },
				       .floor = 0.25f, .recompute_s = 1.5f, .levels = 3,
				       .class = COST_CLASS_LADDER, .path = COST_PATH_OPEN,
				       .flags = COST_PINNED,
				       .now = { .stored = 3, .dram = 1, .packing = COST_PACK_DRAM,
						.level = 1 } } };

	return r;
}

static int parse(struct sbuf *b, struct trace_rec *r, struct trace_state *s)
{
	cr_assert(b->len && b->s[b->len - 1] == '\n');
	b->s[b->len - 1] = 0;
	return trace_parse(b->s, r, s);
}

Test(policy_trace, records_read_back_as_they_were)
{
	struct trace_rec in = make(7, 1700000000 * SEC + 5), out;
	struct sbuf b = SBUF_INIT;
	struct trace_state s;

	trace_print(&in, &b);
	cr_assert_lt(b.len, TRACE_LINE_MAX);
	cr_assert_eq(parse(&b, &out, &s), TRACE_OPEN);
	cr_assert_eq(out.t_ns, in.t_ns);
	cr_assert_eq(out.bytes, in.bytes);
	cr_assert(out.found == in.found && out.served == in.served && out.read_bytes == 4096);
	cr_assert_float_eq(out.delay_s, in.delay_s, 1e-9);
	cr_assert(out.it.id == 7 && out.it.levels == 3 && out.it.flags == COST_PINNED);
	cr_assert_arr_eq(out.it.layer_pages, in.it.layer_pages, sizeof(in.it.layer_pages));
	cr_assert(out.it.base_pages == 22 && out.it.decoded_pages == 245);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(out.it.quality[i], in.it.quality[i]);
	cr_assert(out.it.floor == 0.25f && out.it.recompute_s == 1.5f);
	cr_assert(out.it.class == COST_CLASS_LADDER && out.it.path == COST_PATH_OPEN);
	cr_assert(cost_same(&out.it.now, &in.it.now));
	sbuf_fini(&b);
}

Test(policy_trace, states_read_back_as_they_were)
{
	struct trace_state in = { .t_ns = SEC, .policy = "fixed:1", .dram_bytes = 1u << 30, .room_bytes = 7,
				  .ssd_bytes = 1ull << 40,
				  .params = { .alpha_s = 2.5, .recompute_s_per_page = 0.25,
					      .may_remove = true } }, out;
	struct sbuf b = SBUF_INIT;
	struct trace_rec r;

	policy_rates(&in.rates);
	trace_print_state(&in, &b);
	cr_assert_lt(b.len, TRACE_LINE_MAX);
	cr_assert_eq(parse(&b, &r, &out), TRACE_STATE);
	cr_assert_str_eq(out.policy, "fixed:1");
	cr_assert(out.dram_bytes == in.dram_bytes && out.ssd_bytes == in.ssd_bytes &&
		  out.room_bytes == 7);
	cr_assert(out.params.may_remove && out.params.alpha_s == 2.5);
	cr_assert_float_eq(out.params.recompute_s_per_page, 0.25, 1e-9);
	cr_assert_float_eq(out.rates.ssd_Bps, in.rates.ssd_Bps, 1);
	for (unsigned l = 0; l < COST_LEVELS_MAX; l++)
		cr_assert_float_eq(out.rates.decode_Bps[2][1][0][l] / in.rates.decode_Bps[2][1][0][l], 1,
				   1e-5);
	sbuf_fini(&b);
}

Test(policy_trace, what_is_no_record_is_refused)
{
	static const char *const bad[] = {
		"", " ", "open", "walk time=1 inode=1", "open time=1", "open inode=1 size=4",
		"open time=1 inode", "open time=-1 inode=1", "open time=1.5 inode=1",
		"open time=1 inode=1 size=4 layers=1,2,3,4,5,6,7,8,9 quality=1 stored=1 level=0",
		"open time=1 inode=1 size=4 layers=4096 quality=1,1 stored=1 level=0",
		"open time=1 inode=1 size=4 layers=4096 quality=2 stored=1 level=0",
		"open time=1 inode=1 size=4 layers=4096 quality=1 stored=2 level=0",
		"open time=1 inode=1 size=4 layers=4096 quality=1 stored=1 level=1",
		"open time=1 inode=1 size=4 layers=4096 quality=1 class=9 stored=1 level=0",
		"open time=1 inode=1 size=4 layers=, quality=1 stored=1 level=0",
		"seal time=1 inode=1 size=4", "state time=1 dram=x", "state time=1 storage=1",
		"state time=1 policy=best", "state time=1 policy=\033[31mlru", "state time=1 storage=1,1e10",
		"open time=99999999999999999999 inode=1 size=4",
	};
	struct trace_state s;
	struct trace_rec r;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char line[256];

		snprintf(line, sizeof(line), "%s", bad[i]);
		cr_assert_lt(trace_parse(line, &r, &s), 0, "'%s'", bad[i]);
	}
	/* sizes and rates that nobody has are brought to some that can be reckoned with */
	char huge[] = "state time=1 policy=lru dram=18446744073709551615 room=18446744073709551615 "
		      "storage=1e-18,0.1 recode=1e-300 exact.open.dram=1e-18,0,1,1,1,1,1,1";

	cr_assert_eq(trace_parse(huge, &r, &s), TRACE_STATE);
	cr_assert(s.dram_bytes >= 1ull << 50 && s.dram_bytes < UINT64_MAX / 1000 &&
		  s.room_bytes == s.dram_bytes);
	cr_assert(s.rates.ssd_Bps >= 1 && s.rates.recode_Bps >= 1);
	cr_assert(s.rates.decode_Bps[1][1][1][0] >= 1 && s.rates.decode_Bps[1][1][1][1] == 0);
	char later[] = "open time=1 inode=3 size=4096 colour=red layers=4096 quality=1 stored=1 level=0";

	cr_assert_eq(trace_parse(later, &r, &s), TRACE_OPEN);
}

/* ---- a whole one ------------------------------------------------------------------ */

static void add(struct sbuf *b, uint64_t ino, double t, bool writes)
{
	struct trace_rec r = make(ino, (uint64_t)(t * 1e9));

	r.writes = writes;
	trace_print(&r, b);
}

static void add_removal(struct sbuf *b, uint64_t ino)
{
	trace_print(&(struct trace_rec){ .event = TRACE_REMOVE, .t_ns = SEC, .it = { .id = ino } }, b);
}

Test(policy_trace, sets_are_in_order_and_without_what_cannot_be_held)
{
	struct trace_set s = { .n = 0 };
	struct sbuf b = SBUF_INIT;
	struct trace_summary u;

	sbuf_adds(&b, TRACE_HEAD);
	add(&b, 5, 3, false);
	sbuf_adds(&b, "open time=1 inode=9 size=77 found=plain served=native write=0 delay=0.1\n");
	add(&b, 6, 2, false);
	add(&b, 6, 1, true); /* for writing */
	add_removal(&b, 5);
	add(&b, 5, 4, false); /* another file of that number */
	sbuf_adds(&b, "open time=1 in");
	cr_assert_eq(trace_set_add(&s, b.s, b.len), 0);
	cr_assert_eq(trace_set_finish(&s), 0);
	cr_assert(s.n == 3 && s.n_a == 3 && s.left_out == 2 && s.damaged == 1);
	cr_assert(s.a[0].ctx == 1 && s.a[1].ctx == 0 && s.a[2].ctx == 2);
	cr_assert(s.it[0].heat == 1 && s.it[0].now.dram == 0 && s.bytes[2] == 1000000);
	cr_assert_eq(trace_set_summary(&s, 0, &u), 0);
	cr_assert(u.reads == 3 && u.hit_share == 0);
	cr_assert_float_eq(u.quality, 0.875, 1e-6);
	cr_assert_float_eq(u.span_s, 2, 1e-9);
	trace_set_fini(&s);
	sbuf_fini(&b);
}

Test(policy_trace, sets_of_nothing_say_so)
{
	struct trace_set s = { .n = 0 };
	char none[] = "some text\n", head[] = TRACE_HEAD;

	cr_assert_eq(trace_set_add(&s, none, strlen(none)), -KVFS_EFORMAT);
	cr_assert_eq(trace_set_add(&s, none, 0), -KVFS_EFORMAT);
	cr_assert_eq(trace_set_add(&s, head, strlen(head)), 0);
	cr_assert_eq(trace_set_finish(&s), -ENODATA);
	trace_set_fini(&s);
}

/* Any byte may be another one, and any number of contexts may come. */
Test(policy_trace, damage_costs_only_its_lines)
{
	uint64_t seed = 1;

	for (unsigned round = 0; round < 200; round++) {
		struct trace_set s = { .n = 0 };
		struct sbuf b = SBUF_INIT;

		sbuf_adds(&b, TRACE_HEAD);
		for (unsigned i = 0; i < 30; i++)
			add(&b, i, i, false);
		for (unsigned i = 0; i < 5; i++)
			b.s[strlen(TRACE_HEAD) + test_rand(&seed) % (b.len - strlen(TRACE_HEAD))] =
				(char)test_rand(&seed);
		cr_assert_eq(trace_set_add(&s, b.s, b.len), 0);
		cr_assert_eq(trace_set_finish(&s), 0);
		cr_assert(s.damaged + s.records >= 20 && s.n_a >= 20);
		trace_set_fini(&s);
		sbuf_fini(&b);
	}
}

Test(policy_trace, many_contexts_are_told_apart)
{
	struct trace_set s = { .n = 0 };
	struct sbuf b = SBUF_INIT;

	sbuf_adds(&b, TRACE_HEAD);
	for (unsigned i = 0; i < 6000; i++)
		add(&b, (uint64_t)(i % 3000) << 20, i, false);
	cr_assert_eq(trace_set_add(&s, b.s, b.len), 0);
	cr_assert_eq(trace_set_finish(&s), 0);
	cr_assert(s.n == 3000 && s.n_a == 6000 && s.it[2999].heat == 2);
	trace_set_fini(&s);
	sbuf_fini(&b);
}

/* The model gives each kind of read what it took, whatever the meters said. */
Test(policy_trace, rates_are_what_readers_saw)
{
	struct trace_set s = { .n = 0 };
	struct sbuf b = SBUF_INIT;
	struct trace_state st = { .policy = "lru" };
	struct cost_params params = { .alpha_s = 0 };
	struct cost_place at = { .stored = 3, .packing = COST_PACK_DRAM, .level = 1 };
	struct cost_model m;
	struct cost_rates r;
	double took[3] = { 0.0021, 0.0073, 0.0009 }; /* memory, device, copy */

	policy_rates(&st.rates);
	st.rates.dram_latency_s = st.rates.ssd_latency_s = st.rates.copy_latency_s = 0.0001;
	sbuf_adds(&b, TRACE_HEAD);
	trace_print_state(&st, &b);
	for (unsigned i = 0; i < 60; i++) {
		struct trace_rec rec = make(i % 4, i * SEC);
		bool together = i >= 30 && i < 36;

		rec.bytes = 245 * COST_PAGE_BYTES;
		rec.read_bytes = i < 57 ? rec.bytes : 1; /* parts say nothing */
		rec.found = (enum trace_found[]){ TRACE_DRAM, TRACE_SSD, TRACE_COPY }[i % 3];
		rec.it.now.dram = i % 3 == 0 ? 3 : 0;
		rec.delay_s = (i < 57 ? 1 : 7) * took[i % 3];
		if (i % 3 == 1 && together) /* they overlap */
			rec.delay_s = 3.5;
		trace_print(&rec, &b);
	}
	cr_assert_eq(trace_set_add(&s, b.s, b.len), 0);
	cr_assert_eq(trace_set_finish(&s), 0);
	trace_set_rates(&s, 0, s.n_a, &r);
	cost_model_init(&m, &r, &params);
	at.level = s.seen[0].at.level;
	cr_assert_float_eq(cost_delay(&m, &s.it[0], &at), took[1], took[1] * 0.02);
	at.dram = 3;
	cr_assert_float_eq(cost_delay(&m, &s.it[0], &at), took[0], took[0] * 0.02);
	at.copy = 1;
	cr_assert_float_eq(cost_delay(&m, &s.it[0], &at), took[2], took[2] * 0.02);
	/* of another level what is between decoder and reader takes longer likewise */
	cr_assert_neq(r.decode_Bps[COST_CLASS_LADDER][COST_PATH_OPEN][COST_PACK_DRAM][0],
		      s.state.rates.decode_Bps[COST_CLASS_LADDER][COST_PATH_OPEN][COST_PACK_DRAM][0]);
	cr_assert_eq(r.decode_Bps[COST_CLASS_PLANES][COST_PATH_OPEN][COST_PACK_DRAM][0],
		     s.state.rates.decode_Bps[COST_CLASS_PLANES][COST_PATH_OPEN][COST_PACK_DRAM][0]);
	trace_set_rates(&s, 0, 6, &r); /* too few */
	cr_assert_eq(r.ssd_Bps, s.state.rates.ssd_Bps);
	trace_set_fini(&s);
	sbuf_fini(&b);
}
