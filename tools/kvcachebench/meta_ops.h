/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_META_OPS_H
#define KVCACHEBENCH_META_OPS_H
/* Operations on many files of a directory; each gives seconds, negative -errno. */
#include <stdbool.h>

double meta_create(const char *dir, unsigned n);  /* create+close */
double meta_stat(const char *dir, unsigned n);
double meta_open(const char *dir, unsigned n);    /* open+close */
double meta_setxattr(const char *dir, unsigned n); /* user.bench */
double meta_getxattr(const char *dir, unsigned n);
/* readdir, and stat of every entry; fails unless there are @n. */
double meta_walk(const char *dir, unsigned n);

#endif
