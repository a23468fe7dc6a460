/* Kernel extensions: loading, unloading, calling; the symbols they may use. */
#include "kmod.h"
#include "fs.h"
#include "kern.h"
#include "net.h"
#include "task.h"
#include "work.h"

struct kmod_info *kmod;
uint32_t kmods_loaded, kmods_unloaded;
static struct mutex kmod_lock;
static uint32_t next_kmod_id = 1;

#define EXPORT(name) {(vm_offset_t)name, "_" #name}
static const struct kmod_symbol exported[] = {
    EXPORT(printf),       EXPORT(snprintf),    EXPORT(kalloc),        EXPORT(kfree),      EXPORT(bcopy),
    EXPORT(bzero),        EXPORT(memcpy),      EXPORT(memset),        EXPORT(strlen),     EXPORT(strlcpy),
    EXPORT(splhigh),      EXPORT(splnet),      EXPORT(splx),          EXPORT(mutex_init), EXPORT(mutex_lock),
    EXPORT(mutex_unlock), EXPORT(hw_atomic_add), EXPORT(random_next), EXPORT(uiomove),    EXPORT(memfs_make),
    EXPORT(vnode_unlink), EXPORT(microtime),   {(vm_offset_t)&ip_filter, "_ip_filter"},
};

vm_offset_t kernel_symbol(const char *name)
{
    for (unsigned i = 0; i < countof(exported); i++)
        if (strcmp(exported[i].name, name) == 0)
            return exported[i].address;
    return 0;
}

struct kmod_info *kmod_lookup(uint32_t id)
{
    struct kmod_info *info = kmod;
    while (info && info->id != id)
        info = info->next;
    return info;
}

static void kmod_free(struct kmod_info *info)
{
    kmem_free(info->address);
    kfree(info->symbols, info->table_size);
    kfree(info, sizeof *info);
}

static int kmod_start(struct kmod_info *info)
{
    strlcpy(info->name, info->entry->name, sizeof info->name);
    strlcpy(info->version, info->entry->version, sizeof info->version);
    info->info_version = KMOD_INFO_SYMBOLS;
    info->start = info->entry->start;
    info->stop = info->entry->stop;
    int error = info->start();
    if (error)
        return error;
    info->id = next_kmod_id++;
    info->next = kmod;
    kmod = info;
    kmods_loaded++;
    return 0;
}

/* Load and start the extension in a file. */
int kmod_load(const char *path, uint32_t *id)
{
    struct vnode *vnode;
    int error = namei(path, &vnode);
    if (error)
        return error;
    uint8_t *file = kalloc(vnode->size);
    error = vnode_read_kernel(vnode, 0, file, vnode->size);
    if (error == 0) {
        struct kmod_info *info = kalloc(sizeof *info);
        bzero(info, sizeof *info);
        mutex_lock(&kmod_lock);
        error = kld_link(file, vnode->size, info);
        if (error)
            kfree(info, sizeof *info);
        else if ((error = kmod_start(info)) != 0)
            kmod_free(info);
        else
            *id = info->id;
        mutex_unlock(&kmod_lock);
    }
    kfree(file, vnode->size);
    return error;
}

/* Stop an extension and take it out. */
int kmod_unload(uint32_t id)
{
    mutex_lock(&kmod_lock);
    struct kmod_info **link = &kmod, *info = kmod_lookup(id);
    int error = info == NULL ? ESRCH : info->reference_count ? EINVAL : info->stop();
    if (error == 0) {
        while (*link != info)
            link = &(*link)->next;
        *link = info->next;
        kmod_free(info);
        kmods_unloaded++;
    }
    mutex_unlock(&kmod_lock);
    return error;
}

int sys_kmodload(struct task *self, const uint32_t *argument, uint32_t *result)
{
    char path[MAXPATH];
    (void)self;
    int error = copyinstr(argument[0], path, sizeof path);
    return error ? error : kmod_load(path, result);
}

int sys_kmodunload(struct task *self, const uint32_t *argument, uint32_t *result)
{
    (void)self, (void)result;
    return kmod_unload(argument[0]);
}

/* Call an extension: kmodcall(id, argument). */
int sys_kmodcall(struct task *self, const uint32_t *argument, uint32_t *result)
{
    (void)self;
    mutex_lock(&kmod_lock);
    struct kmod_info *info = kmod_lookup(argument[0]);
    bool callable = info && info->entry->call;
    if (callable)
        info->reference_count++;
    mutex_unlock(&kmod_lock);
    if (!callable)
        return ESRCH;
    *result = info->entry->call(argument[1]);
    mutex_lock(&kmod_lock);
    info->reference_count--;
    mutex_unlock(&kmod_lock);
    return 0;
}
