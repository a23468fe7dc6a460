/* Kernel extensions. */
#ifndef KMOD_H
#define KMOD_H

#include "types.h"

#define KMOD_NAME 64

/* Of Darwin's structure, and of ours: the same, and the symbols behind it. */
#define KMOD_INFO_VERSION 1
#define KMOD_INFO_SYMBOLS 2

struct kmod_symbol {
    vm_offset_t address;
    const char *name;
};

/* An extension that is loaded; `kmod` heads the list. Up to `stop` it is laid out as Darwin's. */
struct kmod_info {
    struct kmod_info *next;
    uint32_t info_version;
    uint32_t id;
    char name[KMOD_NAME], version[KMOD_NAME];
    uint32_t reference_count;
    void *reference_list;
    vm_offset_t address;
    vm_size_t size;
    vm_size_t hdr_size;
    int (*start)(void);
    int (*stop)(void);
    uint32_t symbol_count;
    struct kmod_symbol *symbols;    /* sorted by address */
    char *strings;
    vm_size_t table_size;           /* of symbols and strings */
    vm_size_t text_size;            /* code comes first */
    const struct kmod_entry *entry;
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
