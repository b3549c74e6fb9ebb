/* SPDX-License-Identifier: MIT */
/*
 * Device speed as seen by its readers. Bandwidth is sampled while much is in flight only,
 * in one read or in many: a lone 4 KiB read says how long the device takes to answer,
 * not how much it can move. What is read with little in flight (movers do) counts only
 * until somebody had more. A sample closes after 20 ms and 4 MiB of that.
 */
#include "tiers/meter.h"

#include "base/clock.h"

#define METER_SAMPLE_NS (20 * NSEC_PER_MSEC)
#define METER_SAMPLE_BYTES (4u << 20)

static double meter_average(double old, double sample, double weight)
{
	return old > 0 ? old + (sample - old) * weight : sample;
}

static void rate_begin(struct meter_rate *m, uint64_t now, bool enough)
{
	if (!enough || m->sampling)
		return;
	m->sampling = true;
	m->since_ns = now;
}

static void rate_add(struct meter_rate *m, uint64_t now, uint64_t bytes, bool enough)
{
	if (!m->sampling)
		return;
	m->ns += now - m->since_ns;
	m->since_ns = now;
	m->bytes += bytes;
	m->sampling = enough;
	if (m->ns < METER_SAMPLE_NS || m->bytes < METER_SAMPLE_BYTES)
		return;
	m->Bps = meter_average(m->Bps, (double)m->bytes * 1e9 / (double)m->ns, 0.25);
	m->ns = m->bytes = 0;
}

void tier_meter_start(struct tier_meter *m, struct tier_read *r)
{
	uint64_t now = clock_mono_ns();

	r->submit_ns = now;
	r->lone = !m->s.in_flight;
	if (!m->s.in_flight++)
		m->busy_since_ns = now;
	if (m->s.in_flight > m->s.depth_max)
		m->s.depth_max = m->s.in_flight;
	m->in_flight_bytes += r->len;
	rate_begin(&m->large, now, m->in_flight_bytes >= TIER_LARGE_BYTES);
	rate_begin(&m->deep, now, m->in_flight_bytes >= TIER_DEEP_BYTES);
}

void tier_meter_finish(struct tier_meter *m, const struct tier_read *r, ssize_t res)
{
	uint64_t now = clock_mono_ns(), got;

	m->s.reads++;
	if (res < 0)
		m->s.errors++;
	else
		m->s.read_bytes += (uint64_t)res;
	if (r->lone)
		m->s.latency_ns = meter_average(m->s.latency_ns, (double)(now - r->submit_ns), 1.0 / 16);
	m->in_flight_bytes -= r->len;
	got = res > 0 ? (uint64_t)res : 0;
	rate_add(&m->large, now, got, m->in_flight_bytes >= TIER_LARGE_BYTES);
	rate_add(&m->deep, now, got, m->in_flight_bytes >= TIER_DEEP_BYTES);
	if (!--m->s.in_flight)
		m->s.busy_ns += now - m->busy_since_ns;
}

void tier_meter_get(const struct tier_meter *m, struct tier_stats *ret)
{
	*ret = m->s;
	ret->bandwidth_Bps = m->deep.Bps > 0 ? m->deep.Bps : m->large.Bps;
	if (m->s.in_flight)
		ret->busy_ns += clock_mono_ns() - m->busy_since_ns;
}
