/*
 * The segment is a memfd: it has no name to collide or to be left behind, and its size is sealed,
 * so that no process can cut it short under another's feet (SIGBUS). The fields are read without
 * locks: each has one writer. Only who takes a place below a limit holds the lock of that column
 * meanwhile, so that two workers do not take the last place both; it is a robust mutex, which the
 * kernel hands on when its holder is killed, and what the dead one had taken lies in its own slot.
 */
#include "route/tally.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define TALLY_MAGIC 0x6d717931u /* a segment of another version of the program is refused */

/* Behind those of the apps. */
#define SERVER_LOCK TALLY_APPS
#define PEER_LOCK   (TALLY_APPS + 1)
#define LOCKS       (TALLY_APPS + 2)

struct segment {
    uint32_t magic, slot_bytes, slots;
    pthread_mutex_t lock[LOCKS];
    struct tally_slot slot[];
};

struct tally {
    struct segment *segment;
    size_t bytes;
};

/* In the order of the enums, without gaps: one that has no name does not compile. */
static const char *const gauge_names[] = {"connections", "requests", "tasks"};
static const char *const counter_names[] = {
    "connections", "requests", "refused",        "handler_errors", "cpu_limit",  "memory_limit",
    "cancelled",   "restarts", "tls_handshakes", "tls_resumed",    "tls_failed",
};

_Static_assert(sizeof(gauge_names) / sizeof(gauge_names[0]) == GAUGES, "a name for each gauge");
_Static_assert(sizeof(counter_names) / sizeof(counter_names[0]) == COUNTERS,
               "a name for each counter");

static const char *const app_gauge_names[] = {
    "connections", "running", "queued", "queued_bytes", "lua_bytes",
};
static const char *const app_counter_names[] = {"requests", "enqueued", "refused"};

_Static_assert(sizeof(app_gauge_names) / sizeof(app_gauge_names[0]) == APP_GAUGES,
               "a name for each gauge of an app");
_Static_assert(sizeof(app_counter_names) / sizeof(app_counter_names[0]) == APP_COUNTERS,
               "a name for each counter of an app");

static size_t segment_bytes(unsigned slots)
{
    return sizeof(struct segment) + slots * sizeof(struct tally_slot);
}

static struct tally *map(int fd, size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (memory == MAP_FAILED)
        return NULL;
    struct tally *tally = mem_alloc(sizeof(*tally));

    tally->segment = memory;
    tally->bytes = bytes;
    return tally;
}

static bool make_locks(struct segment *segment)
{
    pthread_mutexattr_t attributes;
    bool made = pthread_mutexattr_init(&attributes) == 0 &&
                pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
                pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0;

    for (unsigned i = 0; i < LOCKS && made; i++)
        made = pthread_mutex_init(&segment->lock[i], &attributes) == 0;
    pthread_mutexattr_destroy(&attributes);
    return made;
}

struct tally *tally_create(unsigned slots, int *fd)
{
    size_t bytes = segment_bytes(slots);
    struct tally *tally = NULL;

    *fd = memfd_create("moonquay-tally", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0)
        return NULL;
    if (ftruncate(*fd, (off_t)bytes) == 0 &&
        fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        tally = map(*fd, bytes);
    if (tally && !make_locks(tally->segment)) {
        tally_close(tally);
        tally = NULL;
    }
    if (tally == NULL) {
        close(*fd);
        *fd = -1;
        return NULL;
    }
    tally->segment->magic = TALLY_MAGIC;
    tally->segment->slot_bytes = sizeof(struct tally_slot);
    tally->segment->slots = slots;
    return tally;
}

struct tally *tally_attach(int fd)
{
    struct stat info;

    if (fstat(fd, &info) < 0 || (size_t)info.st_size < sizeof(struct segment))
        return NULL;
    struct tally *tally = map(fd, (size_t)info.st_size);

    if (tally == NULL)
        return NULL;
    const struct segment *segment = tally->segment;

