/* User processes: making, ending and waiting for them. */
#include "task.h"
#include "fs.h"
#include "kern.h"
#include "ppc.h"

#define USER_PRIORITY 8

struct task *all_tasks;
uint32_t tasks_started, tasks_killed;
static uint32_t next_pid = 1;

struct task *current_task(void)
{
    struct thread *self = current_thread();
    return self ? self->task : NULL;
}

static void base_name(const char *path, char *name, size_t size)
{
    const char *at = path;
    for (; *path; path++)
        if (*path == '/')
            at = path + 1;
    strlcpy(name, at, size);
}

/* The first code of a process's thread: make its first context and leave for user mode. */
static void task_begin(void *argument)
{
    const struct task *task = argument;
    splhigh();
    vm_offset_t frame = per_proc_info.user_frame;
    struct savearea *sv = (struct savearea *)(frame + FRAME_SAVEAREA);
    bzero(sv, sizeof *sv);
    sv->r[1] = USER_STACK_TOP - 64;
    sv->r[3] = task->argument;
    sv->srr0 = task->entry;
    sv->srr1 = MSR_USER;
    enter_user(frame);
}

static int task_populate(struct task *task, const char *path)
{
    const struct vm_map_entry stack = {.prot = VM_PROT_READ | VM_PROT_WRITE | VM_PROT_USER};
    vm_offset_t at = USER_STACK_TOP - USER_STACK_SIZE;
    struct vnode *vnode;
    int error = namei(path, &vnode);
    if (error == 0)
        error = load_machfile(vnode, &task->map, &task->entry);
    if (error == 0 && vm_map_enter(&task->map, &at, USER_STACK_TOP, &stack, USER_STACK_SIZE) != KERN_SUCCESS)
        error = ENOMEM;
    return error;
}

static void task_free(struct task *task)
{
    vm_map_destroy(&task->map);
    pmap_destroy(&task->pmap);
}

int task_spawn(const char *path, uint32_t argument, struct task *parent, uint32_t *pid)
{
    struct task *task = kalloc(sizeof *task);
    bzero(task, sizeof *task);
    if (!pmap_create(&task->pmap)) {
        kfree(task, sizeof *task);
        return ENOMEM;
    }
    vm_map_create(&task->map, &task->pmap);
    int error = task_populate(task, path);
    if (error) {
        task_free(task);
        kfree(task, sizeof *task);
        return error;
    }
    base_name(path, task->name, sizeof task->name);
    task->parent = parent;
    task->argument = argument;
    spl_t s = splhigh();
    *pid = task->pid = next_pid++;
    task->next = all_tasks;
    all_tasks = task;
    tasks_started++;
    splx(s);
    thread_create(task->name, USER_PRIORITY, task_begin, task, task);
    return 0;
}

/* Give a process's children to the first one. */
static void orphan_children(const struct task *gone)
{
    struct task *first = all_tasks;
    while (first && first->pid != 1)
        first = first->next;
    for (struct task *task = all_tasks; task; task = task->next)
        if (task->parent == gone)
            task->parent = first;
}

/* End this process: `status` is its exit code * 256, or the signal that killed it. */
void task_exit(uint32_t status)
{
    struct task *self = current_task();
    if (self->pid == 1)
        panic("init died: status 0x%x", status);
    for (unsigned i = 0; i < NOFILE; i++)
        if (self->files[i])
            file_free(self->files[i]);
    task_free(self);
    splhigh();
    if (status & 0x7f)
        tasks_killed++;
    self->status = status;
    self->zombie = true;
    orphan_children(self);
    current_thread()->task = NULL;
    thread_wakeup(self->parent);
    thread_terminate();
}

/* Take a dead child out of the list: *pid is the one wanted, or 0. NULL: none is dead. */
static struct task *reap_one(const struct task *self, uint32_t pid, bool *any)
{
    *any = false;
    for (struct task **link = &all_tasks; *link; link = &(*link)->next) {
        struct task *task = *link;
        if (task->parent != self || (pid && task->pid != pid))
            continue;
        *any = true;
        if (task->zombie) {
            *link = task->next;
            return task;
        }
    }
    return NULL;
}

int task_wait(struct task *self, uint32_t *pid, uint32_t *status)
{
    struct task *dead;
    bool any;
    spl_t s = splhigh();
    while ((dead = reap_one(self, *pid, &any)) == NULL && any)
        tsleep(self, 0);
    splx(s);
    if (dead == NULL)
        return ECHILD;
    *pid = dead->pid;
    *status = dead->status;
    kfree(dead, sizeof *dead);
    return 0;
}
