/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_PLACEMENT_H
#define KVCACHEBENCH_PLACEMENT_H
/*
 * kvcachebench placement: how long loading takes and what the answers are worth,
 * under a load of many contexts that do not fit into DRAM, for each of a table of
 * systems on the same mount.
 *
 *   set      the contexts: real caches of kvlm's task suites (placement_set.c)
 *   form     one content that a context may be read as: exact, a level, or what a
 *            client's quantiser gives back; known by the hash of its bytes, with the
 *            answers' score from exactly these bytes (placement_quality.c)
 *   system   a mount's options and what is done to each file (placement_system.c)
 *   cell     popularity, budgets, throttled or not
 *   run      one system in one cell once (placement_run.c)
 */
#include <stdbool.h>
#include <stdint.h>

#include "rig.h"

#define PLACE_FORMS_MAX 16u
#define PLACE_SYSTEMS_MAX 40u
#define PLACE_LIST_MAX 16u
#define PLACE_REPEATS_MAX 30u
#define PLACE_READERS_MAX 16u
#define PLACE_SUITES 3u
#define PLACE_SECONDS_MAX 60u

struct place_list {
	double v[PLACE_LIST_MAX];
	unsigned n;
};

struct place_options {
	struct rig_options rig;
	const char *tasks;      /* NULL: beside the model */
	unsigned contexts;      /* of each suite */
	unsigned requests, warmup, history, repeats, readers;
	unsigned minutes;       /* 0: as many as it takes */
	bool prepare;           /* nothing is run */
	bool keep;              /* stores stay where they are */
	double rate;            /* arrivals a second */
	double recompute_s_per_mb;
	struct place_list zipf; /* exponents */
	struct place_list dram; /* shares of the raw working set */
	struct place_list alpha;
	int throttle;           /* 1 yes, 0 no, -1 both */
	uint64_t throttle_Bps;
	uint64_t seed;
	const char *plot;       /* an SVG to draw; NULL */
};
/* 0 go on, 1 help was shown, -EINVAL said why. */
WUR int place_options_parse(int argc, char **argv, struct place_options *o);

/* ---- forms ------------------------------------------------------------------ */

struct place_form {
	char label[32];    /* "exact", "level:1", "kivi:4", "drop:window:0.25" */
	bool needed;       /* by a system that is there */
	bool known;        /* all contexts have it */
};

/* One context as one form. */
struct place_view {
	uint64_t sum;      /* of all bytes as read; 0: not known */
	double queries, score, agree;
	uint64_t stored;   /* bytes on SSD; 0: not known */
};

struct place_context {
	char name[40];     /* "recall-007.bin" */
	unsigned suite;
	uint64_t bytes;
	struct place_view view[PLACE_FORMS_MAX];
};

struct place_set {
	struct place_context *c; /* owned */
	unsigned n;
	uint64_t bytes, max_bytes;
	char dir[RIG_PATH], tasks[RIG_PATH], model[RIG_PATH], kvlm[RIG_PATH];
	struct place_form form[PLACE_FORMS_MAX];
	unsigned n_forms;        /* the first one is exact */
};
WUR int place_set_open(struct rig *g, const struct place_options *o, struct place_set *ret);
void place_set_fini(struct place_set *s);
/* Index of the form, made if there is none; PLACE_FORMS_MAX when there are too many. */
unsigned place_form_get(struct place_set *s, const char *label);
/* Reads a context as it was made, into a buffer of max_bytes. */
WUR int place_source(const struct place_set *s, unsigned ctx, void *buf);

/* ---- systems ---------------------------------------------------------------- */

enum place_how { PLACE_FILE, PLACE_KIVI, PLACE_NONE };

struct place_system {
	char name[40];     /* "level:1 + lru" */
	char family[32];   /* one curve of the picture */
	char options[96];  /* of the mount, beside the budgets */
	char level[40];    /* set on each file by user.kvcache.level; "" not */
	char form[32];     /* what it reads as; "*": any known level */
	enum place_how how;
	unsigned bits;     /* of PLACE_KIVI */
	bool fixed;        /* one of those that adaptive is compared with */
	const char *why_not; /* static; NULL: available */
};

struct place_systems {
	struct place_system s[PLACE_SYSTEMS_MAX];
	unsigned n;
};
/* The table, with adaptive once for each alpha; asks the daemon which options it has. */
void place_systems_init(struct rig *g, const struct place_options *o, struct place_systems *ret);
/* True when the daemon takes these options. */
bool place_daemon_takes(struct rig *g, const char *options);

