/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_LRU_H
#define KVCACHEFS_POLICY_LRU_H
#include "policy/policy.h"

extern const struct policy_ops policy_lru;

#endif
