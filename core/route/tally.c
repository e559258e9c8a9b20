/*
 * The segment is a memfd: it has no name to collide or to be left behind, and its size is sealed,
 * so that no process can cut it short under another's feet (SIGBUS). The fields are read without
 * locks: each has one writer, and a sum that is a moment old is good enough to judge a limit by.
 */
#include "route/tally.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define TALLY_MAGIC 0x6d717931u /* a segment of another version of the program is refused */

struct segment {
    uint32_t magic, slot_bytes, slots;
    struct tally_slot slot[];
};

struct tally {
    struct segment *segment;
    size_t bytes;
};

/* In the order of the enums, without gaps: one that has no name does not compile. */
static const char *const gauge_names[] = {"connections", "requests", "tasks", "lua_bytes"};
static const char *const counter_names[] = {
    "connections", "requests",     "refused",   "handler_errors",
    "cpu_limit",   "memory_limit", "cancelled", "restarts",
};

_Static_assert(sizeof(gauge_names) / sizeof(gauge_names[0]) == GAUGES, "a name for each gauge");
_Static_assert(sizeof(counter_names) / sizeof(counter_names[0]) == COUNTERS,
               "a name for each counter");

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
    __atomic_store_n(&slot->heartbeat_ms, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->pid, 0, __ATOMIC_RELAXED);
}

const char *tally_gauge_name(enum tally_gauge gauge)
{
    return gauge_names[gauge];
}

const char *tally_counter_name(enum tally_counter counter)
{
    return counter_names[counter];
}

int64_t tally_gauge_sum(struct tally *tally, enum tally_gauge gauge)
{
    int64_t sum = 0;

    for (unsigned i = 0; i < tally_slots(tally); i++)
        sum += __atomic_load_n(&tally->segment->slot[i].gauge[gauge], __ATOMIC_RELAXED);
    return sum;
}

uint64_t tally_counter_sum(struct tally *tally, enum tally_counter counter)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < tally_slots(tally); i++)
        sum += __atomic_load_n(&tally->segment->slot[i].counter[counter], __ATOMIC_RELAXED);
    return sum;
}
