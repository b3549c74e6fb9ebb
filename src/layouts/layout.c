/* SPDX-License-Identifier: MIT */
/*
 * The table of recognisers, and what holds for every file whatever recognised
 * it: the vetoes that come from names and from a checksum beside the file.
 * A recogniser that fails leaves nothing; when none fits the layout is opaque,
 * which is a success.
 */
#include "layouts/layout.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "kvcachefs/format_layout.h"
#include "layouts/build.h"

/* Declared geometry first; then what a magic identifies; guesses last. */
static const struct layout_ops *const layout_table[] = {
	&layout_declared,    &layout_llama_state, &layout_npy,     &layout_lmcache_gds,
	&layout_safetensors, &layout_lmcache_fs,  &layout_numeric,
};

static const char *const layout_names[] = {
	[KVFS_LAYOUT_OPAQUE] = "opaque",
	[KVFS_LAYOUT_LLAMA_SEQ] = "llama-seq",
	[KVFS_LAYOUT_LLAMA_SESSION] = "llama-session",
	[KVFS_LAYOUT_SAFETENSORS] = "safetensors",
	[KVFS_LAYOUT_LMCACHE_FS] = "lmcache-fs",
	[KVFS_LAYOUT_LMCACHE_GDS] = "lmcache-gds",
	[KVFS_LAYOUT_NPY] = "npy",
	[KVFS_LAYOUT_DECLARED] = "declared",
	[KVFS_LAYOUT_NUMERIC] = "numeric",
};
_Static_assert(sizeof(layout_names) / sizeof(layout_names[0]) == KVFS_LAYOUT_IDS_,
	       "one name per id");

const char *layout_name_of(unsigned id)
{
	return id < KVFS_LAYOUT_IDS_ ? layout_names[id] : NULL;
}

int layout_id_of(const char *name)
{
	for (unsigned i = 0; i < KVFS_LAYOUT_IDS_; i++)
		if (!strcmp(name, layout_names[i]))
			return (int)i;
	return -1;
}

/* A word in a path, where "q8" may not be the tail of another word. */
static bool path_says(const char *path, const char *word, bool at_start)
{
	size_t len = strlen(word);

	for (const char *p = path; *p; p++) {
		if (strncasecmp(p, word, len))
			continue;
		if (!at_start || p == path ||
		    !strchr("0123456789abcdefghijklmnopqrstuvwxyz", p[-1] | 0x20))
			return true;
	}
	return false;
}

static void veto_by_name(const char *path, struct layout *l)
{
	static const struct {
		const char *word;
		bool at_start;
	} words[] = { { "fp8", false }, { "int8", false }, { "q8", true } };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (path_says(path, words[i].word, words[i].at_start))
			layout_veto(l, "already quantised: its path says %s", words[i].word);
}

static unsigned hex_run(const char *s)
{
	unsigned n = 0;

	while (strchr("0123456789abcdef", s[n]) && s[n])
		n++;
	return n;
}

/* HiCache's side pools: <64 hex>.mamba_..., .indexer_..., .draft_...: recurrent
 * state and indexes, where one wrong value spoils all that follows. */
static void veto_side_pool(const char *name, struct layout *l)
{
	if (hex_run(name) == 64 && name[64] == '.' && strncmp(name + 65, "swa_", 4) &&
	    strcmp(name + 65, "bin"))
		layout_veto(l, "side pool of HiCache, not keys and values");
}

static void layout_vetoes(const struct layout_input *in, struct layout *l)
{
	if (in->checksummed)
		layout_veto(l, "a checksum of the content is kept beside it");
	veto_side_pool(in->name, l);
	veto_by_name(in->name, l);
	veto_by_name(in->dir, l);
	for (uint32_t i = 0; i < l->n_regions; i++)
		if (elem_bytes(l->regions[i].elem) == 1)
			layout_veto(l, "already quantised: elements are %s",
				    elem_name(l->regions[i].elem));
}

static void layout_reset(struct layout *l, uint64_t size_bytes)
{
	mem_free(l->regions);
	*l = (struct layout){ .name = layout_names[KVFS_LAYOUT_OPAQUE], .size_bytes = size_bytes };
}

int layout_recognise(const struct layout_input *in, struct layout **ret)
{
	struct layout *l = mem_zalloc(sizeof(*l));
	int err;

	if (!l)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(layout_table) / sizeof(layout_table[0]); i++) {
		layout_reset(l, in->size_bytes);
		err = layout_table[i]->recognise(in, l);
		if (!err && layout_sane(l))
			goto found;
		if (err && err != -KVFS_ENOLAYOUT)
			goto err_destroy;
	}
	layout_reset(l, in->size_bytes);
found:
	layout_vetoes(in, l);
	*ret = l;
	return 0;
err_destroy:
	layout_destroy(l);
	return err;
}

void layout_destroy(struct layout *l)
{
	if (!l)
		return;
	mem_free(l->regions);
	mem_free(l);
}

/* Elements of a row where every row is as long; 0 otherwise. */
static uint32_t row_elems(const struct layout *l)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < l->n_regions; i++) {
		const struct layout_region *r = &l->regions[i];

		if (r->transposed)
			continue;
		if (n && n != r->row_bytes / elem_bytes(r->elem))
			return 0;
		n = r->row_bytes / elem_bytes(r->elem);
	}
	return n;
}

void layout_dump(const struct layout *l, struct sbuf *b)
{
	sbuf_adds(b, l->name);
	if (l->layers)
		sbuf_addf(b, " layers=%u", l->layers);
	if (l->heads)
		sbuf_addf(b, " heads=%u", l->heads);
	if (l->head_dim)
		sbuf_addf(b, " dim=%u", l->head_dim);
	if (!l->heads && !l->head_dim && row_elems(l))
		sbuf_addf(b, " row=%u", row_elems(l));
	if (l->n_regions)
		sbuf_addf(b, " dtype=%s", elem_name(l->elem));
	if (l->tokens)
		sbuf_addf(b, " tokens=%u", l->tokens);
	if (l->lossy_veto)
		sbuf_addf(b, " veto=\"%s\"", l->veto);
}
