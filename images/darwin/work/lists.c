/* Singly linked lists: build, reverse, merge sort, check. */
#include "kern.h"
#include "work.h"

struct node {
    struct node *next;
    uint32_t value;
};

static struct node *list_push(struct node *list, uint32_t value)
{
    struct node *node = kalloc(sizeof *node);
    node->next = list;
    node->value = value;
    return node;
}

static struct node *list_reverse(struct node *list)
{
    struct node *reversed = NULL;
    while (list) {
        struct node *next = list->next;
        list->next = reversed;
        reversed = list;
        list = next;
    }
    return reversed;
}

static struct node *list_split(struct node *list)
{
    struct node *slow = list, *fast = list->next;
    while (fast && fast->next) {
        slow = slow->next;
        fast = fast->next->next;
    }
    struct node *half = slow->next;
    slow->next = NULL;
    return half;
}

static struct node *list_merge(struct node *a, struct node *b)
{
    struct node *merged = NULL, **tail = &merged;
    while (a && b) {
        struct node **least = a->value <= b->value ? &a : &b;
        *tail = *least;
        tail = &(*least)->next;
        *least = *tail;
    }
    *tail = a ? a : b;
    return merged;
}

static struct node *list_sort(struct node *list)
{
    if (list == NULL || list->next == NULL)
        return list;
    struct node *half = list_split(list);
    return list_merge(list_sort(list), list_sort(half));
}

static uint32_t list_sum(const struct node *list)
{
    uint32_t sum = 0;
    for (; list; list = list->next)
        sum += list->value;
    return sum;
}

static uint32_t list_length(const struct node *list)
{
    uint32_t length = 0;
    for (; list; list = list->next)
        length++;
    return length;
}

static bool list_is_sorted(const struct node *list)
{
    for (; list && list->next; list = list->next)
        if (list->value > list->next->value)
            return false;
    return true;
}

static void list_free(struct node *list)
{
    while (list) {
        struct node *next = list->next;
        kfree(list, sizeof *list);
        list = next;
    }
}

bool work_lists(uint32_t number)
{
    uint32_t seed = number, sum = 0, length = 20 + number % 60;
    struct node *list = NULL;
    for (uint32_t i = 0; i < length; i++) {
        uint32_t value = random_next(&seed);
        list = list_push(list, value);
        sum += value;
    }
    uint32_t last = list->value;
    list = list_reverse(list_reverse(list));
    bool right = list->value == last;
    list = list_sort(list);
    right &= list_is_sorted(list) && list_sum(list) == sum && list_length(list) == length;
    list_free(list);
    return right;
}
