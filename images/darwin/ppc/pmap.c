/*
 * pmap: the machine-dependent half of virtual memory.
 *
 * The kernel's image, its hash table and its wired heap are mapped one-to-one for good, without
 * BATs. Everything else has a `mapping`, found by virtual address, that owns one entry of the
 * hash table. pmap_enter -> mapping_make -> hw_add_map is the way in.
 */
#include "kern.h"
#include "ppc.h"
#include "vm.h"

#define HTAB_SIZE 0x200000u             /* recommended for 256 MiB (PEM, table 7-21) */
#define WIRED_SIZE 0xc00000u            /* stacks, zones, page array */
#define HASH_BUCKETS 1024u

#define PTE_VALID 0x80000000u
#define PTE_SECONDARY 0x40u
#define PTE_REFERENCED_CHANGED 0x180u
#define PTE_COHERENT 0x10u
#define PTE_INHIBITED_GUARDED 0x28u
#define PTE_READ_WRITE 2u
#define PTE_READ_ONLY 3u

extern char etext[], sdata[], end[], ExceptionVectorsEnd[];

struct pteg {
    volatile uint32_t word[16];
};
static struct pteg *hash_table;
static vm_offset_t wired_start, wired_next, wired_end, stack_next;
static struct mapping *mapping_hash[HASH_BUCKETS];
static struct zone mapping_zone;

static uint32_t segment_id(vm_offset_t va)
{
    return (va >> 28) * 0x111;
}

static struct pteg *hash_group(vm_offset_t va, uint32_t flip)
{
    uint32_t hash = (segment_id(va) ^ (va >> 12 & 0xffff)) ^ flip;
    return &hash_table[hash & (HTAB_SIZE / 64 - 1)];
}

static uint32_t pte_upper(vm_offset_t va)
{
    return PTE_VALID | segment_id(va) << 7 | (va >> 22 & 0x3f);
}

static uint32_t pte_lower(vm_offset_t pa, int prot, int attributes)
{
    uint32_t wimg = attributes & VM_MEM_GUARDED ? PTE_INHIBITED_GUARDED : PTE_COHERENT;
    uint32_t pp = prot & VM_PROT_WRITE ? PTE_READ_WRITE : PTE_READ_ONLY;
    return trunc_page(pa) | PTE_REFERENCED_CHANGED | wimg | pp;
}

/* Put a translation into a free slot of the hash table; the slot's address. */
uint32_t hw_add_map(vm_offset_t va, vm_offset_t pa, int prot, int attributes)
{
    uint32_t upper = pte_upper(va);
    for (int secondary = 0; secondary < 2; secondary++) {
        volatile uint32_t *pte = hash_group(va, secondary ? ~0u : 0)->word;
        for (int slot = 0; slot < 8; slot++, pte += 2) {
            if (pte[0] & PTE_VALID)
                continue;
            pte[1] = pte_lower(pa, prot, attributes);
            eieio();
            pte[0] = upper | (secondary ? PTE_SECONDARY : 0);
            sync();
            return (uint32_t)pte;
        }
    }
    panic("hw_add_map: both groups of 0x%08x are full", va);
}

static uint32_t hw_find_map(vm_offset_t va)
{
    uint32_t upper = pte_upper(va);
    for (int secondary = 0; secondary < 2; secondary++) {
        volatile uint32_t *pte = hash_group(va, secondary ? ~0u : 0)->word;
        for (int slot = 0; slot < 8; slot++, pte += 2)
            if (pte[0] == (upper | (secondary ? PTE_SECONDARY : 0)))
                return (uint32_t)pte;
    }
    return 0;
}

void hw_rem_map(uint32_t pte, vm_offset_t va)
{
    *(volatile uint32_t *)pte = 0;
    tlb_invalidate(va);
}

static struct mapping **mapping_bucket(vm_offset_t va)
{
    return &mapping_hash[(va >> 12 ^ va >> 22) % HASH_BUCKETS];
}

struct mapping *mapping_lookup(vm_offset_t va)
{
    va = trunc_page(va);
    struct mapping *mapping = *mapping_bucket(va);
    while (mapping && mapping->va != va)
        mapping = mapping->next;
    return mapping;
}

