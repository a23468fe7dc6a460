/* The memory file system: a tree of names; contents in pages of the wired heap. */
#include "fs.h"
#include "kern.h"
#include "task.h"

static struct mutex memfs_lock;
static struct zone vnode_zone;
static struct vnode *root;
uint32_t memfs_reads, memfs_writes, vm_pageins;

static uint8_t *file_page(struct vnode *vnode, uint32_t index)
{
    if (index >= VNODE_PAGES)
        return NULL;
    if (vnode->pages[index] == NULL) {
        vnode->pages[index] = kalloc(PAGE_SIZE);
        bzero(vnode->pages[index], PAGE_SIZE);
    }
    return vnode->pages[index];
}

/* Move bytes between a file's pages and `uio`, a page at a time; the file system is locked. */
static int memfs_move(struct vnode *vnode, uint32_t offset, struct uio *uio, bool out)
{
    int error = 0;
    while (uio->left && error == 0) {
        uint32_t within = offset % PAGE_SIZE, n = PAGE_SIZE - within;
        uint8_t *page = file_page(vnode, offset / PAGE_SIZE);
        if (page == NULL)
            return EFBIG;
        if (n > uio->left)
            n = uio->left;
        error = uiomove(page + within, n, uio, out);
        offset += n;
        if (!out && offset > vnode->size)
            vnode->size = offset;
    }
    return error;
}

static int memfs_read(struct vnode *vnode, uint32_t offset, struct uio *uio)
{
    mutex_lock(&memfs_lock);
    size_t left = uio->left, there = offset < vnode->size ? vnode->size - offset : 0;
    uio->left = left < there ? left : there;
    size_t kept = left - uio->left;
    int error = memfs_move(vnode, offset, uio, true);
    uio->left += kept;
    memfs_reads++;
    mutex_unlock(&memfs_lock);
    return error;
}

static int memfs_write(struct vnode *vnode, uint32_t offset, struct uio *uio)
{
    mutex_lock(&memfs_lock);
    int error = memfs_move(vnode, offset, uio, false);
    memfs_writes++;
    mutex_unlock(&memfs_lock);
    return error;
}

static uint32_t memfs_size(const struct vnode *vnode)
{
    return vnode->size;
}

static const struct vnode_operations memfs_operations = {memfs_read, memfs_write, memfs_size};

static struct vnode *vnode_create(struct vnode *parent, const char *name, enum vnode_type type)
{
    struct vnode *vnode = zalloc(&vnode_zone);
    bzero(vnode, sizeof *vnode);
    strlcpy(vnode->name, name, sizeof vnode->name);
    vnode->type = type;
    vnode->operations = &memfs_operations;
    vnode->parent = parent;
    if (parent) {
        vnode->sibling = parent->child;
        parent->child = vnode;
    }
    return vnode;
}

static struct vnode *lookup(struct vnode *directory, const char *name)
{
    struct vnode *vnode = directory->child;
    while (vnode && strcmp(vnode->name, name) != 0)
        vnode = vnode->sibling;
    return vnode;
}

/* Copy a path's next name; what follows it. */
static const char *next_name(const char *path, char *name)
{
    size_t n = 0;
    while (*path == '/')
        path++;
    for (; *path && *path != '/'; path++)
        if (n + 1 < NAME_MAX)
            name[n++] = *path;
    name[n] = 0;
    return path;
}

/* Find a path; the file system is locked. */
static struct vnode *walk(const char *path)
{
    char name[NAME_MAX];
    struct vnode *vnode = root;
    for (path = next_name(path, name); vnode && name[0]; path = next_name(path, name))
        vnode = lookup(vnode, name);
    return vnode;
}

int namei(const char *path, struct vnode **found)
{
    mutex_lock(&memfs_lock);
    *found = walk(path);
    mutex_unlock(&memfs_lock);
    return *found ? 0 : ENOENT;
}

/* Make a file, and the directories above it. */
int memfs_make(const char *path, enum vnode_type type, struct vnode **made)
{
    char name[NAME_MAX];
    mutex_lock(&memfs_lock);
    struct vnode *vnode = root;
    for (path = next_name(path, name); name[0]; path = next_name(path, name)) {
        struct vnode *below = lookup(vnode, name);
        vnode = below ? below : vnode_create(vnode, name, *path ? VDIR : type);
    }
    mutex_unlock(&memfs_lock);
    *made = vnode;
    return vnode->type == type ? 0 : EEXIST;
}

static void detach(struct vnode *vnode)
{
    struct vnode **link = &vnode->parent->child;
    while (*link != vnode)
        link = &(*link)->sibling;
    *link = vnode->sibling;
}

void vnode_truncate(struct vnode *vnode)
{
    mutex_lock(&memfs_lock);
    for (uint32_t i = 0; i < VNODE_PAGES; i++) {
        if (vnode->pages[i])
            kfree(vnode->pages[i], PAGE_SIZE);
        vnode->pages[i] = NULL;
    }
    vnode->size = 0;
    mutex_unlock(&memfs_lock);
}

/* Remove a file that nobody has open. */
int vnode_unlink(struct vnode *vnode)
{
    if (vnode->type != VREG || vnode->uses)
        return EINVAL;
    vnode_truncate(vnode);
    mutex_lock(&memfs_lock);
    detach(vnode);
    mutex_unlock(&memfs_lock);
    zfree(&vnode_zone, vnode);
    return 0;
}

/* Give a file another place in the tree; a file that is there already goes. */
int vnode_rename(struct vnode *vnode, const char *path)
{
    struct vnode *target;
    int error = namei(path, &target) ? 0 : vnode_unlink(target);
    if (error)
        return error;
    error = memfs_make(path, VREG, &target);
    mutex_lock(&memfs_lock);
    if (error == 0) { /* take the new file's place and name */
        detach(vnode);
        vnode->parent = target->parent;
        vnode->sibling = target->parent->child;
        target->parent->child = vnode;
        bcopy(target->name, vnode->name, sizeof vnode->name);
        detach(target);
        zfree(&vnode_zone, target);
    }
    mutex_unlock(&memfs_lock);
    return error;
}

int memfs_write_kernel(struct vnode *vnode, const void *data, uint32_t size)
{
    struct uio uio = {(vm_offset_t)data, size, false};
    return vnode->operations->write(vnode, 0, &uio);
}

/* Read exactly n bytes for the kernel itself. */
int vnode_read_kernel(struct vnode *vnode, uint32_t offset, void *to, size_t n)
{
    struct uio uio = {(vm_offset_t)to, n, false};
    int error = vnode->operations->read(vnode, offset, &uio);
    return error == 0 && uio.left ? EINVAL : error;
}

/* Fill a page of an executable: straight between physical pages. */
int vnode_pagein(struct vm_object *object, struct vm_page *page, vm_offset_t offset)
{
    if (offset >= object->file_size)
        return 0;
    uint32_t n = object->file_size - offset < PAGE_SIZE ? object->file_size - offset : PAGE_SIZE;
    uint8_t *from = object->vnode->pages[(object->file_offset + offset) / PAGE_SIZE];
    if (from == NULL)
        return EINVAL;
    bcopy_phys((vm_offset_t)from, page->phys, (n + 3) / 4);
    vm_pageins++;
    return 0;
}

void memfs_init(void)
{
    mutex_init(&memfs_lock);
    zinit(&vnode_zone, sizeof(struct vnode), "vnodes");
    root = vnode_create(NULL, "", VDIR);
}
