/* Map memory, wired and pageable, use it, unmap it. */
#include "kern.h"
#include "ppc.h"
#include "vm.h"
#include "work.h"

static void stamp_pages(vm_offset_t start, uint32_t pages, uint32_t seed)
{
    for (uint32_t i = 0; i < pages; i++) {
        uint32_t *page = (uint32_t *)(start + i * PAGE_SIZE);
        page[0] = seed + i;
        page[PAGE_SIZE / 4 - 1] = ~(seed + i);
    }
}

static bool check_pages(vm_offset_t start, uint32_t pages, uint32_t seed)
{
    for (uint32_t i = 0; i < pages; i++) {
        const uint32_t *page = (const uint32_t *)(start + i * PAGE_SIZE);
        if (page[0] != seed + i || page[1] != 0 || page[PAGE_SIZE / 4 - 1] != ~(seed + i))
            return false;
        if (lw_phys(pmap_extract((vm_offset_t)page)) != seed + i)
            return false;
    }
    return true;
}

static bool is_zero(vm_offset_t start, uint32_t pages)
{
    const uint32_t *at = (const uint32_t *)start;
    uint32_t any = 0;
    for (uint32_t i = 0; i < pages * PAGE_SIZE / 4; i += 16)
        any |= at[i];
    return any == 0;
}

bool work_paging(uint32_t number)
{
    vm_offset_t wired, pageable;
    uint32_t pages = 1 + number % 6;
    if (kmem_alloc_wired(&wired, pages * PAGE_SIZE) != KERN_SUCCESS)
        return false;
    if (kmem_alloc_pageable(&pageable, 2 * pages * PAGE_SIZE) != KERN_SUCCESS)
        return false;
    bool right = wired >= KERNEL_MAP_WIRED && is_zero(wired, pages);
    stamp_pages(wired, pages, number);
    stamp_pages(pageable + pages * PAGE_SIZE, pages, number * 3); /* page faults */
    delay_ticks(1);
    right &= check_pages(wired, pages, number) && check_pages(pageable + pages * PAGE_SIZE, pages, number * 3);
    right &= pmap_extract(pageable) == 0; /* never touched */
    kmem_free(wired);
    kmem_free(pageable);
    return right;
}
