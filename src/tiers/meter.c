/* SPDX-License-Identifier: MIT */
/*
 * Device speed as seen by its readers. Bandwidth is sampled while much is in flight only,
 * in one read or in many: a lone 4 KiB read says how long the device takes to answer,
 * not how much it can move. A sample closes after 20 ms and 4 MiB of that.
 */
#include "tiers/meter.h"

#include "base/clock.h"

#define METER_SAMPLE_NS (20 * NSEC_PER_MSEC)
#define METER_SAMPLE_BYTES (4u << 20)

static double meter_average(double old, double sample, double weight)
{
	return old > 0 ? old + (sample - old) * weight : sample;
}

void tier_meter_start(struct tier_meter *m, struct tier_read *r)
{
	uint64_t now = clock_mono_ns();

	r->submit_ns = now;
	if (!m->s.in_flight++)
		m->busy_since_ns = now;
	if (m->s.in_flight > m->s.depth_max)
		m->s.depth_max = m->s.in_flight;
	m->in_flight_bytes += r->len;
	if (m->in_flight_bytes >= TIER_LARGE_BYTES && !m->sampling) {
		m->sampling = true;
		m->since_ns = now;
	}
}

static void meter_sample(struct tier_meter *m, uint64_t now, uint64_t bytes)
{
	m->sample_ns += now - m->since_ns;
	m->since_ns = now;
	m->sample_bytes += bytes;
	if (m->sample_ns < METER_SAMPLE_NS || m->sample_bytes < METER_SAMPLE_BYTES)
		return;
	m->s.bandwidth_Bps = meter_average(m->s.bandwidth_Bps,
					   (double)m->sample_bytes * 1e9 / (double)m->sample_ns,
					   0.25);
	m->sample_ns = m->sample_bytes = 0;
}

void tier_meter_finish(struct tier_meter *m, const struct tier_read *r, ssize_t res)
{
	uint64_t now = clock_mono_ns();

	m->s.reads++;
	if (res < 0)
		m->s.errors++;
	else
		m->s.read_bytes += (uint64_t)res;
	m->s.latency_ns = meter_average(m->s.latency_ns, (double)(now - r->submit_ns), 1.0 / 16);
	if (m->sampling)
		meter_sample(m, now, res > 0 ? (uint64_t)res : 0);
	m->in_flight_bytes -= r->len;
	if (m->in_flight_bytes < TIER_LARGE_BYTES)
		m->sampling = false;
	if (!--m->s.in_flight)
		m->s.busy_ns += now - m->busy_since_ns;
}

void tier_meter_get(const struct tier_meter *m, struct tier_stats *ret)
{
	*ret = m->s;
	if (m->s.in_flight)
		ret->busy_ns += clock_mono_ns() - m->busy_since_ns;
}
