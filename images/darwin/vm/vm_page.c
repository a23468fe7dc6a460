/* Physical pages: the free list, and the pages that objects own. */
#include "kern.h"
#include "ppc.h"
#include "vm.h"

static struct vm_page *free_list;
uint32_t vm_page_free_count;

/* Add the physical pages of a range to the free list. */
void vm_page_bootstrap(vm_offset_t start, vm_offset_t end)
{
    if (end <= start)
        return;
    uint32_t count = (end - start) / PAGE_SIZE;
    struct vm_page *pages = (struct vm_page *)pmap_steal_memory(count * sizeof *pages);
    for (uint32_t i = count; i-- > 0;) {
        pages[i].phys = start + i * PAGE_SIZE;
        pages[i].wired = false;
        pages[i].next = free_list;
        free_list = &pages[i];
    }
    vm_page_free_count += count;
}

struct vm_page *vm_page_grab(void)
{
    spl_t s = splhigh();
    struct vm_page *page = free_list;
    if (page) {
        free_list = page->next;
        vm_page_free_count--;
    }
    splx(s);
    return page;
}

void vm_page_release(struct vm_page *page)
{
    spl_t s = splhigh();
    page->wired = false;
    page->next = free_list;
    free_list = page;
    vm_page_free_count++;
    splx(s);
}

struct vm_page *vm_page_lookup(struct vm_object *object, vm_offset_t offset)
{
    struct vm_page *page = object->pages;
    while (page && page->offset != offset)
        page = page->next;
    return page;
}

void vm_page_insert(struct vm_page *page, struct vm_object *object, vm_offset_t offset)
{
    page->offset = offset;
    page->next = object->pages;
    object->pages = page;
    object->resident++;
}

void vm_object_terminate(struct vm_object *object)
{
    while (object->pages) {
        struct vm_page *page = object->pages;
        object->pages = page->next;
        object->resident--;
        vm_page_release(page);
    }
}
