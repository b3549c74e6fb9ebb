/* SPDX-License-Identifier: MIT */
/*
 * Loaded before llama.cpp's Node binding, which saves and loads states of one
 * sequence only: makes it write and read session files (--prompt-cache) instead,
 * by llama.cpp's own functions. The context is opaque here, so no header is needed.
 */
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

size_t llama_state_seq_save_file(void *ctx, const char *path, int32_t seq, const int32_t *tokens,
				 size_t n);
size_t llama_state_seq_load_file(void *ctx, const char *path, int32_t seq, int32_t *ret_tokens,
				 size_t cap, size_t *ret_n);

/* The binding's library, which is loaded where dlsym(RTLD_NEXT) does not look. */
static int libllama(struct dl_phdr_info *info, size_t size, void *ret_path)
{
	(void)size;
	if (!strstr(info->dlpi_name, "/libllama."))
		return 0;
	*(const char **)ret_path = info->dlpi_name;
	return 1;
}

static void *real(const char *name)
{
	const char *path = NULL;
	void *lib, *f;

	dl_iterate_phdr(libllama, &path);
	lib = path ? dlopen(path, RTLD_LAZY | RTLD_NOLOAD) : NULL;
	f = lib ? dlsym(lib, name) : NULL;
	if (!f) {
		fprintf(stderr, "no %s in %s\n", name, path ? path : "any library");
		exit(3);
	}
	return f;
}

static size_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : (size_t)st.st_size;
}

size_t llama_state_seq_save_file(void *ctx, const char *path, int32_t seq, const int32_t *tokens,
				 size_t n)
{
	bool (*save)(void *, const char *, const int32_t *, size_t);

	(void)seq;
	*(void **)&save = real("llama_state_save_file");
	return save(ctx, path, tokens, n) ? size_of(path) : 0;
}

size_t llama_state_seq_load_file(void *ctx, const char *path, int32_t seq, int32_t *ret_tokens,
				 size_t cap, size_t *ret_n)
{
	bool (*load)(void *, const char *, int32_t *, size_t, size_t *);

	(void)seq;
	*(void **)&load = real("llama_state_load_file");
	return load(ctx, path, ret_tokens, cap, ret_n) ? size_of(path) : 0;
}
