/*
 * The two views of a request's path that routing needs: the cooked one, on which prefixes are
 * matched (reference/http-sys.md section 2.2), and the split of the one that the handler sees
 * (section 7.3).
 */
#ifndef ROUTE_PREFIX_PATH_PRIV_H
#define ROUTE_PREFIX_PATH_PRIV_H

#include <stdbool.h>

#include "base/mem.h"
#include "base/span.h"
#include "http/target.h"

/* The path of a target as it came, without its query; empty for the forms that have none. */
struct span prefix_path_raw(const struct target *target);

/*
 * The cooked form of raw: every escape decoded, once; then each backslash a slash, runs of slashes
 * one, dot segments removed. It has no slash at its end, and the root is "". Borrowed from scratch.
 * False when it leads above the root.
 */
bool prefix_path_cook(struct span raw, struct arena *scratch, struct span *cooked);

/*
 * How many bytes of target->path stand for base, a prefix's path without its last slash that was
 * found on the cooked path; 0 when it cannot be told. What is behind them is empty or begins with a
 * slash.
 */
size_t prefix_path_split(const struct target *target, struct span base, struct arena *scratch);

#endif
