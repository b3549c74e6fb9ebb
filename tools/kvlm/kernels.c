/* SPDX-License-Identifier: MIT */
/* Which versions were built, and which of them this processor runs. */
#include "kernels.h"

#include <stdbool.h>
#include <string.h>

extern const struct kernels kernels_portable, kernels_avx2, kernels_avx512;

static bool cpu_any(void)
{
	return true;
}

#ifdef KVLM_X86
static bool cpu_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

static bool cpu_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512vl");
}
#endif

/* fastest first */
static const struct {
	const struct kernels *k;
	bool (*runs_here)(void);
} versions[] = {
#ifdef KVLM_X86
	{ &kernels_avx512, cpu_avx512 },
	{ &kernels_avx2, cpu_avx2 },
#endif
	{ &kernels_portable, cpu_any },
};

const struct kernels *kernels_nth(size_t i)
{
	for (size_t v = 0; v < sizeof(versions) / sizeof(versions[0]); v++)
		if (versions[v].runs_here() && i-- == 0)
			return versions[v].k;
	return NULL;
}

const struct kernels *kernels_best(void)
{
	return kernels_nth(0);
}

const struct kernels *kernels_named(const char *name)
{
	const struct kernels *k;

	for (size_t i = 0; (k = kernels_nth(i)); i++)
		if (!strcmp(k->name, name))
			return k;
	return NULL;
}
