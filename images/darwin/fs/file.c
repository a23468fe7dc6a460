/* Open files, and the system calls on them. */
#include "fs.h"
#include "kern.h"
#include "net.h"
#include "task.h"

static struct zone file_zone;

struct file *file_allocate(void)
{
    if (file_zone.element == 0)
        zinit(&file_zone, sizeof(struct file), "files");
    struct file *file = zalloc(&file_zone);
    *file = (struct file){0};
    return file;
}

void file_free(struct file *file)
{
    if (file->vnode)
        hw_atomic_sub(&file->vnode->uses, 1);
    if (file->socket)
        socket_close(file->socket);
    zfree(&file_zone, file);
}

/* Move bytes from the kernel (`out`) or into it, and count them. */
int uiomove(void *kernel, size_t n, struct uio *uio, bool out)
{
    int error = 0;
    if (!uio->user && out)
        bcopy(kernel, (void *)uio->base, n);
    else if (!uio->user)
        bcopy((const void *)uio->base, kernel, n);
    else
        error = out ? copyout(kernel, uio->base, n) : copyin(uio->base, kernel, n);
    if (error)
        return error;
    uio->base += n;
    uio->left -= n;
    return 0;
}

static struct file *get_file(struct task *self, uint32_t number)
{
    return number < NOFILE ? self->files[number] : NULL;
}

int sys_open(struct task *self, const uint32_t *argument, uint32_t *result)
{
    char path[MAXPATH];
    struct vnode *vnode;
    uint32_t number = 0, flags = argument[1];
    int error = copyinstr(argument[0], path, sizeof path);
    if (error)
        return error;
    while (number < NOFILE && self->files[number])
        number++;
    if (number == NOFILE)
        return EMFILE;
    error = namei(path, &vnode);
    if (error && flags & O_CREAT)
        error = memfs_make(path, VREG, &vnode);
    if (error)
        return error;
    if (flags & O_TRUNC && vnode->type == VREG)
        vnode_truncate(vnode);
    struct file *file = file_allocate();
    file->vnode = vnode;
    file->flags = flags;
    hw_atomic_add(&vnode->uses, 1);
    self->files[number] = file;
    *result = number;
    return 0;
}

int sys_close(struct task *self, const uint32_t *argument, uint32_t *result)
{
    struct file *file = get_file(self, argument[0]);
    (void)result;
    if (file == NULL)
        return EBADF;
    self->files[argument[0]] = NULL;
    file_free(file);
    return 0;
}

int sys_read(struct task *self, const uint32_t *argument, uint32_t *result)
{
    struct file *file = get_file(self, argument[0]);
    struct uio uio = {argument[1], argument[2], true};
    if (file == NULL || file->vnode == NULL)
        return EBADF;
    int error = file->vnode->operations->read(file->vnode, file->offset, &uio);
    if (error)
        return error;
    *result = argument[2] - uio.left;
    file->offset += *result;
    return 0;
}

int sys_write(struct task *self, const uint32_t *argument, uint32_t *result)
{
    struct file *file = get_file(self, argument[0]);
    struct uio uio = {argument[1], argument[2], true};
    if (file == NULL || file->vnode == NULL)
        return EBADF;
    if (file->flags & O_APPEND)
        file->offset = file->vnode->operations->size(file->vnode);
    int error = file->vnode->operations->write(file->vnode, file->offset, &uio);
    if (error)
        return error;
    *result = argument[2] - uio.left;
    file->offset += *result;
    return 0;
}

int sys_size(struct task *self, const uint32_t *argument, uint32_t *result)
{
    const struct file *file = get_file(self, argument[0]);
    if (file == NULL || file->vnode == NULL)
        return EBADF;
    *result = file->vnode->operations->size(file->vnode);
    return 0;
}

static int named(vm_offset_t path_at, struct vnode **vnode)
{
    char path[MAXPATH];
    int error = copyinstr(path_at, path, sizeof path);
    return error ? error : namei(path, vnode);
}

int sys_unlink(struct task *self, const uint32_t *argument, uint32_t *result)
{
    struct vnode *vnode;
    (void)self, (void)result;
    int error = named(argument[0], &vnode);
    return error ? error : vnode_unlink(vnode);
}

int sys_rename(struct task *self, const uint32_t *argument, uint32_t *result)
{
    char path[MAXPATH];
    struct vnode *vnode;
    (void)self, (void)result;
    int error = named(argument[0], &vnode);
    if (error == 0)
        error = copyinstr(argument[1], path, sizeof path);
    return error ? error : vnode_rename(vnode, path);
}
