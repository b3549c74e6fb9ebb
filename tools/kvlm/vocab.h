/* SPDX-License-Identifier: MIT */
#ifndef KVLM_VOCAB_H
#define KVLM_VOCAB_H
/*
 * Text to token ids and back. A byte becomes the token that stands for it
 * ("<0x41>", or the token that is this one character); "<|name|>" becomes the
 * symbol of that name where the vocabulary has it. There is no merging of
 * bytes into words: a model with a larger vocabulary is fed with ids.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gguf.h"
#include "msg.h"

struct vocab {
	uint32_t n;
	char **names;         /* owned; [n] as the file spells them, escaped for print */
	int32_t byte_id[256]; /* -1: no such token */
	int16_t *id_byte;     /* owned; [n] the byte, or -1 */
	int32_t bos, eos;     /* -1: none */
};

/* A vocabulary of @n tokens from the file's list; a file without a list gives
 * one that can neither encode nor name anything. */
WUR int vocab_init(struct vocab *v, const struct gguf *g, uint32_t n, struct msg *m);
void vocab_fini(struct vocab *v);

/* Appends at most @cap ids to @out; returns how many or -errno (-ERANGE: more
 * than @cap, -EINVAL: a byte without a token). */
WUR ssize_t vocab_encode(const struct vocab *v, const char *text, size_t len, int32_t *out,
			 size_t cap, struct msg *m);
/* Ids written as decimal numbers separated by white space or commas. */
WUR ssize_t vocab_parse_ids(const struct vocab *v, const char *text, size_t len, int32_t *out,
			    size_t cap, struct msg *m);
/* The id of the symbol so named, or -1. */
int32_t vocab_find(const struct vocab *v, const char *name);
/* Writes the token's text (one byte, or its name) to @out; returns the length. */
size_t vocab_decode(const struct vocab *v, int32_t id, char *out, size_t cap);

#endif
