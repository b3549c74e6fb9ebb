// SPDX-License-Identifier: MIT
#include "codec_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"
#include "bench.h"
#include "codecs/codec.h"

static void help(void)
{
	printf("Usage: kvcachebench codec [OPTION...] [FILE|DIR...]\n\n"
	       "Ratio, encoding and decoding speed of each codec on one core, beside memcpy;\n"
	       "then what each level of the ladder and plain quantisers cost: bits per value,\n"
	       "error of attention's output, and with a model next tokens that change. FILEs\n"
	       "are KV caches, cut as the filesystem cuts them; without any, synthetic values\n"
	       "show the speeds (their ratios say nothing about caches).\n\n"
	       "  --dtype=T      files without a recognised layout hold T: bf16, f16, f32,\n"
	       "                 fp8_e4m3, fp8_e5m2; also the type of synthetic values\n"
	       "  --row=BYTES    bytes of one token's row in such files\n"
	       "  --skip=BYTES   bytes before the first row in such files\n"
	       "  --layout=TEXT  a declaration as in user.kvcache.layout\n"
	       "  --chunk=BYTES  chunk size aimed at (default 1M, at most 4M)\n"
	       "  --bytes=BYTES  decoded size that a pass works through (default 256M)\n"
	       "  --rounds=N     rounds (default 5)\n"
	       "  --codec=NAME   this codec only, beside memcpy\n"
	       "  --quality, --no-quality  the second table or not (default: up to 64 MiB)\n"
	       "  --model=GGUF   measure next tokens with this model, by kvlm; files must be\n"
	       "                 caches of it\n"
	       "  --kvlm=FILE    the kvlm to ask (default: beside this program)\n"
	       "  --plot=SVG     draw rate and quality, by gnuplot\n"
	       "  --no-quiet     leave scheduling alone\n"
	       "  --json         one JSON object instead of a table\n");
}

enum { OPT_DTYPE = 256, OPT_ROW, OPT_SKIP, OPT_LAYOUT, OPT_CHUNK, OPT_BYTES, OPT_ROUNDS, OPT_CODEC,
       OPT_NO_QUIET, OPT_JSON, OPT_QUALITY, OPT_NO_QUALITY, OPT_MODEL, OPT_KVLM, OPT_PLOT };

static const struct option long_options[] = {
	{ "dtype", required_argument, NULL, OPT_DTYPE },
	{ "row", required_argument, NULL, OPT_ROW },
	{ "skip", required_argument, NULL, OPT_SKIP },
	{ "layout", required_argument, NULL, OPT_LAYOUT },
	{ "chunk", required_argument, NULL, OPT_CHUNK },
	{ "bytes", required_argument, NULL, OPT_BYTES },
	{ "rounds", required_argument, NULL, OPT_ROUNDS },
	{ "codec", required_argument, NULL, OPT_CODEC },
	{ "no-quiet", no_argument, NULL, OPT_NO_QUIET },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "quality", no_argument, NULL, OPT_QUALITY },
	{ "no-quality", no_argument, NULL, OPT_NO_QUALITY },
	{ "model", required_argument, NULL, OPT_MODEL },
	{ "kvlm", required_argument, NULL, OPT_KVLM },
	{ "plot", required_argument, NULL, OPT_PLOT },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* A byte count within [min, max]. */
static int parse_size(const char *s, uint64_t min, uint64_t max, uint64_t *ret)
{
	int r = units_parse_bytes(s, ret);

	return r == 0 && (*ret < min || *ret > max) ? -ERANGE : r;
}

static int parse_option(int c, void *arg)
{
	struct codec_options *o = arg;
	uint64_t v = 0;
	int r = 0;

	switch (c) {
	case OPT_DTYPE:
		o->in.dtype = elem_parse(optarg);
		return o->in.dtype < 0 ? -EINVAL : 0;
	case OPT_ROW:
		r = parse_size(optarg, 1, CODEC_CHUNK_MAX, &v);
		o->in.row_bytes = (uint32_t)v;
		return r;
	case OPT_SKIP:
		return parse_size(optarg, 0, 1ull << 40, &o->in.skip_bytes);
	case OPT_LAYOUT:
		o->in.declared = optarg;
		return 0;
	case OPT_CHUNK:
		r = parse_size(optarg, 4096, CODEC_CHUNK_MAX, &v);
		o->in.chunk_bytes = (uint32_t)v;
		return r;
	case OPT_BYTES:
		return parse_size(optarg, 1 << 20, 1ull << 40, &o->bytes);
	case OPT_ROUNDS:
		r = units_parse_u64(optarg, 1, BENCH_ROUNDS_MAX, &v);
		o->rounds = (unsigned)v;
		return r;
	case OPT_CODEC:
		o->only = optarg;
		return 0;
	case OPT_NO_QUIET:
		o->quiet_sched = false;
		return 0;
	case OPT_QUALITY:
		o->quality = 1;
		return 0;
	case OPT_NO_QUALITY:
		o->quality = -1;
		return 0;
	case OPT_MODEL:
		o->q.model = optarg;
		o->quality = 1;
		return 0;
	case OPT_KVLM:
		o->q.kvlm = optarg;
		return 0;
	case OPT_PLOT:
		o->q.plot = optarg;
		o->quality = 1;
		return 0;
	default:
		o->json = true;
		return 0;
	}
}

/* kvlm as it lies in a build or is installed; else the shell's path has it. */
static void find_kvlm(struct codec_options *o)
{
	static const char *const places[] = { "../kvlm/kvlm", "kvlm" };
	char exe[2048];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	o->q.kvlm = "kvlm";
	if (n <= 0)
		return;
	exe[n] = 0;
	slash = strrchr(exe, '/');
	for (size_t i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(o->kvlm, sizeof(o->kvlm), "%.*s/%s", (int)(slash - exe), exe, places[i]);
		if (access(o->kvlm, X_OK) == 0) {
			o->q.kvlm = o->kvlm;
			return;
		}
	}
}

int codec_options_parse(int argc, char **argv, struct codec_options *o)
{
	int r;

	*o = (struct codec_options){
		.in = { .dtype = -1, .chunk_bytes = 1u << 20 },
		.bytes = 256u << 20,
		.rounds = 5,
		.quiet_sched = true,
		.q = { .dir = "/tmp" },
	};

	r = bench_options(argc, argv, long_options, parse_option, o);
	if (r == 1)
		help();
	if (r)
		return r;
	o->first = optind;
	if (!o->q.kvlm)
		find_kvlm(o);
	return 0;
}
