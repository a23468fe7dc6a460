/* The kernel's own use of files: write, read back, rename, remove. */
#include "fs.h"
#include "kern.h"
#include "work.h"

#define LENGTH 3000

static bool holds(struct vnode *vnode, const uint8_t *data, uint32_t length)
{
    uint8_t *back = kalloc(LENGTH);
    bool right = vnode_read_kernel(vnode, 0, back, length) == 0 && memcmp(back, data, length) == 0;
    right &= vnode_read_kernel(vnode, length - 1, back, 2) != 0; /* only one byte is left */
    kfree(back, LENGTH);
    return right;
}

bool work_files(uint32_t number)
{
    struct vnode *vnode, *found;
    uint8_t *data = kalloc(LENGTH);
    uint32_t length = 1 + number * 97 % (LENGTH - 1);
    fill_random(number, data, LENGTH);
    bool right = memfs_make("/private/kernel/work", VREG, &vnode) == 0;
    right &= memfs_write_kernel(vnode, data, length) == 0 && holds(vnode, data, length);
    right &= vnode_rename(vnode, "/private/kernel/done") == 0;
    right &= namei("/private/kernel/work", &found) != 0 && namei("/private/kernel/done", &found) == 0;
    right &= found == vnode && holds(found, data, length);
    right &= vnode_unlink(vnode) == 0 && namei("/private/kernel/done", &found) != 0;
    kfree(data, LENGTH);
    return right;
}
