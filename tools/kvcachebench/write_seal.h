/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_WRITE_SEAL_H
#define KVCACHEBENCH_WRITE_SEAL_H
/* Sealing under a steady stream of new files. */
#include "rig_report.h"

/* Adds the rows seal.keeps_up and seal.reader. @buf holds @len bytes of real
 * caches; @m runs. */
WUR int seal_rows(struct rig *g, struct rig_mount *m, const struct rig_corpus *c, const char *buf,
		  struct report *rep);

#endif
