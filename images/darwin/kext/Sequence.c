/* An extension that is a driver: /dev/sequence gives the squares one after the other, four bytes each. */
#include "fs.h"
#include "kern.h"
#include "kmod.h"

static struct vnode *sequence;
static struct mutex sequence_lock;

static uint32_t square(uint32_t n)
{
    return n * n;
}

static int sequence_read(struct vnode *vnode, uint32_t offset, struct uio *uio)
{
    int error = 0;
    (void)vnode;
    mutex_lock(&sequence_lock);
    for (uint32_t n = offset / 4; uio->left >= 4 && error == 0; n++) {
        uint32_t value = square(n);
        error = uiomove(&value, sizeof value, uio, true);
    }
    mutex_unlock(&sequence_lock);
    return error;
}

static int sequence_write(struct vnode *vnode, uint32_t offset, struct uio *uio)
{
    (void)vnode, (void)offset, (void)uio;
    return 22; /* EINVAL */
}

static uint32_t sequence_size(const struct vnode *vnode)
{
    (void)vnode;
    return 0;
}

static const struct vnode_operations operations = {sequence_read, sequence_write, sequence_size};

static int sequence_start(void)
{
    mutex_init(&sequence_lock);
    int error = memfs_make("/dev/sequence", VREG, &sequence);
    if (error == 0)
        sequence->operations = &operations;
    return error;
}

static int sequence_stop(void)
{
    return vnode_unlink(sequence); /* refuses while it is open */
}

static uint32_t sequence_call(uint32_t n)
{
    return square(n);
}

const struct kmod_entry kmod_entry = {"org.darwin.kext.Sequence", "0.9", sequence_start, sequence_stop, sequence_call};
