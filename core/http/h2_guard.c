/*
 * What a peer may do, counted. A flood costs it little and us much, so each kind has a limit of its
 * own, and what passes it ends the session (RFC 9113 section 10.5).
 */
#include "http/h2_priv.h"

#include "base/err.h"

#define HALF_MS (H2_WINDOW_MS / 2)

static const struct refusal troubles[H2_COUNTERS] = {
    [H2_COUNT_RESETS] = {0, "H2_Resets", "more streams that were reset than max_resets"},
    [H2_COUNT_SETTINGS] = {0, "H2_Settings", "more SETTINGS frames than max_settings"},
    [H2_COUNT_PINGS] = {0, "H2_Pings", "more PING frames than max_pings"},
    [H2_COUNT_EMPTY_FRAMES] = {0, "H2_EmptyFrames", "more empty frames than max_empty_frames"},
    [H2_COUNT_OTHER_FRAMES] = {0, "H2_OtherFrames",
                               "more frames that bring no message than max_other_frames"},
};

const struct refusal *h2_guard_trouble(enum h2_counter counter)
{
    CHECK(counter < H2_COUNTERS);
    return &troubles[counter];
}

static uint32_t limit_of(const struct h2_limits *limits, enum h2_counter counter)
{
    switch (counter) {
    case H2_COUNT_RESETS:
        return limits->max_resets;
    case H2_COUNT_SETTINGS:
        return limits->max_settings;
    case H2_COUNT_PINGS:
        return limits->max_pings;
    case H2_COUNT_EMPTY_FRAMES:
        return limits->max_empty_frames;
    default:
        return limits->max_other_frames;
    }
}

void h2_guard_turn(struct h2_guard *guard, int64_t now_ms)
{
    int64_t age_ms = now_ms - guard->since_ms;

    if (age_ms < HALF_MS)
        return;
    if (age_ms < H2_WINDOW_MS)
        memcpy(guard->before, guard->running, sizeof(guard->before));
    else
        memset(guard->before, 0, sizeof(guard->before));
    memset(guard->running, 0, sizeof(guard->running));
    guard->since_ms = now_ms;
}

bool h2_guard_count(struct h2_guard *guard, const struct h2_limits *limits, enum h2_counter counter)
{
    uint32_t others = guard->running[counter] + guard->before[counter];

    if (others >= limit_of(limits, counter))
        return false; /* the counts stay below the limit, so that they cannot overflow */
    guard->running[counter]++;
    return true;
}

/* Content may be answered by credit for its stream and for the connection. */
void h2_guard_sent(struct h2_guard *guard, uint8_t type)
{
    uint32_t answers = type == H2_DATA ? 2 : 1;

    if (guard->window_updates <= UINT32_MAX - answers)
        guard->window_updates += answers;
}
