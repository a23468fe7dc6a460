/* System calls: number in r0, arguments from r3 on; the instruction behind sc is skipped on success. */
#include "fs.h"
#include "kern.h"
#include "task.h"
#include "work.h"

uint32_t system_calls;

static int sys_exit(struct task *self, const uint32_t *argument, uint32_t *result)
{
    (void)self, (void)result;
    task_exit((argument[0] & 0xff) << 8);
}

static int sys_getpid(struct task *self, const uint32_t *argument, uint32_t *result)
{
    (void)argument;
    *result = self->pid;
    return 0;
}

static int sys_spawn(struct task *self, const uint32_t *argument, uint32_t *result)
{
    char path[MAXPATH];
    int error = copyinstr(argument[0], path, sizeof path);
    return error ? error : task_spawn(path, argument[1], self, result);
}

static int sys_wait(struct task *self, const uint32_t *argument, uint32_t *result)
{
    uint32_t status;
    *result = argument[0];
    int error = task_wait(self, result, &status);
    return error ? error : copyout(&status, argument[1], sizeof status);
}

static int sys_sleep(struct task *self, const uint32_t *argument, uint32_t *result)
{
    (void)self, (void)result;
    delay_ticks((int)(argument[0] ? argument[0] : 1));
    return 0;
}

static int sys_yield(struct task *self, const uint32_t *argument, uint32_t *result)
{
    (void)self, (void)argument, (void)result;
    spl_t s = splhigh();
    current_thread()->quantum = 0;
    thread_block();
    splx(s);
    return 0;
}

static int sys_time(struct task *self, const uint32_t *argument, uint32_t *result)
{
    uint32_t time[2];
    (void)self;
    microtime(&time[0], &time[1]);
    *result = time[0];
    return copyout(time, argument[0], sizeof time);
}

static int sys_vm_allocate(struct task *self, const uint32_t *argument, uint32_t *result)
{
    const struct vm_map_entry like = {.prot = VM_PROT_READ | VM_PROT_WRITE | VM_PROT_USER};
    if (argument[0] == 0 || argument[0] > VM_MAX_ADDRESS - USER_HEAP)
        return EINVAL;
    *result = USER_HEAP;
    vm_offset_t stop = USER_STACK_TOP - USER_STACK_SIZE;
    return vm_map_enter(&self->map, result, stop, &like, round_page(argument[0])) == KERN_SUCCESS ? 0 : ENOMEM;
}

static int sys_vm_deallocate(struct task *self, const uint32_t *argument, uint32_t *result)
{
    (void)result;
    return vm_map_remove(&self->map, argument[0]) == KERN_SUCCESS ? 0 : EINVAL;
}

/* A program says how its checks fare. */
static int sys_report(struct task *self, const uint32_t *argument, uint32_t *result)
{
    (void)result;
    return selfcheck_report(self->name, self->pid, argument[0], argument[1]) ? 0 : EINVAL;
}

static struct savearea *user_context(void)
{
    return (struct savearea *)(per_proc_info.user_frame + FRAME_SAVEAREA);
}

/* Step through this process, or stop that: the steps so far. */
static int sys_trace(struct task *self, const uint32_t *argument, uint32_t *result)
{
    struct savearea *sv = user_context();
    sv->srr1 = argument[0] ? sv->srr1 | MSR_SE : sv->srr1 & ~MSR_SE;
    *result = self->steps;
    return 0;
}

static const struct {
    uint32_t number;
    syscall_t *call;
} numbered[] = {
    {1, sys_exit},     {3, sys_read},        {4, sys_write},         {5, sys_open},      {6, sys_close},
    {7, sys_wait},     {10, sys_unlink},     {20, sys_getpid},       {26, sys_trace},    {29, sys_recvfrom},
    {73, sys_vm_deallocate}, {97, sys_socket}, {104, sys_bind},      {116, sys_time},    {128, sys_rename},
    {133, sys_sendto}, {189, sys_size},      {197, sys_vm_allocate}, {202, sys_sysctl},  {240, sys_sleep},
    {244, sys_spawn},  {300, sys_report},    {310, sys_kmodload}, {311, sys_kmodunload},
    {312, sys_kmodcall}, {331, sys_yield},
};

#define SYSCALL_LIMIT 340
static syscall_t *sysent[SYSCALL_LIMIT];

static void sysent_init(void)
{
    for (unsigned i = 0; i < countof(numbered); i++)
        sysent[numbered[i].number] = numbered[i].call;
}

/* Serve a system call; interrupts are on. */
void unix_syscall(struct savearea *sv)
{
    struct task *self = current_task();
    uint32_t number = sv->r[0], result = 0;
    system_calls++;
    self->system_calls++;
    syscall_t *call = number < SYSCALL_LIMIT ? sysent[number] : NULL;
    int error = call ? call(self, &sv->r[3], &result) : ENOSYS;
    sv->r[3] = error ? (uint32_t)error : result;
    if (error == 0)
        sv->srr0 += 4;
}

extern const uint8_t boot_archive[], boot_archive_end[];

/* Files, system calls and the first process. */
void bsd_init(void *unused)
{
    (void)unused;
    uint32_t pid;
    sysent_init();
    memfs_init();
    device_init();
    archive_unpack(boot_archive, boot_archive_end);
    int error = task_spawn("/sbin/mach_init", 0, NULL, &pid);
    if (error)
        panic("/sbin/mach_init cannot be started: error %d", error);
}
