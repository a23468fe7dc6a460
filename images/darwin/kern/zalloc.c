/* Zones: elements of one size from the wired heap; kalloc on top of them. */
#include "kern.h"
#include "ppc.h"
#include "vm.h"

#define KALLOC_ZONES 9 /* 16 ... 4096 */

static struct zone kalloc_zones[KALLOC_ZONES];
static const char *const kalloc_names[KALLOC_ZONES] = {
    "kalloc.16", "kalloc.32", "kalloc.64", "kalloc.128", "kalloc.256",
    "kalloc.512", "kalloc.1024", "kalloc.2048", "kalloc.4096",
};

void zinit(struct zone *zone, vm_size_t element, const char *name)
{
    zone->free = NULL;
    zone->element = (element + 15) & ~15u;
    zone->count = zone->in_use = 0;
    zone->name = name;
}

/* Give a zone a page's worth of elements; interrupts are off. */
static void zcram(struct zone *zone)
{
    vm_size_t size = zone->element > PAGE_SIZE ? zone->element : PAGE_SIZE;
    vm_offset_t at = pmap_steal_memory(size), stop = at + size;
    for (; at + zone->element <= stop; at += zone->element) {
        *(void **)at = zone->free;
        zone->free = (void *)at;
        zone->count++;
    }
}

void *zalloc(struct zone *zone)
{
    spl_t s = splhigh();
    if (zone->free == NULL)
        zcram(zone);
    void *element = zone->free;
    zone->free = *(void **)element;
    zone->in_use++;
    splx(s);
    return element;
}

void zfree(struct zone *zone, void *element)
{
    spl_t s = splhigh();
    if (zone->in_use == 0)
        panic("zfree: zone %s is whole already", zone->name);
    *(void **)element = zone->free;
    zone->free = element;
    zone->in_use--;
    splx(s);
}

static struct zone *kalloc_zone(vm_size_t size)
{
    int index = size <= 16 ? 0 : 28 - ffsbit(size - 1);
    return index < KALLOC_ZONES ? &kalloc_zones[index] : NULL;
}

/* Memory in the wired heap up to a page, else wired pages of the kernel map. */
void *kalloc(vm_size_t size)
{
    struct zone *zone = kalloc_zone(size);
    vm_offset_t address;
    if (zone)
        return zalloc(zone);
    if (kmem_alloc_wired(&address, size) != KERN_SUCCESS)
        panic("kalloc: no room for %u bytes", size);
    return (void *)address;
}

void kfree(void *data, vm_size_t size)
{
    struct zone *zone = kalloc_zone(size);
    if (zone)
        zfree(zone, data);
    else
        kmem_free((vm_offset_t)data);
}

void kalloc_init(void)
{
    for (int i = 0; i < KALLOC_ZONES; i++)
        zinit(&kalloc_zones[i], 16u << i, kalloc_names[i]);
}