/* A file as an engine writes it: under another name, then renamed. Then its level. */
struct place_writer {
	const struct place_set *set;
	const struct place_system *sys;
	const char *mnt;
	void *buf, *packed; /* owned; of max_bytes and a page more */
	unsigned id;
};
WUR int place_writer_init(struct place_writer *w, const struct place_set *s,
			  const struct place_system *sys, const char *mnt, unsigned id);
void place_writer_fini(struct place_writer *w);
/* -ENOSPC and -EDQUOT quietly, others said. @settle: sealed when it returns. */
WUR int place_write(struct place_writer *w, unsigned ctx, bool settle);

/* ---- measuring -------------------------------------------------------------- */

/* Fills in the forms' views; what was found before for the same bytes is kept. Systems
 * whose form cannot be had get their why_not. */
WUR int place_quality(struct rig *g, const struct place_options *o, struct place_set *s,
		      struct place_systems *sys);

struct place_cell {
	double zipf, dram;
	bool throttled;
};

struct place_result {
	double mean_s, p50_s, p99_s, wait_s; /* wait: for one of the readers, not in the others */
	double hit, gone;                    /* shares of the requests */
	double quality, agree;
	double control_Bps[2];               /* before and after */
	float second_MB[PLACE_SECONDS_MAX];  /* that the daemon read of the device, throttled */
	unsigned seconds;                    /* whole ones, the first of the load */
	bool valid;
};

struct place_row {
	unsigned system;
	struct place_cell cell;
	struct place_result r[PLACE_REPEATS_MAX];
	unsigned n;
	const char *why_not; /* static */
};

struct place_report {
	struct place_row *rows; /* owned */
	unsigned n, max;
	struct sbuf notes;
	struct place_bound *bounds; /* owned; one per cell and alpha */
	unsigned n_bounds;
};

/* All runs of all systems. */
WUR int place_run_all(struct rig *g, const struct place_options *o, struct place_set *s,
		      const struct place_systems *sys, struct place_report *rep);

/* Contents and memory of a system in a cell (placement_store.c). */
struct place_store {
	struct rig *g;
	const struct place_options *o;
	const struct place_set *set;
	const struct place_system *sys;
	const unsigned *rank; /* contexts, the most popular one first */
	double dram, zipf;
	struct rig_mount m;
	bool copied; /* private */
};
/* The system decides by itself what is in memory, and at which level. */
bool place_store_plans(const struct place_system *sys);
/* Mounts it, with nothing known of earlier use. */
WUR int place_store_open(struct place_store *s);
/* Contents, history and memory by popularity; all of it is read unthrottled. */
WUR int place_store_fill(struct place_store *s);
/* Waits until a system that moves things by itself has ended to do so for now. */
WUR int place_store_settle(const struct place_store *s);
WUR int place_store_close(struct place_store *s);
/* Unless other systems share it. */
void place_store_remove(struct place_store *s);
/* The shared one. */
void place_stores_remove(struct rig *g);
WUR int place_prepare(struct rig *g, const struct place_options *o, struct place_set *s,
		      const struct place_systems *sys);

struct place_load {
	const struct place_options *o;
	const struct place_set *set;
	const struct place_system *sys;
	const struct place_store *st; /* NULL: PLACE_NONE */
	const char *mnt;
	double zipf;
	const unsigned *rank; /* contexts, the most popular one first */
	uint64_t seed;
};
/* One load, warm-up and all. Other bytes than a form's end it: -KVFS_EVERIFY. */
WUR int place_load_run(struct rig *g, const struct place_load *l, struct place_result *ret);

/* ---- the ceiling ------------------------------------------------------------ */

/* The best of all placements by the policy's cost model, for whoever knows the
 * popularity, at the rates measured here. */
struct place_bound {
	struct place_cell cell;
	double alpha, delay_s, quality;
	double value, bound; /* utility of the placement found; no placement has more */
};
struct place_rates {
	double ssd_Bps[2]; /* [throttled] */
	double dram_latency_s, copy_Bps;
	double decode_Bps[PLACE_FORMS_MAX]; /* by form; exact: of all layers, where there are some */
	double base_ratio; /* layer 0 in memory by that on SSD; of what has none, all of it */
};
/* All but the device's. */
WUR int place_rates_measure(struct rig *g, const struct place_set *s, struct place_rates *ret);
WUR int place_bound_run(const struct place_options *o, const struct place_set *s,
			const struct place_rates *rates, struct place_bound *b);

/* ---- reporting -------------------------------------------------------------- */

void place_report_print(const struct place_options *o, const struct place_set *s,
			const struct place_systems *sys, struct place_report *rep);
WUR int place_plot(const struct place_options *o, const struct place_systems *sys,
		   const struct place_report *rep);
/* Mean of the valid runs and half the width of its 95 % interval. */
double place_mean(const struct place_row *row, double (*of)(const struct place_result *),
		  double *ret_half);

#endif
