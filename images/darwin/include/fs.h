/* Files: a tree of vnodes in memory, devices among them. */
#ifndef FS_H
#define FS_H

#include "types.h"

#define VNODE_PAGES 128                 /* half a MiB in a file */
#define NAME_MAX 32

struct vnode;

struct uio {                            /* a transfer to or from a user process, or the kernel */
    vm_offset_t base;
    size_t left;
    bool user;
};
int uiomove(void *kernel, size_t n, struct uio *uio, bool out);

struct vnode_operations {
    int (*read)(struct vnode *vnode, uint32_t offset, struct uio *uio);
    int (*write)(struct vnode *vnode, uint32_t offset, struct uio *uio);
    uint32_t (*size)(const struct vnode *vnode);
};

enum vnode_type { VDIR, VREG, VCHR };

struct vnode {
    struct vnode *parent, *child, *sibling;
    enum vnode_type type;
    char name[NAME_MAX];
    uint32_t size, uses;
    const struct vnode_operations *operations;
    uint32_t minor;
    uint8_t *pages[VNODE_PAGES];
};

void memfs_init(void);
int memfs_make(const char *path, enum vnode_type type, struct vnode **made);
int memfs_write_kernel(struct vnode *vnode, const void *data, uint32_t size);
int namei(const char *path, struct vnode **found);
int vnode_unlink(struct vnode *vnode);
int vnode_rename(struct vnode *vnode, const char *path);
void vnode_truncate(struct vnode *vnode);
int vnode_read_kernel(struct vnode *vnode, uint32_t offset, void *to, size_t n);
void device_init(void);
void archive_unpack(const uint8_t *archive, const uint8_t *end);

#define O_CREAT 0x200
#define O_TRUNC 0x400
#define O_APPEND 8

struct socket;
struct file {
    struct vnode *vnode;
    struct socket *socket;
    uint32_t offset, flags;
};
struct file *file_allocate(void);
void file_free(struct file *file);

#endif
