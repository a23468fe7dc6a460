/* Link a kernel extension (Mach-O, MH_OBJECT) where it is loaded. */
#include "kern.h"
#include "kmod.h"
#include "macho.h"
#include "task.h"

struct object {
    const uint8_t *file;
    const struct segment_command *segment;
    const struct section *sections;
    const struct symtab_command *symtab;
};

static int take_apart(const uint8_t *file, vm_size_t size, struct object *object)
{
    const struct mach_header *header = (const struct mach_header *)file;
    uint32_t at = sizeof *header;
    if (size < at || header->magic != MH_MAGIC || header->filetype != MH_OBJECT)
        return ENOEXEC;
    *object = (struct object){.file = file};
    for (uint32_t i = 0; i < header->ncmds; i++) {
        const struct load_command *command = (const struct load_command *)(file + at);
        if (command->cmd == LC_SEGMENT)
            object->segment = (const struct segment_command *)command;
        else if (command->cmd == LC_SYMTAB)
            object->symtab = (const struct symtab_command *)command;
        at += command->cmdsize;
    }
    if (object->segment == NULL || object->symtab == NULL)
        return ENOEXEC;
    object->sections = (const struct section *)(object->segment + 1);
    return 0;
}

static void copy_sections(const struct object *object, vm_offset_t base)
{
    for (uint32_t i = 0; i < object->segment->nsects; i++) {
        const struct section *section = &object->sections[i];
        if (section->offset)
            bcopy(object->file + section->offset, (void *)(base + section->addr), section->size);
    }
}

static const char *symbol_name(const struct object *object, const struct nlist *symbol)
{
    return (const char *)object->file + object->symtab->stroff + symbol->n_strx;
}

static int symbol_value(const struct object *object, uint32_t number, vm_offset_t base, vm_offset_t *value)
{
    const struct nlist *symbol = (const struct nlist *)(object->file + object->symtab->symoff) + number;
    if ((symbol->n_type & N_TYPE) == N_SECT) {
        *value = base + symbol->n_value;
        return 0;
    }
    *value = kernel_symbol(symbol_name(object, symbol));
    if (*value == 0)
        printf("kld: undefined symbol %s\n", symbol_name(object, symbol));
    return *value ? 0 : ENOENT;
}

/* Change one place: `slide` is what its value grows by; `other` is the half that a PAIR holds. */
static int relocate(uint32_t *place, uint32_t type, uint32_t slide, uint32_t other)
{
    uint32_t word = *place, half = word & 0xffff;
    switch (type) {
    case PPC_RELOC_VANILLA:
        *place = word + slide;
        return 0;
    case PPC_RELOC_HI16:
        *place = (word & 0xffff0000u) | ((half << 16 | other) + slide) >> 16;
        return 0;
    case PPC_RELOC_LO16:
        *place = (word & 0xffff0000u) | (((other << 16 | half) + slide) & 0xffff);
        return 0;
    case PPC_RELOC_HA16:
        *place = (word & 0xffff0000u) | (((half << 16) + (uint32_t)(int16_t)other + slide + 0x8000) >> 16);
        return 0;
    default:
        return ENOEXEC;
    }
}

static int relocate_section(const struct object *object, const struct section *section, vm_offset_t base)
{
    const struct relocation_info *entry = (const struct relocation_info *)(object->file + section->reloff);
    for (uint32_t i = 0; i < section->nreloc; i++) {
        uint32_t type = R_TYPE(entry[i].r_info), other = 0;
        vm_offset_t slide = base;
        uint32_t *place = (uint32_t *)(base + section->addr + (entry[i].r_address & ~3u));
        int error = R_EXTERN(entry[i].r_info) ? symbol_value(object, R_SYMBOLNUM(entry[i].r_info), base, &slide) : 0;
        if (type != PPC_RELOC_VANILLA && i + 1 < section->nreloc)
            other = entry[++i].r_address & 0xffff;
        if (error == 0)
            error = relocate(place, type, slide, other);
        if (error)
            return error;
    }
    return 0;
}

static void insert_symbol(struct kmod_info *info, vm_offset_t address, const char *name)
{
    uint32_t at = info->symbol_count++;
    for (; at && info->symbols[at - 1].address > address; at--)
        info->symbols[at] = info->symbols[at - 1];
    info->symbols[at] = (struct kmod_symbol){address, name};
}

/* Make the extension's run-time symbol table: its own symbols, where they now are. */
static void keep_symbols(const struct object *object, struct kmod_info *info)
{
    const struct symtab_command *symtab = object->symtab;
    const struct nlist *symbol = (const struct nlist *)(object->file + symtab->symoff);
    info->table_size = symtab->nsyms * sizeof *info->symbols + symtab->strsize;
    info->symbols = kalloc(info->table_size);
    info->strings = (char *)(info->symbols + symtab->nsyms);
    bcopy(object->file + symtab->stroff, info->strings, symtab->strsize);
    for (uint32_t i = 0; i < symtab->nsyms; i++, symbol++)
        if (!(symbol->n_type & N_STAB) && (symbol->n_type & N_TYPE) == N_SECT)
            insert_symbol(info, info->address + symbol->n_value, info->strings + symbol->n_strx);
}

static const struct kmod_entry *find_entry(const struct kmod_info *info)
{
    for (uint32_t i = 0; i < info->symbol_count; i++)
        if (strcmp(info->symbols[i].name, "_kmod_entry") == 0)
            return (const struct kmod_entry *)info->symbols[i].address;
    return NULL;
}

/* Load an object into pageable memory, link it, and describe it in `info`. */
int kld_link(const uint8_t *file, vm_size_t size, struct kmod_info *info)
{
    struct object object;
    int error = take_apart(file, size, &object);
    if (error)
        return error;
    info->size = round_page(object.segment->vmsize);
    if (kmem_alloc_pageable(&info->address, info->size) != KERN_SUCCESS)
        return ENOMEM;
    copy_sections(&object, info->address);
    for (uint32_t i = 0; error == 0 && i < object.segment->nsects; i++)
        error = relocate_section(&object, &object.sections[i], info->address);
    if (error == 0) {
        flush_code(info->address, info->size);
        info->text_size = object.sections[0].size;
        keep_symbols(&object, info);
        info->entry = find_entry(info);
        error = info->entry ? 0 : ENOEXEC;
    }
    if (error && info->symbols)
        kfree(info->symbols, info->table_size);
    if (error)
        kmem_free(info->address);
    return error;
}
