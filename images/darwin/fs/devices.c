/* Devices: the kernel's log, two consoles, /dev/null, /dev/zero. */
#include "fs.h"
#include "kern.h"
#include "ppc.h"
#include "task.h"

#define CHUNK 256

uint32_t klog_reads, console_writes[2];

/* Read from the message buffer what there is, waiting until there is something. */
static int klog_read(struct vnode *vnode, uint32_t offset, struct uio *uio)
{
    char chunk[CHUNK];
    size_t n = 0;
    (void)vnode, (void)offset;
    klog_reads++;
    msgbuf_wait();
    int c;
    while (n < CHUNK && n < uio->left && (c = log_getc()) >= 0)
        chunk[n++] = (char)c;
    return uiomove(chunk, n, uio, true);
}

/* What a process writes to the log is a message of the kernel's, with its name before it. */
static int klog_write(struct vnode *vnode, uint32_t offset, struct uio *uio)
{
    char text[CHUNK];
    size_t n = uio->left < CHUNK - 1 ? uio->left : CHUNK - 1;
    (void)vnode, (void)offset;
    int error = uiomove(text, n, uio, false);
    if (error)
        return error;
    text[n] = 0;
    printf("%s[%u]: %s\n", current_task()->name, current_task()->pid, text);
    return 0;
}

static int console_write(struct vnode *vnode, uint32_t offset, struct uio *uio)
{
    char chunk[CHUNK];
    (void)offset;
    while (uio->left) {
        size_t n = uio->left < CHUNK ? uio->left : CHUNK;
        int error = uiomove(chunk, n, uio, false);
        if (error)
            return error;
        for (size_t i = 0; i < n; i++)
            scc_putc((int)vnode->minor, chunk[i]);
    }
    console_writes[vnode->minor]++;
    return 0;
}

static int zero_read(struct vnode *vnode, uint32_t offset, struct uio *uio)
{
    static char zeros[CHUNK];
    int error = 0;
    (void)vnode, (void)offset;
    while (uio->left && error == 0)
        error = uiomove(zeros, uio->left < CHUNK ? uio->left : CHUNK, uio, true);
    return error;
}

static int null_read(struct vnode *vnode, uint32_t offset, struct uio *uio)
{
    (void)vnode, (void)offset, (void)uio;
    return 0;
}

static int null_write(struct vnode *vnode, uint32_t offset, struct uio *uio)
{
    (void)vnode, (void)offset;
    uio->left = 0;
    return 0;
}

static uint32_t no_size(const struct vnode *vnode)
{
    (void)vnode;
    return 0;
}

static uint32_t klog_size(const struct vnode *vnode)
{
    (void)vnode;
    return msgbuf_waiting();
}

static const struct vnode_operations klog_operations = {klog_read, klog_write, klog_size};
static const struct vnode_operations console_operations = {null_read, console_write, no_size};
static const struct vnode_operations null_operations = {null_read, null_write, no_size};
static const struct vnode_operations zero_operations = {zero_read, null_write, no_size};

static const struct {
    const char *path;
    const struct vnode_operations *operations;
    uint32_t minor;
} devices[] = {
    {"/dev/klog", &klog_operations, 0},  {"/dev/console", &console_operations, 0},
    {"/dev/tty1", &console_operations, 1}, {"/dev/null", &null_operations, 0},
    {"/dev/zero", &zero_operations, 0},
};

void device_init(void)
{
    for (unsigned i = 0; i < countof(devices); i++) {
        struct vnode *vnode;
        memfs_make(devices[i].path, VCHR, &vnode);
        vnode->operations = devices[i].operations;
        vnode->minor = devices[i].minor;
    }
}
