/* Doubly linked queues with a head, as Mach has them. */
#ifndef QUEUE_H
#define QUEUE_H

#include "types.h"

struct queue_entry {
    struct queue_entry *next, *prev;
};
typedef struct queue_entry queue_t;

void queue_init(queue_t *queue);
bool queue_empty(const queue_t *queue);
void enqueue_tail(queue_t *queue, struct queue_entry *entry);
void enqueue_head(queue_t *queue, struct queue_entry *entry);
struct queue_entry *dequeue_head(queue_t *queue);
void remqueue(struct queue_entry *entry);

#define queue_object(entry, type, member) ((type *)((char *)(entry) - offsetof(type, member)))

#endif
