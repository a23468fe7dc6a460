/*
 * pmap: the machine-dependent half of virtual memory.
 *
 * The kernel's image, its hash table and its wired heap are mapped one-to-one for good, without
 * BATs. Everything else has a `mapping`, found by address space and virtual address, that may own
 * one entry of the hash table. pmap_enter -> mapping_make -> hw_add_map is the way in. When both
 * groups of an address are full, a pageable mapping loses its entry; its next use faults it back.
 */
#include "kern.h"
#include "ppc.h"
#include "vm.h"

#define HTAB_SIZE 0x40000u              /* 32768 entries for what the kernel maps */
#define HTAB_GROUPS (HTAB_SIZE / 64)
#define WIRED_SIZE 0xc00000u            /* stacks, zones, page array */
#define HASH_BUCKETS 1024u

#define PTE_VALID 0x80000000u
#define PTE_SECONDARY 0x40u
#define PTE_REFERENCED_CHANGED 0x180u
#define PTE_COHERENT 0x10u
#define PTE_INHIBITED_GUARDED 0x28u
#define PTE_KERNEL_ONLY 0u              /* the kernel reads and writes, a user process may not look */
#define PTE_READ_WRITE 2u
#define PTE_READ_ONLY 3u

extern char etext[], sdata[], end[], ExceptionVectorsEnd[];

struct pteg {
    volatile uint32_t word[16];
};
static struct pteg *hash_table;
static vm_offset_t wired_start, wired_next, wired_end, stack_next;
static struct mapping *mapping_hash[HASH_BUCKETS];
static struct mapping **pte_owner; /* by entry of the hash table; NULL: there for good, or free */
static struct zone mapping_zone;
struct pmap kernel_pmap;
uint32_t pteg_evictions, pteg_refills;

/* Each address space has sixteen virtual segment ids of its own; the kernel's space is 0. */
static uint32_t segment_id(uint32_t space, vm_offset_t va)
{
    return (space * 16 + (va >> 28)) * 0x111 & 0xffffff;
}

static struct pteg *hash_group(uint32_t space, vm_offset_t va, uint32_t flip)
{
    uint32_t hash = (segment_id(space, va) ^ (va >> 12 & 0xffff)) ^ flip;
    return &hash_table[hash & (HTAB_GROUPS - 1)];
}

static uint32_t pte_upper(uint32_t space, vm_offset_t va)
{
    return PTE_VALID | segment_id(space, va) << 7 | (va >> 22 & 0x3f);
}

static struct mapping **pte_slot(uint32_t pte)
{
    return &pte_owner[(pte - (vm_offset_t)hash_table) / 8];
}

static uint32_t pte_lower(vm_offset_t pa, int prot, int attributes)
{
    uint32_t wimg = attributes & VM_MEM_GUARDED ? PTE_INHIBITED_GUARDED : PTE_COHERENT;
    uint32_t writable = prot & VM_PROT_USER ? PTE_READ_WRITE : PTE_KERNEL_ONLY;
    uint32_t pp = prot & VM_PROT_WRITE ? writable : PTE_READ_ONLY;
    return trunc_page(pa) | PTE_REFERENCED_CHANGED | wimg | pp;
}

static volatile uint32_t *hw_free_slot(uint32_t space, vm_offset_t va, uint32_t *secondary)
{
    for (*secondary = 0; *secondary < 2; ++*secondary) {
        volatile uint32_t *pte = hash_group(space, va, *secondary ? ~0u : 0)->word;
        for (int slot = 0; slot < 8; slot++, pte += 2)
            if (!(pte[0] & PTE_VALID))
                return pte;
    }
    return NULL;
}

/* Take an entry from a pageable mapping in the groups of an address; the next turn takes another. */
static void hw_evict(uint32_t space, vm_offset_t va)
{
    static uint32_t turn;
    for (int tried = 0; tried < 16; tried++) {
        uint32_t slot = turn++ & 15;
        uint32_t pte = (uint32_t)&hash_group(space, va, slot & 8 ? ~0u : 0)->word[(slot & 7) * 2];
        struct mapping *victim = *pte_slot(pte);
        if (victim == NULL || victim->wired)
            continue;
        hw_rem_map(pte, victim->va);
        victim->pte = 0;
        pteg_evictions++;
        return;
    }
    panic("hw_evict: both groups of 0x%08x are wired", va);
}

/* Put a translation into a slot of the hash table; the slot's address. Interrupts are off. */
uint32_t hw_add_map(uint32_t space, vm_offset_t va, vm_offset_t pa, int prot, int attributes)
{
    uint32_t secondary;
    volatile uint32_t *pte;
    while ((pte = hw_free_slot(space, va, &secondary)) == NULL)
        hw_evict(space, va);
    pte[1] = pte_lower(pa, prot, attributes);
    eieio();
    pte[0] = pte_upper(space, va) | (secondary ? PTE_SECONDARY : 0);
    sync();
    return (uint32_t)pte;
}

static uint32_t hw_find_map(uint32_t space, vm_offset_t va)
{
    uint32_t upper = pte_upper(space, va);
    for (int secondary = 0; secondary < 2; secondary++) {
        volatile uint32_t *pte = hash_group(space, va, secondary ? ~0u : 0)->word;
        for (int slot = 0; slot < 8; slot++, pte += 2)
            if (pte[0] == (upper | (secondary ? PTE_SECONDARY : 0)))
                return (uint32_t)pte;
    }
    return 0;
}

