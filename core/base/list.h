/*
 * Intrusive doubly linked lists. A node lies inside its owner; a list is a node that stands for
 * both ends. A node that is in no list points to itself, so that taking it out twice is harmless.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define LIST_OWNER(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void list_init(struct list *node)
{
    node->next = node->prev = node;
}

static inline bool list_empty(const struct list *list)
{
    return list->next == list;
}

/* Puts node (which must be in no list) at the end of list. */
static inline void list_append(struct list *list, struct list *node)
{
    node->prev = list->prev;
    node->next = list;
    list->prev->next = node;
    list->prev = node;
}

/* At the front. */
static inline void list_prepend(struct list *list, struct list *node)
{
    list_append(list->next, node);
}

static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* Takes the first node off the list; NULL when it is empty. */
static inline struct list *list_take(struct list *list)
{
    struct list *node = list->next;

    if (node == list)
        return NULL;
    list_remove(node);
    return node;
}

#endif
