/* Virtual memory: the machine-independent half on top of pmap. */
#ifndef VM_H
#define VM_H

#include "kern.h"
#include "queue.h"
#include "types.h"

#define KERNEL_MAP_WIRED 0x15000000u    /* kmem_alloc_wired: far beyond branch reach of the text */
#define KERNEL_MAP_PAGEABLE 0x40000000u /* kmem_alloc_pageable */
#define KERNEL_MAP_END 0x50000000u
#define VM_MIN_ADDRESS 0x50000000u      /* user processes */
#define VM_MAX_ADDRESS 0x80000000u

#define VM_PROT_READ 1
#define VM_PROT_WRITE 2
#define VM_PROT_USER 4
#define VM_MEM_GUARDED 1                /* device registers */

struct pmap {
    uint32_t space;                     /* number of the address space; the kernel's is 0 */
    uint32_t resident;                  /* mappings */
};
extern struct pmap kernel_pmap;

struct vm_page {
    struct vm_page *next;               /* free list, or the pages of an object */
    vm_offset_t offset;
    vm_offset_t phys;
    bool wired;
};

struct vnode;
struct vm_object {
    struct vm_page *pages;
    uint32_t resident;
    struct vnode *vnode;                /* where pages come from; NULL: zeros */
    vm_size_t file_offset, file_size;
};

struct vm_map_entry {
    struct vm_map_entry *next;
    vm_offset_t start, end;
    struct vm_object object;
    int prot;
    bool wired;
};

struct vm_map {
    struct mutex lock;
    struct vm_map_entry *entries;       /* sorted by address */
    struct pmap *pmap;
    uint32_t faults;
};
extern struct vm_map kernel_map;

extern vm_size_t mem_size;
extern uint32_t vm_page_free_count;
extern uint32_t vm_faults, vm_pageins, pteg_evictions, pteg_refills;

void vm_page_bootstrap(vm_offset_t start, vm_offset_t end);
void vm_page_release(struct vm_page *page);
struct vm_page *vm_page_grab(void);
struct vm_page *vm_page_lookup(struct vm_object *object, vm_offset_t offset);
void vm_page_insert(struct vm_page *page, struct vm_object *object, vm_offset_t offset);
void vm_object_terminate(struct vm_object *object);

void vm_map_init(void);
void vm_map_create(struct vm_map *map, struct pmap *pmap);
void vm_map_destroy(struct vm_map *map);
struct vm_map_entry *vm_map_lookup_entry(struct vm_map *map, vm_offset_t address);
int vm_map_enter(struct vm_map *map, vm_offset_t *address, vm_offset_t stop, const struct vm_map_entry *like,
                 vm_size_t size);
int vm_map_remove(struct vm_map *map, vm_offset_t address);
int vm_fault(struct vm_map *map, vm_offset_t address, bool write);
int vm_fault_wire(struct vm_map *map, struct vm_map_entry *entry);
int vnode_pagein(struct vm_object *object, struct vm_page *page, vm_offset_t offset);

int kmem_alloc_wired(vm_offset_t *address, vm_size_t size);
int kmem_alloc_pageable(vm_offset_t *address, vm_size_t size);
void kmem_free(vm_offset_t address);

/* pmap: the machine-dependent half. */
struct mapping {
    struct mapping *next;               /* same hash bucket */
    struct pmap *pmap;
    vm_offset_t va, pa;
    uint32_t pte;                       /* address of its hash table entry; 0: it was evicted */
    int prot;
    bool wired;
};

void pmap_bootstrap(void);
vm_offset_t pmap_steal_memory(vm_size_t size);
vm_offset_t pmap_steal_stack(void);
void pmap_map(vm_offset_t va, vm_offset_t pa, vm_size_t size, int prot, int attributes);
bool pmap_create(struct pmap *pmap);
void pmap_destroy(struct pmap *pmap);
void pmap_switch(const struct pmap *pmap);
void pmap_enter(struct pmap *pmap, vm_offset_t va, vm_offset_t pa, int prot, bool wired);
void pmap_remove(struct pmap *pmap, vm_offset_t start, vm_offset_t end);
vm_offset_t pmap_extract(vm_offset_t va);
struct mapping *mapping_make(struct pmap *pmap, vm_offset_t va, vm_offset_t pa, int prot, bool wired);
struct mapping *mapping_lookup(struct pmap *pmap, vm_offset_t va);
void mapping_remove(struct mapping *mapping);
uint32_t hw_add_map(uint32_t space, vm_offset_t va, vm_offset_t pa, int prot, int attributes);
void hw_rem_map(uint32_t pte, vm_offset_t va);

#endif
