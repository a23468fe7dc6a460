/* The kernel map: ranges of virtual memory, each with its own object; page faults. */
#include "kern.h"
#include "ppc.h"
#include "vm.h"

static struct mutex map_lock;
static struct zone entry_zone;
static struct vm_map_entry *entries; /* sorted by address */
uint32_t vm_faults;

void vm_map_init(void)
{
    mutex_init(&map_lock);
    zinit(&entry_zone, sizeof(struct vm_map_entry), "vm map entries");
}

/* Find the entry around an address; the map is locked. */
struct vm_map_entry *vm_map_lookup_entry(vm_offset_t address)
{
    struct vm_map_entry *entry = entries;
    while (entry && entry->end <= address)
        entry = entry->next;
    return entry && entry->start <= address ? entry : NULL;
}

/* Find the first gap of a size (a page is left free between ranges); the map is locked. */
static struct vm_map_entry **find_space(vm_offset_t *start, vm_offset_t stop, vm_size_t size)
{
    struct vm_map_entry **link = &entries;
    vm_offset_t at = *start;
    for (; *link && (*link)->start < at + size + PAGE_SIZE; link = &(*link)->next)
        if ((*link)->end + PAGE_SIZE > at)
            at = (*link)->end + PAGE_SIZE;
    if (at + size > stop)
        return NULL;
    *start = at;
    return link;
}

/* Enter a new range; no page of it is resident yet. */
int vm_map_enter(vm_offset_t *address, vm_size_t size, bool wired)
{
    struct vm_map_entry *entry = zalloc(&entry_zone);
    vm_offset_t at = wired ? KERNEL_MAP_WIRED : KERNEL_MAP_PAGEABLE;
    mutex_lock(&map_lock);
    struct vm_map_entry **link = find_space(&at, wired ? KERNEL_MAP_PAGEABLE : KERNEL_MAP_END, size);
    if (link) {
        *entry = (struct vm_map_entry){.next = *link, .start = at, .end = at + size, .wired = wired};
        *link = entry;
        *address = at;
    }
    mutex_unlock(&map_lock);
    if (link == NULL)
        zfree(&entry_zone, entry);
    return link ? KERN_SUCCESS : KERN_NO_SPACE;
}

int vm_map_remove(vm_offset_t address)
{
    mutex_lock(&map_lock);
    struct vm_map_entry **link = &entries, *entry;
    while (*link && (*link)->start != address)
        link = &(*link)->next;
    entry = *link;
    if (entry) {
        *link = entry->next;
        pmap_remove(entry->start, entry->end);
        vm_object_terminate(&entry->object);
    }
    mutex_unlock(&map_lock);
    if (entry)
        zfree(&entry_zone, entry);
    return entry ? KERN_SUCCESS : KERN_INVALID_ADDRESS;
}

/* Make one page of an entry resident and mapped; the map is locked. */
static int vm_fault_page(struct vm_map_entry *entry, vm_offset_t address)
{
    vm_offset_t offset = address - entry->start;
    struct vm_page *page = vm_page_lookup(&entry->object, offset);
    if (page == NULL) {
        page = vm_page_grab();
        if (page == NULL)
            return KERN_NO_SPACE;
        bzero_phys(page->phys);
        page->wired = entry->wired;
        vm_page_insert(page, &entry->object, offset);
    }
    pmap_enter(address, page->phys, VM_PROT_READ | VM_PROT_WRITE, entry->wired);
    return KERN_SUCCESS;
}

/* Resolve a fault of the kernel's; page 0 and page 1 are in no entry. */
int vm_fault(vm_offset_t address, bool write)
{
    int result = KERN_INVALID_ADDRESS;
    (void)write; /* all ranges may be written */
    vm_faults++;
    if (address < KERNEL_MAP_WIRED || address >= KERNEL_MAP_END)
        return result;
    mutex_lock(&map_lock);
    struct vm_map_entry *entry = vm_map_lookup_entry(trunc_page(address));
    if (entry)
        result = vm_fault_page(entry, trunc_page(address));
    mutex_unlock(&map_lock);
    return result;
}

/* Make all of an entry's pages resident. */
int vm_fault_wire(struct vm_map_entry *entry)
{
    for (vm_offset_t at = entry->start; at < entry->end; at += PAGE_SIZE) {
        int result = vm_fault_page(entry, at);
        if (result != KERN_SUCCESS)
            return result;
    }
    return KERN_SUCCESS;
}

/* Wired, zeroed memory at KERNEL_MAP_WIRED and above. */
int kmem_alloc_wired(vm_offset_t *address, vm_size_t size)
{
    int result = vm_map_enter(address, round_page(size), true);
    if (result != KERN_SUCCESS)
        return result;
    mutex_lock(&map_lock);
    result = vm_fault_wire(vm_map_lookup_entry(*address));
    mutex_unlock(&map_lock);
    if (result != KERN_SUCCESS)
        vm_map_remove(*address);
    return result;
}

/* Memory whose pages come at the first touch. */
int kmem_alloc_pageable(vm_offset_t *address, vm_size_t size)
{
    return vm_map_enter(address, round_page(size), false);
}

void kmem_free(vm_offset_t address)
{
    if (vm_map_remove(address) != KERN_SUCCESS)
        panic("kmem_free: nothing was allocated at 0x%08x", address);
}
