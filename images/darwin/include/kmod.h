/* Kernel extensions. */
#ifndef KMOD_H
#define KMOD_H

#include "types.h"

#define KMOD_NAME 48

struct kmod_symbol {
    vm_offset_t address;
    const char *name;
};

/* An extension that is loaded; `kmod` heads the list. */
struct kmod_info {
    struct kmod_info *next;
    uint32_t id;
    char name[KMOD_NAME], version[16];
    uint32_t reference_count;
    vm_offset_t address;
    vm_size_t size;
    const struct kmod_entry *entry;
    uint32_t symbol_count;
    struct kmod_symbol *symbols;    /* sorted by address */
    char *strings;
    vm_size_t table_size;           /* of symbols and strings */
};
extern struct kmod_info *kmod;

/* What an extension has under the name _kmod_entry. */
struct kmod_entry {
    const char *name, *version;
    int (*start)(void);
    int (*stop)(void);
    uint32_t (*call)(uint32_t argument); /* may be NULL */
};

int kmod_load(const char *path, uint32_t *id);
int kmod_unload(uint32_t id);
struct kmod_info *kmod_lookup(uint32_t id);
int kld_link(const uint8_t *object, vm_size_t size, struct kmod_info *info);
vm_offset_t kernel_symbol(const char *name);
void flush_code(vm_offset_t start, vm_size_t size);

/* What extensions may hook into. */
struct mbuf;
extern void (*ip_filter)(const struct mbuf *m);

#endif