void hw_rem_map(uint32_t pte, vm_offset_t va)
{
    *(volatile uint32_t *)pte = 0;
    *pte_slot(pte) = NULL;
    tlb_invalidate(va);
}

static struct mapping **mapping_bucket(uint32_t space, vm_offset_t va)
{
    return &mapping_hash[(va >> 12 ^ va >> 22 ^ space * 37) % HASH_BUCKETS];
}

struct mapping *mapping_lookup(struct pmap *pmap, vm_offset_t va)
{
    va = trunc_page(va);
    struct mapping *mapping = *mapping_bucket(pmap->space, va);
    while (mapping && (mapping->va != va || mapping->pmap != pmap))
        mapping = mapping->next;
    return mapping;
}

/* Enter a mapping into the hash table (again). Interrupts are off. */
static void mapping_load(struct mapping *mapping)
{
    mapping->pte = hw_add_map(mapping->pmap->space, mapping->va, mapping->pa, mapping->prot, 0);
    *pte_slot(mapping->pte) = mapping;
}

struct mapping *mapping_make(struct pmap *pmap, vm_offset_t va, vm_offset_t pa, int prot, bool wired)
{
    struct mapping *mapping = zalloc(&mapping_zone), **bucket = mapping_bucket(pmap->space, va);
    spl_t s = splhigh();
    *mapping = (struct mapping){.next = *bucket, .pmap = pmap, .va = va, .pa = pa, .prot = prot, .wired = wired};
    mapping_load(mapping);
    *bucket = mapping;
    pmap->resident++;
    splx(s);
    return mapping;
}

void mapping_remove(struct mapping *mapping)
{
    spl_t s = splhigh();
    struct mapping **link = mapping_bucket(mapping->pmap->space, mapping->va);
    while (*link != mapping)
        link = &(*link)->next;
    *link = mapping->next;
    if (mapping->pte)
        hw_rem_map(mapping->pte, mapping->va);
    mapping->pmap->resident--;
    splx(s);
    zfree(&mapping_zone, mapping);
}

/* Whether a page is mapped so already; an entry that was evicted is put back. */
static bool mapping_refill(struct mapping *mapping, vm_offset_t pa, int prot)
{
    if (mapping->pa != pa || mapping->prot != prot)
        return false;
    spl_t s = splhigh();
    if (mapping->pte == 0) {
        mapping_load(mapping);
        pteg_refills++;
    }
    splx(s);
    return true;
}

void pmap_enter(struct pmap *pmap, vm_offset_t va, vm_offset_t pa, int prot, bool wired)
{
    struct mapping *old = mapping_lookup(pmap, va);
    if (old && mapping_refill(old, pa, prot))
        return;
    if (old)
        mapping_remove(old);
    if (pa >= mem_size)
        panic("pmap_enter: %s page 0x%08x at 0x%08x is no memory", wired ? "wired" : "pageable", pa, va);
    mapping_make(pmap, va, pa, prot, wired);
}

void pmap_remove(struct pmap *pmap, vm_offset_t start, vm_offset_t end)
{
    for (vm_offset_t va = start; va < end && pmap->resident; va += PAGE_SIZE) {
        struct mapping *mapping = mapping_lookup(pmap, va);
        if (mapping)
            mapping_remove(mapping);
    }
}

/* The physical address of a kernel address, or 0. */
vm_offset_t pmap_extract(vm_offset_t va)
{
    if (va >= 0x2000 && va < wired_end)
        return hw_find_map(0, va) ? va : 0;
    struct mapping *mapping = mapping_lookup(&kernel_pmap, va);
    return mapping ? mapping->pa | (va & 0xfff) : 0;
}

static uint64_t spaces_used = 1; /* space 0 is the kernel's */

/* A new address space; false when all are taken. */
bool pmap_create(struct pmap *pmap)
{
    spl_t s = splhigh();
    *pmap = (struct pmap){.space = 1};
    while (pmap->space < 64 && spaces_used >> pmap->space & 1)
        pmap->space++;
    if (pmap->space < 64)
        spaces_used |= 1ull << pmap->space;
    splx(s);
    return pmap->space < 64;
}

void pmap_destroy(struct pmap *pmap)
{
    spl_t s = splhigh();
    if (pmap->resident)
        panic("pmap_destroy: space %u has %u pages", pmap->space, pmap->resident);
    spaces_used &= ~(1ull << pmap->space);
    splx(s);
}

/* Load the user segments of an address space. */
void pmap_switch(const struct pmap *pmap)
{
    for (vm_offset_t va = VM_MIN_ADDRESS; va < VM_MAX_ADDRESS; va += 0x10000000u)
        set_segment(va, 0x20000000u | segment_id(pmap->space, va));
}

/* Map for good. */
void pmap_map(vm_offset_t va, vm_offset_t pa, vm_size_t size, int prot, int attributes)
{
    spl_t s = splhigh();
    for (vm_size_t done = 0; done < size; done += PAGE_SIZE)
        hw_add_map(0, va + done, pa + done, prot, attributes);
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
    hw_rem_map(hw_find_map(0, guard), guard);
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
    pte_owner = (struct mapping **)pmap_steal_memory(HTAB_SIZE / 8 * sizeof *pte_owner);
    bzero(pte_owner, HTAB_SIZE / 8 * sizeof *pte_owner);
    for (uint32_t segment = 0; segment < 16; segment++)
        set_segment(segment << 28, 0x20000000u | segment_id(0, segment << 28));
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
