/*
 * The paper's Figure 3, in C: count the runs of the network thread and print the bits that were
 * posted for it.
 *
 *     kgdbpatch apply darwin run_netisr --c examples/packet_counter.c
 */
extern int netisr;
extern int printf(const char *format, ...);

void packet_counter(void)
{
    static int counter;

    counter++;
    printf("KernMonitor/packet_counter: netisr value: 0x%08x | %d\n", netisr, counter);
}
