/* The boot argument provoke=WHAT makes the kernel do something forbidden, to see it found out. */
#include "kern.h"
#include "ppc.h"

static int recurse_for_ever(volatile int n)
{
    volatile char room[512];
    room[0] = (char)n;
    return recurse_for_ever(n + 1) + room[0];
}

static void provoke_null_read(void)
{
    (void)*(volatile int *)8;
}

static void provoke_null_write(void)
{
    *(volatile int *)0 = 1;
}

static void provoke_page_one(void)
{
    *(volatile int *)0x1000 = 1;
}

static void provoke_null_call(void)
{
    void (*volatile nowhere)(void) = NULL;
    nowhere();
}

static void provoke_text_write(void)
{
    *(volatile uint32_t *)printf = 0;
}

static void provoke_unmapped(void)
{
    *(volatile int *)0x10000000 = 1;
}

static void provoke_stack(void)
{
    printf("%d\n", recurse_for_ever(0));
}

static void provoke_trap(void)
{
    __builtin_trap();
}

static void provoke_panic(void)
{
    panic("provoked by thread %u", current_thread()->id);
}

static const struct {
    const char *name;
    void (*act)(void);
} provocations[] = {
    {"null-read", provoke_null_read}, {"null-write", provoke_null_write}, {"page-one", provoke_page_one},
    {"null-call", provoke_null_call}, {"text-write", provoke_text_write}, {"unmapped", provoke_unmapped},
    {"stack", provoke_stack},         {"trap", provoke_trap},             {"panic", provoke_panic},
};

void provoke(void)
{
    char what[24];
    if (!PE_parse_boot_arg("provoke", what, sizeof what))
        return;
    for (unsigned i = 0; i < countof(provocations); i++)
        if (strcmp(what, provocations[i].name) == 0)
            provocations[i].act();
}
