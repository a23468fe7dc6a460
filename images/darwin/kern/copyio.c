/* copyin and copyout: checked moves between the kernel and the running process. */
#include "kern.h"
#include "task.h"

static bool user_range(vm_offset_t at, size_t n)
{
    return current_task() && at >= VM_MIN_ADDRESS && at <= VM_MAX_ADDRESS && n <= VM_MAX_ADDRESS - at;
}

int copyin(vm_offset_t from, void *to, size_t n)
{
    if (!user_range(from, n))
        return EFAULT;
    return copy_bytes((const void *)from, to, n, &current_thread()->recover);
}

int copyout(const void *from, vm_offset_t to, size_t n)
{
    if (!user_range(to, n))
        return EFAULT;
    return copy_bytes(from, (void *)to, n, &current_thread()->recover);
}

/* A string with its final zero; `size` has room for it. */
int copyinstr(vm_offset_t from, char *to, size_t size)
{
    if (!user_range(from, 1))
        return EFAULT;
    return copy_string((const char *)from, to, size, &current_thread()->recover);
}
