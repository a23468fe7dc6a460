/* The first C code: what the booter said, then virtual memory. Runs with translation off. */
#include "kern.h"
#include "ppc.h"
#include "vm.h"

struct per_proc_info per_proc_info;
struct boot_args boot_args;
vm_size_t mem_size;
char intstack[KERNEL_STACK_SIZE] __attribute__((aligned(16)));
char panicstack[KERNEL_STACK_SIZE] __attribute__((aligned(16)));

_Static_assert(offsetof(struct savearea, srr0) + FRAME_SAVEAREA == SS_SRR0, "savearea");
_Static_assert(offsetof(struct savearea, exception) + FRAME_SAVEAREA == SS_EXCEPTION, "savearea");
_Static_assert(sizeof(struct savearea) + FRAME_SAVEAREA == FRAME_SIZE, "frame");
_Static_assert(offsetof(struct per_proc_info, save_cr) == PP_SAVE_CR, "per_proc");
_Static_assert(offsetof(struct per_proc_info, stack_low) == PP_STACK_LOW, "per_proc");
_Static_assert(offsetof(struct per_proc_info, stack_high) == PP_STACK_HIGH, "per_proc");
_Static_assert(offsetof(struct per_proc_info, panic_stack) == PP_PANIC_STACK, "per_proc");
_Static_assert(offsetof(struct per_proc_info, user_frame) == PP_USER_FRAME, "per_proc");

/* Find NAME=VALUE on the command line; a bare NAME has the value "". */
bool PE_parse_boot_arg(const char *name, char *value, size_t size)
{
    size_t length = strlen(name);
    const char *at = boot_args.command_line;
    while (*at) {
        while (isspace(*at))
            at++;
        const char *end = at;
        while (*end && !isspace(*end))
            end++;
        if (strncmp(at, name, length) == 0 && (at[length] == '=' || at + length == end)) {
            const char *from = at[length] == '=' ? at + length + 1 : end;
            size_t n = 0;
            while (from < end && n + 1 < size)
                value[n++] = *from++;
            value[n] = 0;
            return true;
        }
        at = end;
    }
    return false;
}

uint32_t PE_boot_number(const char *name, uint32_t otherwise)
{
    char text[32];
    return PE_parse_boot_arg(name, text, sizeof text) ? strtoul(text, NULL, 0) : otherwise;
}

static vm_size_t ram_size(void)
{
    vm_size_t size = 0;
    for (unsigned i = 0; i < countof(boot_args.dram) && boot_args.dram[i].size; i++)
        if (boot_args.dram[i].base == size)
            size += boot_args.dram[i].size;
    return size;
}

void ppc_init(const struct boot_args *from_booter, uint32_t signature)
{
    vm_offset_t stack = (vm_offset_t)intstack;
    per_proc_info.stack_low = stack + RED_ZONE + FRAME_SIZE;
    per_proc_info.stack_high = stack + KERNEL_STACK_SIZE;
    per_proc_info.panic_stack = (vm_offset_t)panicstack + KERNEL_STACK_SIZE - RED_ZONE - FRAME_SIZE;
    boot_args = *from_booter;
    if (signature != 0x4d4f5358) /* 'MOSX' */
        panic("not started by a booter");
    uint32_t megabytes = PE_boot_number("maxmem", 0);
    mem_size = ram_size();
    if (megabytes && mem_size > megabytes << 20)
        mem_size = megabytes << 20;
    if (!PE_parse_boot_arg("hostname", hostname, sizeof hostname))
        strlcpy(hostname, "localhost", sizeof hostname);
    msgbuf.msg_magic = MSG_MAGIC;
    pmap_bootstrap();
}
