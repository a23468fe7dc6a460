/* Memory for the kernel itself. */
#include "kern.h"
#include "vm.h"

/* Wired, zeroed memory at KERNEL_MAP_WIRED and above. */
int kmem_alloc_wired(vm_offset_t *address, vm_size_t size)
{
    const struct vm_map_entry like = {.prot = VM_PROT_READ | VM_PROT_WRITE, .wired = true};
    *address = KERNEL_MAP_WIRED;
    int result = vm_map_enter(&kernel_map, address, KERNEL_MAP_PAGEABLE, &like, round_page(size));
    if (result != KERN_SUCCESS)
        return result;
    mutex_lock(&kernel_map.lock);
    result = vm_fault_wire(&kernel_map, vm_map_lookup_entry(&kernel_map, *address));
    mutex_unlock(&kernel_map.lock);
    if (result != KERN_SUCCESS)
        vm_map_remove(&kernel_map, *address);
    return result;
}

/* Memory whose pages come at the first touch. */
int kmem_alloc_pageable(vm_offset_t *address, vm_size_t size)
{
    const struct vm_map_entry like = {.prot = VM_PROT_READ | VM_PROT_WRITE};
    *address = KERNEL_MAP_PAGEABLE;
    return vm_map_enter(&kernel_map, address, KERNEL_MAP_END, &like, round_page(size));
}

void kmem_free(vm_offset_t address)
{
    if (vm_map_remove(&kernel_map, address) != KERN_SUCCESS)
        panic("kmem_free: nothing was allocated at 0x%08x", address);
}
