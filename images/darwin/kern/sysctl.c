/* Counters of the kernel that a process may read, by name. */
#include "kern.h"
#include "net.h"
#include "ppc.h"
#include "task.h"

extern uint32_t exception_counts[32], netisr_runs, if_interrupts, if_frames, socket_sent, socket_received;
extern uint32_t mutex_waits, memfs_reads, memfs_writes, klog_reads, archive_files, threads_reused;
extern uint32_t kmods_loaded, kmods_unloaded;

static const struct {
    const char *name;
    const uint32_t *value;
} counters[] = {
    {"net.inet.ip.total", &ipstat.total},
    {"net.inet.ip.bad", &ipstat.bad_sum},
    {"net.inet.udp.received", &udp_received},
    {"net.inet.udp.bad", &udp_bad},
    {"net.inet.icmp.received", &icmp_received},
    {"net.arp.received", &arp_received},
    {"net.netisr.runs", &netisr_runs},
    {"net.if.interrupts", &if_interrupts},
    {"net.if.frames", &if_frames},
    {"net.socket.sent", &socket_sent},
    {"net.socket.received", &socket_received},
    {"vm.faults", &vm_faults},
    {"vm.pageins", &vm_pageins},
    {"vm.pteg_evictions", &pteg_evictions},
    {"vm.pteg_refills", &pteg_refills},
    {"vm.free", &vm_page_free_count},
    {"kern.tasks", &tasks_started},
    {"kern.killed", &tasks_killed},
    {"kern.system_calls", &system_calls},
    {"kern.switches", &context_switches},
    {"kern.preemptions", &preemptions},
    {"kern.mutex_waits", &mutex_waits},
    {"kern.threads_reused", &threads_reused},
    {"kern.klog_reads", &klog_reads},
    {"kern.kmods_loaded", &kmods_loaded},
    {"kern.kmods_unloaded", &kmods_unloaded},
    {"fs.reads", &memfs_reads},
    {"fs.writes", &memfs_writes},
    {"fs.archive_files", &archive_files},
    {"hw.interrupts", &external_interrupts},
    {"hw.data_accesses", &exception_counts[3]},
    {"hw.instruction_accesses", &exception_counts[4]},
    {"hw.alignment_assists", &alignment_assists},
    {"hw.program_assists", &program_assists},
    {"hw.fpu_switches", &fpu_switches},
    {"hw.trace_steps", &trace_steps},
};

static int find_counter(const char *name, uint32_t *value)
{
    for (unsigned i = 0; i < countof(counters); i++)
        if (strcmp(counters[i].name, name) == 0) {
            *value = *counters[i].value;
            return 0;
        }
    return ENOENT;
}

int sys_sysctl(struct task *self, const uint32_t *argument, uint32_t *result)
{
    char name[MAXPATH];
    (void)self;
    if (argument[0] == 0) {         /* the host's name, for syslogd */
        *result = 0;
        return copyout(hostname, argument[1], sizeof hostname);
    }
    int error = copyinstr(argument[0], name, sizeof name);
    return error ? error : find_counter(name, result);
}
