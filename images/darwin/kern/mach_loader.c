/* Map a Mach-O executable into a process: its pages come from the file when they are touched. */
#include "fs.h"
#include "kern.h"
#include "macho.h"
#include "task.h"

#define COMMANDS_MAX 2048u

static int map_segment(struct vnode *vnode, struct vm_map *map, const struct segment_command *segment)
{
    struct vm_map_entry like = {.prot = VM_PROT_READ | VM_PROT_USER};
    vm_offset_t at = segment->vmaddr, stop = at + segment->vmsize;
    if (segment->vmsize == 0 || strncmp(segment->segname, "__LINKEDIT", 16) == 0)
        return 0;
    if (at < VM_MIN_ADDRESS || stop > VM_MAX_ADDRESS || stop < at || (at | segment->fileoff) % PAGE_SIZE)
        return ENOEXEC;
    if (segment->initprot & VM_PROT_WRITE)
        like.prot |= VM_PROT_WRITE;
    like.object.vnode = vnode;
    like.object.file_offset = segment->fileoff;
    like.object.file_size = segment->filesize;
    return vm_map_enter(map, &at, stop, &like, round_page(segment->vmsize)) == KERN_SUCCESS ? 0 : ENOEXEC;
}

static int load_command(struct vnode *vnode, struct vm_map *map, const struct load_command *command,
                        vm_offset_t *entry)
{
    switch (command->cmd) {
    case LC_SEGMENT:
        return map_segment(vnode, map, (const struct segment_command *)command);
    case LC_UNIXTHREAD:
        *entry = ((const struct thread_command *)command)->srr0;
        return 0;
    default:
        return 0;
    }
}

int load_machfile(struct vnode *vnode, struct vm_map *map, vm_offset_t *entry)
{
    struct mach_header header;
    int error = vnode_read_kernel(vnode, 0, &header, sizeof header);
    if (error)
        return error;
    if (header.magic != MH_MAGIC || header.filetype != MH_EXECUTE || header.sizeofcmds > COMMANDS_MAX)
        return ENOEXEC;
    uint8_t *commands = kalloc(COMMANDS_MAX);
    error = vnode_read_kernel(vnode, sizeof header, commands, header.sizeofcmds);
    *entry = 0;
    for (uint32_t at = 0; error == 0 && at < header.sizeofcmds;) {
        const struct load_command *command = (const struct load_command *)(commands + at);
        error = command->cmdsize < sizeof *command ? ENOEXEC : load_command(vnode, map, command, entry);
        at += command->cmdsize;
    }
    kfree(commands, COMMANDS_MAX);
    return error == 0 && *entry == 0 ? ENOEXEC : error;
}