struct mapping *mapping_make(vm_offset_t va, vm_offset_t pa, int prot, int attributes)
{
    struct mapping *mapping = zalloc(&mapping_zone), **bucket = mapping_bucket(va);
    spl_t s = splhigh();
    mapping->va = va;
    mapping->pa = pa;
    mapping->pte = hw_add_map(va, pa, prot, attributes);
    mapping->next = *bucket;
    *bucket = mapping;
    splx(s);
    return mapping;
}

void mapping_remove(struct mapping *mapping)
{
    spl_t s = splhigh();
    struct mapping **link = mapping_bucket(mapping->va);
    while (*link != mapping)
        link = &(*link)->next;
    *link = mapping->next;
    hw_rem_map(mapping->pte, mapping->va);
    splx(s);
    zfree(&mapping_zone, mapping);
}

void pmap_enter(vm_offset_t va, vm_offset_t pa, int prot, bool wired)
{
    struct mapping *old = mapping_lookup(va);
    if (old && old->pa == pa)
        return;
    if (old)
        mapping_remove(old);
    if (pa >= mem_size)
        panic("pmap_enter: %s page 0x%08x at 0x%08x is no memory", wired ? "wired" : "pageable", pa, va);
    mapping_make(va, pa, prot, 0);
}

void pmap_remove(vm_offset_t start, vm_offset_t end)
{
    for (vm_offset_t va = start; va < end; va += PAGE_SIZE) {
        struct mapping *mapping = mapping_lookup(va);
        if (mapping)
            mapping_remove(mapping);
    }
}

vm_offset_t pmap_extract(vm_offset_t va)
{
    if (va >= 0x2000 && va < wired_end)
        return hw_find_map(va) ? va : 0;
    struct mapping *mapping = mapping_lookup(va);
    return mapping ? mapping->pa | (va & 0xfff) : 0;
}

/* Map for good. */
void pmap_map(vm_offset_t va, vm_offset_t pa, vm_size_t size, int prot, int attributes)
{
    spl_t s = splhigh();
    for (vm_size_t done = 0; done < size; done += PAGE_SIZE)
        hw_add_map(va + done, pa + done, prot, attributes);
    splx(s);
}

static void map_one_to_one(vm_offset_t start, vm_offset_t stop, int prot)
{
    start = trunc_page(start);
    pmap_map(start, start, round_page(stop) - start, prot, 0);
}

vm_offset_t pmap_steal_memory(vm_size_t size)
{
    spl_t s = splhigh();
    vm_offset_t at = wired_next;
    wired_next += (size + 31) & ~31u;
    if (wired_next > stack_next)
        panic("pmap_steal_memory: the wired heap is used up");
    splx(s);
    return at;
}

/* A kernel stack, from the heap's upper end down; the page below it is mapped nowhere. */
vm_offset_t pmap_steal_stack(void)
{
    spl_t s = splhigh();
    vm_offset_t stack = stack_next - KERNEL_STACK_SIZE, guard = stack - PAGE_SIZE;
    if (guard < wired_next)
        panic("pmap_steal_stack: the wired heap is used up");
    hw_rem_map(hw_find_map(guard), guard);
    stack_next = guard;
    splx(s);
    return stack;
}

void pmap_bootstrap(void)
{
    vm_offset_t first = round_page(boot_args.top_of_kernel_data);
    vm_offset_t table = (first + HTAB_SIZE - 1) & ~(HTAB_SIZE - 1);
    hash_table = (struct pteg *)table;
    wired_start = wired_next = table + HTAB_SIZE;
    wired_end = stack_next = wired_start + WIRED_SIZE;
    bzero(hash_table, HTAB_SIZE);
    for (uint32_t segment = 0; segment < 16; segment++)
        set_segment(segment << 28, 0x20000000u | segment_id(segment << 28));
    map_one_to_one(0x2000, (vm_offset_t)ExceptionVectorsEnd + 4, VM_PROT_READ);
    map_one_to_one(0x11000, (vm_offset_t)sdata, VM_PROT_READ);
    map_one_to_one((vm_offset_t)sdata, (vm_offset_t)end, VM_PROT_READ | VM_PROT_WRITE);
    map_one_to_one(table, wired_end, VM_PROT_READ | VM_PROT_WRITE);
    set_sdr1(table | (HTAB_SIZE / 0x10000 - 1));
    tlb_invalidate_all();
    zinit(&mapping_zone, sizeof(struct mapping), "mappings");
    vm_page_bootstrap(first, table);
    vm_page_bootstrap(wired_end, mem_size);
}
