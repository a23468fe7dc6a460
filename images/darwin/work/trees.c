/* Binary search trees and a chained hash table over the same keys. */
#include "kern.h"
#include "work.h"

struct tree {
    struct tree *left, *right;
    uint32_t key;
};

#define TABLE_SIZE 31
struct chain {
    struct chain *next;
    uint32_t key;
};

static bool tree_insert(struct tree **tree, uint32_t key)
{
    while (*tree) {
        if (key == (*tree)->key)
            return false;
        tree = key < (*tree)->key ? &(*tree)->left : &(*tree)->right;
    }
    *tree = kalloc(sizeof **tree);
    **tree = (struct tree){.key = key};
    return true;
}

static bool tree_contains(const struct tree *tree, uint32_t key)
{
    while (tree && tree->key != key)
        tree = key < tree->key ? tree->left : tree->right;
    return tree != NULL;
}

static uint32_t tree_depth(const struct tree *tree)
{
    if (tree == NULL)
        return 0;
    uint32_t left = tree_depth(tree->left), right = tree_depth(tree->right);
    return 1 + (left > right ? left : right);
}

static uint32_t tree_count(const struct tree *tree)
{
    return tree ? tree_count(tree->left) + 1 + tree_count(tree->right) : 0;
}

/* Call visit(key, argument) in the order of the keys. */
static void tree_walk(const struct tree *tree, void (*visit)(uint32_t, void *), void *argument)
{
    if (tree == NULL)
        return;
    tree_walk(tree->left, visit, argument);
    visit(tree->key, argument);
    tree_walk(tree->right, visit, argument);
}

static void tree_free(struct tree *tree)
{
    if (tree == NULL)
        return;
    tree_free(tree->left);
    tree_free(tree->right);
    kfree(tree, sizeof *tree);
}

static void table_insert(struct chain **table, uint32_t key)
{
    struct chain *chain = kalloc(sizeof *chain);
    chain->key = key;
    chain->next = table[key % TABLE_SIZE];
    table[key % TABLE_SIZE] = chain;
}

static bool table_remove(struct chain **table, uint32_t key)
{
    struct chain **link = &table[key % TABLE_SIZE];
    while (*link && (*link)->key != key)
        link = &(*link)->next;
    struct chain *found = *link;
    if (found == NULL)
        return false;
    *link = found->next;
    kfree(found, sizeof *found);
    return true;
}

struct order {
    uint32_t last, count;
    bool right;
};

static void check_order(uint32_t key, void *argument)
{
    struct order *order = argument;
    if (order->count && key <= order->last)
        order->right = false;
    order->last = key;
    order->count++;
}

bool work_trees(uint32_t number)
{
    struct tree *tree = NULL;
    struct chain *table[TABLE_SIZE] = {NULL};
    struct order order = {0, 0, true};
    uint32_t seed = number * 7 + 1, distinct = 0, n = 30 + number % 50;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = random_next(&seed) % 200;
        if (tree_insert(&tree, key)) {
            table_insert(table, key);
            distinct++;
        }
    }
    bool right = tree_count(tree) == distinct && tree_depth(tree) <= distinct;
    tree_walk(tree, check_order, &order);
    right &= order.right && order.count == distinct;
    for (uint32_t key = 0; key < 200; key++)
        right &= tree_contains(tree, key) == table_remove(table, key);
    tree_free(tree);
    return right;
}
