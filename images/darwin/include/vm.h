/* Virtual memory: the machine-independent half on top of pmap. */
#ifndef VM_H
#define VM_H

#include "queue.h"
#include "types.h"

#define KERNEL_MAP_WIRED 0x15000000u    /* kmem_alloc_wired: far beyond branch reach of the text */
#define KERNEL_MAP_PAGEABLE 0x40000000u /* kmem_alloc_pageable */
#define KERNEL_MAP_END 0x50000000u

#define VM_PROT_READ 1
#define VM_PROT_WRITE 2
#define VM_MEM_GUARDED 1                /* device registers */

struct vm_page {
    struct vm_page *next;               /* free list, or the pages of an object */
    vm_offset_t offset;
    vm_offset_t phys;
    bool wired;
};

struct vm_object {
    struct vm_page *pages;
    uint32_t resident;
};

struct vm_map_entry {
    struct vm_map_entry *next;
    vm_offset_t start, end;
    struct vm_object object;
    bool wired;
};

extern vm_size_t mem_size;
extern uint32_t vm_page_free_count;
extern uint32_t vm_faults;

void vm_page_bootstrap(vm_offset_t start, vm_offset_t end);
void vm_page_release(struct vm_page *page);
struct vm_page *vm_page_grab(void);
struct vm_page *vm_page_lookup(struct vm_object *object, vm_offset_t offset);
void vm_page_insert(struct vm_page *page, struct vm_object *object, vm_offset_t offset);
void vm_object_terminate(struct vm_object *object);

void vm_map_init(void);
struct vm_map_entry *vm_map_lookup_entry(vm_offset_t address);
int vm_map_enter(vm_offset_t *address, vm_size_t size, bool wired);
int vm_map_remove(vm_offset_t address);
int vm_fault(vm_offset_t address, bool write);
int vm_fault_wire(struct vm_map_entry *entry);

int kmem_alloc_wired(vm_offset_t *address, vm_size_t size);
int kmem_alloc_pageable(vm_offset_t *address, vm_size_t size);
void kmem_free(vm_offset_t address);

/* pmap: the machine-dependent half. */
struct mapping {
    struct mapping *next;               /* same hash bucket */
    vm_offset_t va, pa;
    uint32_t pte;                       /* address of its hash table entry */
};

void pmap_bootstrap(void);
vm_offset_t pmap_steal_memory(vm_size_t size);
vm_offset_t pmap_steal_stack(void);
void pmap_map(vm_offset_t va, vm_offset_t pa, vm_size_t size, int prot, int attributes);
void pmap_enter(vm_offset_t va, vm_offset_t pa, int prot, bool wired);
void pmap_remove(vm_offset_t start, vm_offset_t end);
vm_offset_t pmap_extract(vm_offset_t va);
struct mapping *mapping_make(vm_offset_t va, vm_offset_t pa, int prot, int attributes);
struct mapping *mapping_lookup(vm_offset_t va);
void mapping_remove(struct mapping *mapping);
uint32_t hw_add_map(vm_offset_t va, vm_offset_t pa, int prot, int attributes);
void hw_rem_map(uint32_t pte, vm_offset_t va);

#endif
