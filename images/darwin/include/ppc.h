/* The machine: registers, exceptions, boot arguments, console. */
#ifndef PPC_H
#define PPC_H

#include "asm.h"
#include "types.h"

struct savearea {
    uint32_t r[32];
    uint32_t srr0, srr1;
    uint32_t cr, lr, ctr, xer;
    uint32_t dar, dsisr;
    uint32_t exception;
    uint32_t scratch;
    uint32_t reserved[2];
};

struct thread;

struct fp_state {
    double f[32];
    double fpscr;
};

struct per_proc_info {
    uint32_t save_r12, save_cr;
    vm_offset_t stack_low, stack_high;
    vm_offset_t panic_stack;
    vm_offset_t user_frame;
    struct thread *active_thread;
    struct thread *fpu_owner;       /* whose values the floating-point registers hold */
    int need_ast;
    int interrupt_level;
    volatile uint32_t ticks;
};
extern struct per_proc_info per_proc_info;

/* What BootX hands over (revision 1). */
struct dram_bank {
    vm_offset_t base;
    vm_size_t size;
};
struct boot_video {
    uint32_t base, display, row_bytes, width, height, depth;
};
struct boot_args {
    uint16_t revision, version;
    char command_line[256];
    struct dram_bank dram[26];
    struct boot_video video;
    uint32_t machine_type;
    vm_offset_t device_tree;
    vm_size_t device_tree_length;
    vm_offset_t top_of_kernel_data;
};
extern struct boot_args boot_args;
bool PE_parse_boot_arg(const char *name, char *value, size_t size);
uint32_t PE_boot_number(const char *name, uint32_t otherwise);

static inline uint32_t mfmsr(void)
{
    uint32_t value;
    __asm__ volatile("mfmsr %0" : "=r"(value));
    return value;
}
static inline void set_decrementer(uint32_t value)
{
    __asm__ volatile("mtdec %0" : : "r"(value));
}
static inline void eieio(void)
{
    __asm__ volatile("eieio" : : : "memory");
}
static inline void sync(void)
{
    __asm__ volatile("sync" : : : "memory");
}
static inline void store_reversed(vm_offset_t address, uint32_t value)
{
    __asm__ volatile("stwbrx %0,0,%1; eieio" : : "r"(value), "r"(address) : "memory");
}
static inline uint32_t load_reversed(vm_offset_t address)
{
    uint32_t value;
    __asm__ volatile("lwbrx %0,0,%1; eieio" : "=r"(value) : "r"(address) : "memory");
    return value;
}

uint64_t mach_absolute_time(void);
void set_segment(vm_offset_t address, uint32_t value);
void set_sdr1(uint32_t value);
void tlb_invalidate(vm_offset_t address);
void tlb_invalidate_all(void);
void bzero_phys(vm_offset_t physical);
uint32_t lw_phys(vm_offset_t physical);
void bcopy_phys(vm_offset_t from, vm_offset_t to, vm_size_t words);

void fp_save(struct fp_state *to);
void fp_load(const struct fp_state *from);
void fp_enable(void);
void fpu_switch(struct savearea *sv);
void fpu_drop(const struct thread *thread);
int copy_bytes(const void *from, void *to, size_t n, vm_offset_t *recover);
int copy_string(const char *from, char *to, size_t size, vm_offset_t *recover);
int alignment_assist(struct savearea *sv);
bool program_assist(struct savearea *sv);
extern uint32_t fpu_switches, alignment_assists, program_assists, trace_steps;

spl_t splhigh(void);
spl_t splnet(void);
spl_t splimp(void);
spl_t splclock(void);
void splx(spl_t level);
void spl0(void);

unsigned hw_atomic_add(volatile unsigned *p, int n);
unsigned hw_atomic_sub(volatile unsigned *p, int n);
unsigned hw_atomic_or(volatile unsigned *p, unsigned mask);
unsigned hw_atomic_and(volatile unsigned *p, unsigned mask);
int hw_compare_and_store(unsigned old, unsigned new, volatile unsigned *p);
int hw_lock_try(volatile unsigned *lock, unsigned owner);
unsigned hw_lock_unlock(volatile unsigned *lock);

int ffsbit(uint32_t word);
uint32_t rotl(uint32_t word, uint32_t n);
uint32_t byte_reverse(uint32_t word);
uint32_t in_cksum_words(const uint32_t *p, uint32_t words, uint32_t sum);
uint32_t big_add(uint32_t *sum, const uint32_t *a, const uint32_t *b, uint32_t words);
uint32_t big_sub(uint32_t *difference, const uint32_t *a, const uint32_t *b, uint32_t words);

void switch_context(vm_offset_t *save_sp, vm_offset_t new_sp);
void thread_bootstrap(void);

_Noreturn void thread_exception_return(void);
_Noreturn void enter_user(vm_offset_t frame);
uint32_t call_kept(uint32_t (*function)(void *), void *argument);
extern uint32_t registers_lost;
void trap(struct savearea *sv);
void interrupt(struct savearea *sv);

uint32_t pci_config_read(uint32_t device, uint32_t offset);
void pci_config_write(uint32_t device, uint32_t offset, uint32_t value);
void pci_bring_up(void);
void scc_init(vm_offset_t macio);
void cnputc(char c);
void scc_putc(int channel, char c);

typedef void interrupt_handler_t(void *argument);
void pic_init(vm_offset_t macio);
void pic_enable(int irq, interrupt_handler_t *handler, void *argument);
void pic_dispatch(void);
extern uint32_t external_interrupts, spurious_interrupts;
void via_init(vm_offset_t macio);
void via_alarm(uint32_t microseconds);
void via_set_handler(interrupt_handler_t *handler);
void machine_idle(void);
_Noreturn void machine_halt(void);

#endif
