/* Mach-O, as far as programs and kernel extensions use it. */
#ifndef MACHO_H
#define MACHO_H

#include "types.h"

#define MH_MAGIC 0xfeedfaceu
#define MH_OBJECT 1
#define MH_EXECUTE 2
#define LC_SEGMENT 1
#define LC_SYMTAB 2
#define LC_UNIXTHREAD 5

struct mach_header {
    uint32_t magic, cputype, cpusubtype, filetype, ncmds, sizeofcmds, flags;
};
struct load_command {
    uint32_t cmd, cmdsize;
};
struct segment_command {
    uint32_t cmd, cmdsize;
    char segname[16];
    uint32_t vmaddr, vmsize, fileoff, filesize, maxprot, initprot, nsects, flags;
};
struct section {
    char sectname[16], segname[16];
    uint32_t addr, size, offset, align, reloff, nreloc, flags, reserved1, reserved2;
};
struct symtab_command {
    uint32_t cmd, cmdsize, symoff, nsyms, stroff, strsize;
};
struct thread_command {
    uint32_t cmd, cmdsize, flavor, count, srr0;
};
struct nlist {
    uint32_t n_strx;
    uint8_t n_type, n_sect;
    uint16_t n_desc;
    uint32_t n_value;
};
#define N_STAB 0xe0
#define N_TYPE 0x0e
#define N_EXT 0x01
#define N_UNDF 0x00
#define N_SECT 0x0e

struct relocation_info {
    uint32_t r_address;
    uint32_t r_info;                /* symbol or section 24 bits, pcrel 1, length 2, extern 1, type 4 */
};
#define R_SYMBOLNUM(info) ((info) >> 8)
#define R_EXTERN(info) ((info) >> 4 & 1)
#define R_TYPE(info) ((info) & 15)
#define PPC_RELOC_VANILLA 0
#define PPC_RELOC_PAIR 1
#define PPC_RELOC_BR24 3
#define PPC_RELOC_HI16 4
#define PPC_RELOC_LO16 5
#define PPC_RELOC_HA16 6

#endif