    if (segment->magic != TALLY_MAGIC || segment->slot_bytes != sizeof(struct tally_slot) ||
        segment_bytes(segment->slots) > tally->bytes) {
        tally_close(tally);
        return NULL;
    }
    return tally;
}

void tally_close(struct tally *tally)
{
    if (tally == NULL)
        return;
    munmap(tally->segment, tally->bytes);
    mem_free(tally);
}

void tally_use(struct tally *tally, unsigned slots)
{
    CHECK(segment_bytes(slots) <= tally->bytes);
    __atomic_store_n(&tally->segment->slots, slots, __ATOMIC_RELAXED);
}

unsigned tally_slots(const struct tally *tally)
{
    return __atomic_load_n(&tally->segment->slots, __ATOMIC_RELAXED);
}

struct tally_slot *tally_slot(struct tally *tally, unsigned index)
{
    CHECK(index < tally_slots(tally));
    return &tally->segment->slot[index];
}

void tally_clear(struct tally_slot *slot)
{
    for (int i = 0; i < GAUGES; i++)
        __atomic_store_n(&slot->gauge[i], 0, __ATOMIC_RELAXED);
    for (int app = 0; app < TALLY_APPS; app++)
        for (int i = 0; i < APP_GAUGES; i++)
            if (slot->app[app].gauge[i] != 0) /* pages that nobody touched stay so */
                __atomic_store_n(&slot->app[app].gauge[i], 0, __ATOMIC_RELAXED);
    for (int i = 0; i < TALLY_PEERS; i++)
        if (slot->peer[i] != 0)
            __atomic_store_n(&slot->peer[i], 0, __ATOMIC_RELAXED);
    for (unsigned app = 0; app < TALLY_APPS; app++) {
        tally_waits(slot, app, 0);
        tally_takes(slot, app, false);
        tally_awake(slot, app);
    }
    __atomic_store_n(&slot->heartbeat_ms, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->pid, 0, __ATOMIC_RELAXED);
}

/* ---- sums ---- */

/* The fields of all slots lie at the same distance. */
static int64_t sum(struct tally *tally, const int64_t *in_first)
{
    const char *at = (const char *)in_first;
    int64_t total = 0;

    for (unsigned i = 0; i < tally_slots(tally); i++, at += sizeof(struct tally_slot))
        total += __atomic_load_n((const int64_t *)(const void *)at, __ATOMIC_SEQ_CST);
    return total;
}

static uint64_t sum_counter(struct tally *tally, const uint64_t *in_first)
{
    return (uint64_t)sum(tally, (const int64_t *)(const void *)in_first);
}

int64_t tally_gauge_sum(struct tally *tally, enum tally_gauge gauge)
{
    return sum(tally, &tally->segment->slot[0].gauge[gauge]);
}

uint64_t tally_counter_sum(struct tally *tally, enum tally_counter counter)
{
    return sum_counter(tally, &tally->segment->slot[0].counter[counter]);
}

int64_t tally_app_gauge_sum(struct tally *tally, unsigned app, enum tally_app_gauge gauge)
{
    return sum(tally, &tally->segment->slot[0].app[app].gauge[gauge]);
}

uint64_t tally_app_counter_sum(struct tally *tally, unsigned app, enum tally_app_counter counter)
{
    return sum_counter(tally, &tally->segment->slot[0].app[app].counter[counter]);
}

uint64_t tally_reason_sum(struct tally *tally, unsigned reason)
{
    return sum_counter(tally, &tally->segment->slot[0].reason[reason]);
}

/* ---- places below a limit ---- */

static void lock(struct tally *tally, unsigned which)
{
    if (pthread_mutex_lock(&tally->segment->lock[which]) == EOWNERDEAD)
        pthread_mutex_consistent(&tally->segment->lock[which]);
}

static void unlock(struct tally *tally, unsigned which)
{
    pthread_mutex_unlock(&tally->segment->lock[which]);
}

static void add(int64_t *gauge, int64_t amount)
{
    __atomic_store_n(gauge, *gauge + amount, __ATOMIC_SEQ_CST);
}

bool tally_take(struct tally *tally, struct tally_slot *slot, enum tally_gauge gauge,
                int64_t amount, int64_t limit)
{
    bool fits;

    lock(tally, SERVER_LOCK);
    fits = tally_gauge_sum(tally, gauge) <= limit - amount;
    if (fits)
        add(&slot->gauge[gauge], amount);
    unlock(tally, SERVER_LOCK);
    return fits;
}

bool tally_app_claim(struct tally *tally, struct tally_slot *slot, unsigned app,
                     const struct tally_claim *claims, int count)
{
    bool fit = true;

    lock(tally, app);
    for (int i = 0; i < count; i++)
        fit = fit && tally_app_gauge_sum(tally, app, claims[i].gauge) <=
                         claims[i].limit - claims[i].amount;
    for (int i = 0; i < count && fit; i++)
        add(&slot->app[app].gauge[claims[i].gauge], claims[i].amount);
    unlock(tally, app);
    return fit;
}

bool tally_app_take(struct tally *tally, struct tally_slot *slot, unsigned app,
                    enum tally_app_gauge gauge, int64_t amount, int64_t limit)
{
    const struct tally_claim claim = {gauge, amount, limit};

