/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_FIXED_H
#define KVCACHEFS_POLICY_FIXED_H
#include "policy/policy.h"

/* fixed:0, fixed:1, ... */
#define POLICY_FIXED_LEVELS (POLICY_LEVELS_MAX - 1)
extern const struct policy_ops policy_fixed[POLICY_FIXED_LEVELS];

#endif
