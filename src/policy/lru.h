/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_LRU_H
#define KVCACHEFS_POLICY_LRU_H
#include "policy/policy.h"

extern const struct policy_ops policy_lru;
/* What the adaptive policy says of a context that it has no table for. */
extern const struct policy_ops policy_adaptive;

#endif
