/* The first process: start the others; see that those that do wrong are ended, and only they. */
#include "libc.h"

static const char *const extensions[] = {
    "/System/Library/Extensions/PacketFilter",
    "/System/Library/Extensions/Sequence",
};
static const char *const programs[] = {
    "/sbin/syslogd",     "/bin/tail",    "/usr/libexec/echod", "/usr/libexec/netclient", "/usr/libexec/fpwork",
    "/usr/libexec/fpwork", "/usr/libexec/filer", "/usr/libexec/pager", "/usr/libexec/tracer",
    "/usr/libexec/kmodtest", "/usr/libexec/logcheck", "/usr/libexec/selftest",
};
/* What the program "crasher" does, by number, and how it must end. */
static const uint32_t endings[] = {
    11 /* null read */, 11 /* null write */, 10 /* kernel write */, 4 /* privileged */, 4 /* illegal */,
    5 /* trap */, 10 /* own text */, 11 /* unmapped */, 11 /* stack overflow */, 11 /* jump to nowhere */,
    8 /* floating-point division */, 0x2a00 /* exit(42) */,
};

static uint32_t died;

/* Wait for one process; others that end meanwhile should not have. */
static uint32_t wait_for(int wanted)
{
    uint32_t status = 0;
    for (;;) {
        int pid = wait4(0, &status);
        if (pid < 0)
            return 0xffff;
        if (pid == wanted)
            return status;
        died++;
        say("process %u ended: 0x%x", pid, status);
    }
}

static bool crash(uint32_t number)
{
    uint32_t which = number % countof(endings), before = counter("kern.killed");
    int pid = spawn("/usr/libexec/crasher", (int)which);
    uint32_t status = pid < 0 ? 0xfffe : wait_for(pid);
    if (status != endings[which])
        say("crasher %u ended with 0x%x, not 0x%x", which, status, endings[which]);
    bool counted = counter("kern.killed") - before == (endings[which] < 0x100);
    return status == endings[which] && counted && died == 0 && spawn("/no/such/program", 0) < 0 && errno == 2;
}

int main(void)
{
    for (unsigned i = 0; i < countof(extensions); i++)
        if (kmod_load(extensions[i]) < 0)
            say("%s: error %u", extensions[i], errno);
    for (unsigned i = 0; i < countof(programs); i++)
        if (spawn(programs[i], (int)i) < 0)
            say("%s: error %u", programs[i], errno);
    check_for_ever(crash, 15);
}
