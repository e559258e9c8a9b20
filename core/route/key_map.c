/*
 * Open addressing with linear probing, never more than half full. The upper bits of a hash choose
 * the slot, because a product carries every byte upwards. Removing moves later items of the run
 * back, so that no markers of former items gather.
 */
#include "route/key_map_priv.h"

#include "base/err.h"
#include "base/mem.h"

#define SMALLEST_BITS 2u

void key_map_init(struct key_map *map, uint64_t secret)
{
    *map = (struct key_map){.secret = secret};
}

void key_map_fini(struct key_map *map)
{
    mem_free(map->slots);
    key_map_init(map, map->secret);
}

static size_t home_of(const struct key_map *map, uint64_t hash)
{
    return hash >> (64 - map->bits);
}

static size_t after(const struct key_map *map, size_t at)
{
    return (at + 1) & (((size_t)1 << map->bits) - 1);
}

/* Most keys are asked for as they were registered. */
static bool same(struct span a, struct span b)
{
    return span_eq(a, b) || span_eq_nocase(a, b);
}

struct keyed *key_map_find(const struct key_map *map, struct span key, uint64_t hash)
{
    if (map->count == 0)
        return NULL;
    for (size_t at = home_of(map, hash); map->slots[at].item; at = after(map, at))
        if (map->slots[at].hash == hash && same(map->slots[at].item->key, key))
            return map->slots[at].item;
    return NULL;
}

static void put(struct key_map *map, struct keyed *item)
{
    size_t at = home_of(map, item->hash);

    while (map->slots[at].item)
        at = after(map, at);
    map->slots[at] = (struct key_slot){item->hash, item};
}

static void grow(struct key_map *map)
{
    struct key_slot *old = map->slots;
    size_t size = old ? (size_t)1 << map->bits : 0;

    map->bits = old ? map->bits + 1 : SMALLEST_BITS;
    map->slots = mem_zalloc(sizeof(*map->slots) << map->bits);
    for (size_t i = 0; i < size; i++)
        if (old[i].item)
            put(map, old[i].item);
    mem_free(old);
}

void key_map_add(struct key_map *map, struct keyed *item)
{
    if (map->slots == NULL || 2 * ((size_t)map->count + 1) > (size_t)1 << map->bits)
        grow(map);
    item->hash = key_hash(map->secret, item->key);
    put(map, item);
    map->count++;
}

void key_map_remove(struct key_map *map, struct keyed *item)
{
    size_t hole, at;

    CHECK(map->count > 0);
    if (--map->count == 0) {
        key_map_fini(map);
        return;
    }
    for (hole = home_of(map, item->hash); map->slots[hole].item != item; hole = after(map, hole))
        CHECK(map->slots[hole].item);
    /* An item may move back to the hole unless its home lies behind that. */
    for (at = after(map, hole); map->slots[at].item; at = after(map, at)) {
        size_t mask = ((size_t)1 << map->bits) - 1;
        size_t from_home = (at - home_of(map, map->slots[at].hash)) & mask;

        if (from_home < ((at - hole) & mask))
            continue;
        map->slots[hole] = map->slots[at];
        hole = at;
    }
    map->slots[hole] = (struct key_slot){0, NULL};
}
