/* SPDX-License-Identifier: MIT */
/* Names of element types and region kinds. */
#include "base/elem.h"

#include <stddef.h>
#include <strings.h>

static const char *const elem_names[] = {
	[ELEM_BYTES] = "bytes", [ELEM_F32] = "f32",         [ELEM_F16] = "f16",
	[ELEM_BF16] = "bf16",   [ELEM_F8E4M3] = "fp8_e4m3", [ELEM_F8E5M2] = "fp8_e5m2",
};
_Static_assert(sizeof(elem_names) / sizeof(elem_names[0]) == ELEM_TYPES_, "one name per type");

static const char *const region_names[] = {
	[REGION_OPAQUE] = "opaque",
	[REGION_K] = "k",
	[REGION_V] = "v",
	[REGION_KV] = "kv",
};
_Static_assert(sizeof(region_names) / sizeof(region_names[0]) == REGION_KINDS_,
	       "one name per kind");

/* How engines, safetensors, NumPy and PyTorch call them; any case. */
static const struct {
	const char *name;
	int elem;
} elem_aliases[] = {
	{ "bytes", ELEM_BYTES },    { "u8", ELEM_BYTES },        { "uint8", ELEM_BYTES },
	{ "f32", ELEM_F32 },        { "fp32", ELEM_F32 },        { "float32", ELEM_F32 },
	{ "float", ELEM_F32 },      { "f16", ELEM_F16 },         { "fp16", ELEM_F16 },
	{ "float16", ELEM_F16 },    { "half", ELEM_F16 },        { "bf16", ELEM_BF16 },
	{ "bfloat16", ELEM_BF16 },  { "fp8_e4m3", ELEM_F8E4M3 }, { "f8e4m3", ELEM_F8E4M3 },
	{ "f8_e4m3", ELEM_F8E4M3 }, { "fp8e4m3", ELEM_F8E4M3 },  { "float8_e4m3fn", ELEM_F8E4M3 },
	{ "fp8", ELEM_F8E4M3 },     { "fp8_e5m2", ELEM_F8E5M2 }, { "f8e5m2", ELEM_F8E5M2 },
	{ "f8_e5m2", ELEM_F8E5M2 }, { "fp8e5m2", ELEM_F8E5M2 },  { "float8_e5m2", ELEM_F8E5M2 },
};

const char *elem_name(unsigned elem)
{
	return elem < ELEM_TYPES_ ? elem_names[elem] : "?";
}

const char *region_kind_name(unsigned kind)
{
	return kind < REGION_KINDS_ ? region_names[kind] : "?";
}

int elem_parse(const char *s)
{
	for (size_t i = 0; i < sizeof(elem_aliases) / sizeof(elem_aliases[0]); i++)
		if (!strcasecmp(s, elem_aliases[i].name))
			return elem_aliases[i].elem;
	return -1;
}
