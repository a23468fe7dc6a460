/* The boot archive: a tar file in the kernel's data, unpacked into the memory file system. */
#include "fs.h"
#include "kern.h"

#define BLOCK 512u

struct tar_header {
    char name[100], mode[8], owner[8], group[8], size[12], rest[376];
};
_Static_assert(sizeof(struct tar_header) == BLOCK, "tar header");

uint32_t archive_files;

static void unpack_file(const struct tar_header *header, uint32_t size)
{
    char path[101];
    struct vnode *vnode;
    strlcpy(path, header->name, sizeof path);
    if (memfs_make(path, VREG, &vnode) || memfs_write_kernel(vnode, header + 1, size))
        panic("the boot archive's %s cannot be unpacked", path);
    archive_files++;
}

void archive_unpack(const uint8_t *archive, const uint8_t *end)
{
    const struct tar_header *header = (const struct tar_header *)archive;
    while ((const uint8_t *)header < end && header->name[0]) {
        uint32_t size = strtoul(header->size, NULL, 8);
        unpack_file(header, size);
        header += 1 + (size + BLOCK - 1) / BLOCK;
    }
}
