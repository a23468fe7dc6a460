/* Maps: ranges of an address space, each with its own object; page faults. */
#include "vm.h"
#include "kern.h"
#include "ppc.h"

static struct zone entry_zone;
struct vm_map kernel_map;
uint32_t vm_faults;

void vm_map_create(struct vm_map *map, struct pmap *pmap)
{
    bzero(map, sizeof *map);
    mutex_init(&map->lock);
    map->pmap = pmap;
}

void vm_map_init(void)
{
    zinit(&entry_zone, sizeof(struct vm_map_entry), "vm map entries");
    vm_map_create(&kernel_map, &kernel_pmap);
}

/* Find the entry around an address; the map is locked. */
struct vm_map_entry *vm_map_lookup_entry(struct vm_map *map, vm_offset_t address)
{
    struct vm_map_entry *entry = map->entries;
    while (entry && entry->end <= address)
        entry = entry->next;
    return entry && entry->start <= address ? entry : NULL;
}

/* Find the first gap of a size (a page is left free between ranges); the map is locked. */
static struct vm_map_entry **find_space(struct vm_map *map, vm_offset_t *start, vm_offset_t stop, vm_size_t size)
{
    struct vm_map_entry **link = &map->entries;
    vm_offset_t at = *start;
    for (; *link && (*link)->start < at + size + PAGE_SIZE; link = &(*link)->next)
        if ((*link)->end + PAGE_SIZE > at)
            at = (*link)->end + PAGE_SIZE;
    if (at + size > stop)
        return NULL;
    *start = at;
    return link;
}

/* Enter a new range of `size` bytes from *address on, below `stop`; no page of it is resident yet. */
int vm_map_enter(struct vm_map *map, vm_offset_t *address, vm_offset_t stop, const struct vm_map_entry *like,
                 vm_size_t size)
{
    struct vm_map_entry *entry = zalloc(&entry_zone);
    vm_offset_t at = *address;
    mutex_lock(&map->lock);
    struct vm_map_entry **link = find_space(map, &at, stop, size);
    if (link) {
        *entry = *like;
        entry->next = *link;
        entry->start = at;
        entry->end = at + size;
        *link = entry;
        *address = at;
    }
    mutex_unlock(&map->lock);
    if (link == NULL)
        zfree(&entry_zone, entry);
    return link ? KERN_SUCCESS : KERN_NO_SPACE;
}

/* Take a range out that nobody uses any more; the map is locked. */
static void vm_map_entry_dispose(struct vm_map *map, struct vm_map_entry **link)
{
    struct vm_map_entry *entry = *link;
    *link = entry->next;
    pmap_remove(map->pmap, entry->start, entry->end);
    vm_object_terminate(&entry->object);
    zfree(&entry_zone, entry);
}

int vm_map_remove(struct vm_map *map, vm_offset_t address)
{
    mutex_lock(&map->lock);
    struct vm_map_entry **link = &map->entries;
    while (*link && (*link)->start != address)
        link = &(*link)->next;
    bool found = *link != NULL;
    if (found)
        vm_map_entry_dispose(map, link);
    mutex_unlock(&map->lock);
    return found ? KERN_SUCCESS : KERN_INVALID_ADDRESS;
}

void vm_map_destroy(struct vm_map *map)
{
    mutex_lock(&map->lock);
    while (map->entries)
        vm_map_entry_dispose(map, &map->entries);
    mutex_unlock(&map->lock);
}

/* Make one page of an entry resident and mapped; the map is locked. */
static int vm_fault_page(struct vm_map *map, struct vm_map_entry *entry, vm_offset_t address)
{
    vm_offset_t offset = address - entry->start;
    struct vm_page *page = vm_page_lookup(&entry->object, offset);
    if (page == NULL) {
        page = vm_page_grab();
        if (page == NULL)
            return KERN_NO_SPACE;
        bzero_phys(page->phys);
        if (entry->object.vnode)
            vnode_pagein(&entry->object, page, offset);
        page->wired = entry->wired;
        vm_page_insert(page, &entry->object, offset);
    }
    pmap_enter(map->pmap, address, page->phys, entry->prot, entry->wired);
    return KERN_SUCCESS;
}

/* Resolve a fault; page 0 and page 1 are in no entry of any map. */
int vm_fault(struct vm_map *map, vm_offset_t address, bool write)
{
    int result = KERN_INVALID_ADDRESS;
    vm_faults++;
    if (address < KERNEL_MAP_WIRED || address >= VM_MAX_ADDRESS)
        return result;
    mutex_lock(&map->lock);
    struct vm_map_entry *entry = vm_map_lookup_entry(map, trunc_page(address));
    if (entry && write && !(entry->prot & VM_PROT_WRITE))
        result = KERN_PROTECTION_FAILURE;
    else if (entry)
        result = vm_fault_page(map, entry, trunc_page(address));
    map->faults++;
    mutex_unlock(&map->lock);
    return result;
}

/* Make all of an entry's pages resident. */
int vm_fault_wire(struct vm_map *map, struct vm_map_entry *entry)
{
    for (vm_offset_t at = entry->start; at < entry->end; at += PAGE_SIZE) {
        int result = vm_fault_page(map, entry, at);
        if (result != KERN_SUCCESS)
            return result;
    }
    return KERN_SUCCESS;
}
