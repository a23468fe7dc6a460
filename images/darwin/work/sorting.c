/* Quick sort, heap sort, insertion sort through a comparison function; binary search. */
#include "kern.h"
#include "work.h"

#define ITEMS 80
typedef int compare_t(uint32_t a, uint32_t b);

static int ascending(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

static int descending(uint32_t a, uint32_t b)
{
    return ascending(b, a);
}

static void swap(uint32_t *a, uint32_t *b)
{
    uint32_t kept = *a;
    *a = *b;
    *b = kept;
}

static int partition(uint32_t *items, int low, int high, compare_t *compare)
{
    uint32_t pivot = items[(low + high) / 2];
    int i = low - 1, j = high + 1;
    for (;;) {
        do
            i++;
        while (compare(items[i], pivot) < 0);
        do
            j--;
        while (compare(items[j], pivot) > 0);
        if (i >= j)
            return j;
        swap(&items[i], &items[j]);
    }
}

static void quick_sort(uint32_t *items, int low, int high, compare_t *compare)
{
    while (low < high) {
        int middle = partition(items, low, high, compare);
        quick_sort(items, low, middle, compare);
        low = middle + 1;
    }
}

static void sift_down(uint32_t *items, int root, int n, compare_t *compare)
{
    for (int child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && compare(items[child], items[child + 1]) < 0)
            child++;
        if (compare(items[root], items[child]) >= 0)
            return;
        swap(&items[root], &items[child]);
    }
}

static void heap_sort(uint32_t *items, int n, compare_t *compare)
{
    for (int root = n / 2; root-- > 0;)
        sift_down(items, root, n, compare);
    while (--n > 0) {
        swap(&items[0], &items[n]);
        sift_down(items, 0, n, compare);
    }
}

static void insertion_sort(uint32_t *items, int n, compare_t *compare)
{
    for (int i = 1; i < n; i++) {
        uint32_t item = items[i];
        int j = i;
        for (; j > 0 && compare(items[j - 1], item) > 0; j--)
            items[j] = items[j - 1];
        items[j] = item;
    }
}

static int binary_search(const uint32_t *items, int n, uint32_t wanted, compare_t *compare)
{
    int low = 0, high = n;
    while (low < high) {
        int middle = (low + high) / 2, order = compare(items[middle], wanted);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

bool work_sorting(uint32_t number)
{
    static compare_t *const orders[] = {ascending, descending};
    compare_t *compare = orders[number & 1];
    uint32_t quick[ITEMS], heap[ITEMS], slow[ITEMS];
    int n = 10 + (int)(number % (ITEMS - 10));
    fill_random(number, quick, sizeof quick);
    memcpy(heap, quick, sizeof heap);
    memcpy(slow, quick, sizeof slow);
    uint32_t wanted = quick[n / 3];
    quick_sort(quick, 0, n - 1, compare);
    heap_sort(heap, n, compare);
    insertion_sort(slow, n, compare);
    int found = binary_search(quick, n, wanted, compare);
    return memcmp(quick, heap, sizeof quick) == 0 && memcmp(quick, slow, sizeof quick) == 0 && found >= 0 &&
           quick[found] == wanted;
}
