/* Start-up with translation on: devices, memory, then threads. */
#include "kern.h"
#include "net.h"
#include "ppc.h"
#include "task.h"
#include "vm.h"
#include "work.h"

const char version[] = "kgdbpatch Darwin/PPC-style kernel, version 1";

/* Start all threads and leave the boot stack. */
void machine_startup(void)
{
    pci_bring_up();
    printf("%s\n", version);
    printf("memory: %u MB, %u free pages; boot arguments: %s\n", mem_size >> 20, vm_page_free_count,
           boot_args.command_line);
    kalloc_init();
    vm_map_init();
    mbinit();
    sched_init();
    clock_init();
    if_init();
    kernel_thread("bsd_init", 24, bsd_init, NULL);
    kernel_thread("network", 20, netisr_thread, NULL);
    kernel_thread("ethernet", 22, ether_driver, NULL);
    selfcheck_start();
    kernel_thread("selfcheck", 13, selfcheck, NULL);
    start_scheduling();
}
