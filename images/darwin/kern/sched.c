/* The scheduler: 32 run queues, round robin within one, preemption by the clock and by wake-ups. */
#include "kern.h"
#include "ppc.h"
#include "task.h"

#define QUANTUM 3 /* ticks */

static queue_t run_queues[NRQS];
static uint32_t run_bitmap; /* the top bit stands for the highest priority */
static struct thread *idle_thread;
uint32_t context_switches, preemptions;

struct thread *current_thread(void)
{
    return per_proc_info.active_thread;
}

static uint32_t run_bit(int priority)
{
    return 1u << priority;
}

static void run_queue_insert(struct thread *thread, bool first)
{
    queue_t *queue = &run_queues[thread->priority];
    if (first)
        enqueue_head(queue, &thread->links);
    else
        enqueue_tail(queue, &thread->links);
    run_bitmap |= run_bit(thread->priority);
}

/* Make a thread runnable; interrupts are off. */
void thread_setrun(struct thread *thread)
{
    thread->state = TH_RUN;
    thread->quantum = QUANTUM;
    run_queue_insert(thread, false);
    if (current_thread() == NULL || thread->priority > current_thread()->priority)
        per_proc_info.need_ast = 1;
}

/* Take the best runnable thread off its queue. */
struct thread *thread_select(void)
{
    if (run_bitmap == 0)
        return idle_thread;
    int priority = 31 - ffsbit(run_bitmap);
    struct queue_entry *entry = dequeue_head(&run_queues[priority]);
    if (queue_empty(&run_queues[priority]))
        run_bitmap &= ~run_bit(priority);
    return queue_object(entry, struct thread, links);
}

static void thread_dispatch(struct thread *thread)
{
    thread->state = thread == idle_thread ? TH_IDLE : TH_RUN;
    per_proc_info.active_thread = thread;
    per_proc_info.stack_low = thread->stack_low;
    per_proc_info.stack_high = thread->stack_high;
    per_proc_info.user_frame = thread->stack_high - 64 - FRAME_SIZE;
    if (thread->task)
        pmap_switch(&thread->task->pmap);
    context_switches++;
}

/* Give the CPU to the best thread; interrupts are off. Returns when this thread is chosen again. */
void thread_block(void)
{
    struct thread *old = current_thread();
    per_proc_info.need_ast = 0;
    if (old->state == TH_RUN) {
        bool unfinished = old->quantum > 0;
        if (!unfinished)
            old->quantum = QUANTUM;
        run_queue_insert(old, unfinished);
    }
    struct thread *new = thread_select();
    if (new == old)
        return;
    thread_dispatch(new);
    switch_context(&old->sp, new->sp);
}

/* The clock ticked while this thread ran. */
void thread_quantum_expire(void)
{
    struct thread *thread = current_thread();
    thread->ticks++;
    if (thread == idle_thread) {
        if (run_bitmap)
            per_proc_info.need_ast = 1;
        return;
    }
    if (--thread->quantum <= 0 && run_bitmap >= run_bit(thread->priority))
        per_proc_info.need_ast = 1;
}

int ast_pending(void)
{
    return per_proc_info.need_ast;
}

/* Switch now if a switch is due. */
void ast_check(void)
{
    spl_t s = splhigh();
    if (per_proc_info.need_ast && per_proc_info.interrupt_level == 0 && current_thread()) {
        preemptions += current_thread() != idle_thread;
        thread_block();
    }
    splx(s);
}

static void idle_loop(void *unused)
{
    (void)unused;
    for (;;)
        machine_idle();
}

void sched_init(void)
{
    for (int i = 0; i < NRQS; i++)
        queue_init(&run_queues[i]);
    idle_thread = kernel_thread("idle", 0, idle_loop, NULL);
    spl_t s = splhigh();
    remqueue(&idle_thread->links);
    run_bitmap = 0;
    splx(s);
}

void start_scheduling(void)
{
    vm_offset_t boot_sp;
    splhigh();
    struct thread *first = thread_select();
    thread_dispatch(first);
    switch_context(&boot_sp, first->sp);
    panic("the start-up stack was resumed");
}
