/* Queues; the caller sees to exclusion. */
#include "queue.h"

void queue_init(queue_t *queue)
{
    queue->next = queue->prev = queue;
}

bool queue_empty(const queue_t *queue)
{
    return queue->next == queue;
}

void enqueue_tail(queue_t *queue, struct queue_entry *entry)
{
    entry->next = queue;
    entry->prev = queue->prev;
    queue->prev->next = entry;
    queue->prev = entry;
}

void enqueue_head(queue_t *queue, struct queue_entry *entry)
{
    enqueue_tail(queue->next, entry);
}

struct queue_entry *dequeue_head(queue_t *queue)
{
    struct queue_entry *entry = queue->next;
    if (entry == queue)
        return NULL;
    remqueue(entry);
    return entry;
}

void remqueue(struct queue_entry *entry)
{
    entry->next->prev = entry->prev;
    entry->prev->next = entry->next;
    entry->next = entry->prev = NULL;
}
