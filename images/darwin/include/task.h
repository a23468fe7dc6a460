/* User processes: tasks, their files and system calls. */
#ifndef TASK_H
#define TASK_H

#include "kern.h"
#include "ppc.h"
#include "vm.h"

#define ENOENT 2
#define ESRCH 3
#define EBADF 9
#define ECHILD 10
#define ENOMEM 12
#define EFAULT 14
#define EEXIST 17
#define EINVAL 22
#define EMFILE 24
#define EFBIG 27
#define ENOEXEC 8
#define ENAMETOOLONG 63
#define ENOSYS 78

#define SIGILL 4
#define SIGTRAP 5
#define SIGFPE 8
#define SIGBUS 10
#define SIGSEGV 11

#define NOFILE 8
#define MAXPATH 64
#define USER_STACK_TOP 0x7fff0000u
#define USER_STACK_SIZE 0x10000u
#define USER_HEAP 0x60000000u

struct file;
struct task {
    struct task *next, *parent;
    uint32_t pid;
    char name[20];
    struct pmap pmap;
    struct vm_map map;
    struct file *files[NOFILE];
    vm_offset_t entry;
    uint32_t argument;
    bool zombie;
    uint32_t status;                /* exit code * 256 + signal */
    uint32_t system_calls, steps;
};
extern struct task *all_tasks;
extern uint32_t tasks_started, tasks_killed, system_calls;

struct task *current_task(void);
int task_spawn(const char *path, uint32_t argument, struct task *parent, uint32_t *pid);
_Noreturn void task_exit(uint32_t status);
int task_wait(struct task *self, uint32_t *pid, uint32_t *status);
int load_machfile(struct vnode *vnode, struct vm_map *map, vm_offset_t *entry);
void unix_syscall(struct savearea *sv);
void bsd_init(void *unused);

int copyin(vm_offset_t from, void *to, size_t n);
int copyout(const void *from, vm_offset_t to, size_t n);
int copyinstr(vm_offset_t from, char *to, size_t size);

typedef int syscall_t(struct task *self, const uint32_t *argument, uint32_t *result);
syscall_t sys_open, sys_close, sys_read, sys_write, sys_unlink, sys_rename, sys_size;
syscall_t sys_socket, sys_bind, sys_sendto, sys_recvfrom, sys_sysctl, sys_kmodload, sys_kmodunload, sys_kmodcall;

#endif