    return tally_app_claim(tally, slot, app, &claim, 1);
}

int64_t tally_peer_sum(struct tally *tally, unsigned peer)
{
    return sum(tally, &tally->segment->slot[0].peer[peer]);
}

bool tally_peer_take(struct tally *tally, struct tally_slot *slot, unsigned peer, int64_t limit)
{
    bool fits;

    lock(tally, PEER_LOCK);
    fits = tally_peer_sum(tally, peer) < limit;
    if (fits)
        add(&slot->peer[peer], 1);
    unlock(tally, PEER_LOCK);
    return fits;
}

/* ---- who waits ---- */

/* Pages that nobody touched stay so. */
void tally_waits(struct tally_slot *slot, unsigned app, int64_t since_us)
{
    if (slot->waiting[app].since_us != since_us)
        __atomic_store_n(&slot->waiting[app].since_us, since_us, __ATOMIC_SEQ_CST);
}

void tally_takes(struct tally_slot *slot, unsigned app, bool takes)
{
    if (slot->waiting[app].takes != takes)
        __atomic_store_n(&slot->waiting[app].takes, takes, __ATOMIC_SEQ_CST);
}

int tally_next(struct tally *tally, unsigned app, unsigned but, int64_t *since_us)
{
    unsigned slots = tally_slots(tally);
    int next = -1;

    for (unsigned i = 0; i < slots; i++) {
        const struct tally_waiting *waiting = &tally->segment->slot[i].waiting[app];
        int64_t since = i == but ? 0 : __atomic_load_n(&waiting->since_us, __ATOMIC_SEQ_CST);

        if (since == 0 || (next >= 0 && since >= *since_us) ||
            !__atomic_load_n(&waiting->takes, __ATOMIC_SEQ_CST))
            continue;
        next = (int)i;
        *since_us = since;
    }
    return next;
}

bool tally_wake(struct tally *tally, unsigned slot, unsigned app)
{
    return __atomic_exchange_n(&tally->segment->slot[slot].waiting[app].woken, 1,
                               __ATOMIC_SEQ_CST) == 0;
}

void tally_awake(struct tally_slot *slot, unsigned app)
{
    if (slot->waiting[app].woken)
        __atomic_store_n(&slot->waiting[app].woken, 0, __ATOMIC_SEQ_CST);
}

/* ---- names ---- */

const char *tally_gauge_name(enum tally_gauge gauge)
{
    return gauge_names[gauge];
}

const char *tally_counter_name(enum tally_counter counter)
{
    return counter_names[counter];
}

const char *tally_app_gauge_name(enum tally_app_gauge gauge)
{
    return app_gauge_names[gauge];
}

const char *tally_app_counter_name(enum tally_app_counter counter)
{
    return app_counter_names[counter];
}
