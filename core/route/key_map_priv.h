/*
 * A hash map from texts to things that hold their own text, without regard to ASCII case. The hash
 * is made byte by byte, so that one pass over a path gives the hash of each of its beginnings.
 *
 * Who asks does not choose what is in a map, but who registers may do both (port sharing), so the
 * hash starts from a secret: nobody can tell which texts will meet. A probe costs as much as the
 * run of neighbours that it meets, and those are registered entries, at most half of the slots;
 * a text is compared only where all 64 bits are equal.
 */
#ifndef ROUTE_KEY_MAP_PRIV_H
#define ROUTE_KEY_MAP_PRIV_H

#include <stdint.h>

#include "base/span.h"

#define KEY_HASH_FACTOR 0x9E3779B97F4A7C15u /* odd, its bits well mixed: 2^64 / golden ratio */

/* What a map holds begins with one of these. The text stays the same while it is in the map. */
struct keyed {
    struct span key;
    uint64_t hash; /* of key, written by key_map_add */
};

struct key_slot {
    uint64_t hash;
    struct keyed *item; /* NULL: free */
};

struct key_map {
    struct key_slot *slots; /* NULL when the map is empty */
    uint32_t count;
    unsigned bits; /* there are 1 << bits slots */
    uint64_t secret;
};

/* The hash of a text that is one byte longer. That of the empty text is the secret. */
static inline uint64_t key_hash_more(uint64_t hash, char c)
{
    return (hash ^ (unsigned char)ascii_lower(c)) * KEY_HASH_FACTOR;
}

static inline uint64_t key_hash(uint64_t secret, struct span key)
{
    uint64_t hash = secret;

    for (size_t i = 0; i < key.len; i++)
        hash = key_hash_more(hash, key.at[i]);
    return hash;
}

void key_map_init(struct key_map *map, uint64_t secret);
void key_map_fini(struct key_map *map);

/* The item with this text, whose hash is given; NULL for none. */
struct keyed *key_map_find(const struct key_map *map, struct span key, uint64_t hash);

/* Borrows item until it is removed; its key must not be in the map. */
void key_map_add(struct key_map *map, struct keyed *item);

/* Item must be in the map. */
void key_map_remove(struct key_map *map, struct keyed *item);

#endif
