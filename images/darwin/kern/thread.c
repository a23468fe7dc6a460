/* Making and ending kernel threads, and waiting. */
#include "kern.h"
#include "ppc.h"
#include "vm.h"

#define WAIT_BUCKETS 64

struct thread *all_threads;
static uint32_t next_id = 1;
static queue_t wait_queues[WAIT_BUCKETS];
static struct thread *halted_threads; /* their stacks serve again */
uint32_t threads_reused;

static queue_t *wait_queue(const void *event)
{
    uint32_t key = (uint32_t)event;
    queue_t *queue = &wait_queues[(key >> 2 ^ key >> 9) % WAIT_BUCKETS];
    if (queue->next == NULL)
        queue_init(queue);
    return queue;
}

/* A thread with a stack: one that has ended, or a new one. */
static struct thread *thread_allocate(void)
{
    spl_t s = splhigh();
    struct thread *thread = halted_threads;
    if (thread) {
        halted_threads = thread->next_halted;
        threads_reused++;
    }
    splx(s);
    if (thread == NULL) {
        thread = kalloc(sizeof *thread);
        bzero(thread, sizeof *thread);
        thread->stack_low = pmap_steal_stack() + RED_ZONE + FRAME_SIZE;
        s = splhigh();
        thread->next_thread = all_threads;
        all_threads = thread;
        thread->state = TH_HALTED;
        splx(s);
    }
    return thread;
}

/* Create a thread that runs start(argument), for a process or (NULL) the kernel; it is runnable at once. */
struct thread *thread_create(const char *name, int priority, void (*start)(void *), void *argument,
                             struct task *task)
{
    struct thread *thread = thread_allocate();
    vm_offset_t stack = thread->stack_low - RED_ZONE - FRAME_SIZE;
    bzero(&thread->fp, sizeof thread->fp);
    thread->recover = 0;
    thread->ticks = 0;
    thread->task = task;
    thread->name = name;
    thread->priority = priority;
    thread->start = start;
    thread->argument = argument;
    thread->id = next_id++;
    thread->stack_high = stack + KERNEL_STACK_SIZE;
    uint32_t *frame = (uint32_t *)(thread->stack_high - 64 - FRAME_SIZE - 64 - SWITCH_FRAME);
    bzero(frame, 64 + SWITCH_FRAME);
    frame[0] = (uint32_t)frame + SWITCH_FRAME;
    frame[SWITCH_FRAME / 4 + 1] = (uint32_t)thread_bootstrap;
    thread->sp = (vm_offset_t)frame;
    spl_t s = splhigh();
    thread_setrun(thread);
    splx(s);
    return thread;
}

struct thread *kernel_thread(const char *name, int priority, void (*start)(void *), void *argument)
{
    return thread_create(name, priority, start, argument, NULL);
}

void thread_begin(void)
{
    struct thread *self = current_thread();
    spl0();
    self->start(self->argument);
    thread_terminate();
}

void thread_terminate(void)
{
    struct thread *self = current_thread();
    splhigh();
    fpu_drop(self);
    self->state = TH_HALTED;
    self->next_halted = halted_threads; /* whoever takes it runs after the switch away from here */
    halted_threads = self;
    thread_block();
    panic("a thread came back to life");
}

unsigned thread_count(void)
{
    unsigned count = 0;
    for (struct thread *thread = all_threads; thread; thread = thread->next_thread)
        if (thread->state != TH_HALTED)
            count++;
    return count;
}

/* Put this thread on the queue of those that wait for an event; interrupts are off. */
void assert_wait(const void *event)
{
    struct thread *self = current_thread();
    self->state = TH_WAIT;
    self->wait_event = event;
    enqueue_tail(wait_queue(event), &self->links);
}

/* End one thread's wait; interrupts are off. */
void clear_wait(struct thread *thread, int result)
{
    if (thread->state != TH_WAIT)
        return;
    remqueue(&thread->links);
    thread->wait_event = NULL;
    thread->wait_result = result;
    thread_setrun(thread);
}

/* Wake all that wait for an event; how many. May switch to one of them. */
int thread_wakeup(const void *event)
{
    int woken = 0;
    spl_t s = splhigh();
    queue_t *queue = wait_queue(event);
    struct queue_entry *entry = queue->next;
    while (entry != queue) {
        struct thread *thread = queue_object(entry, struct thread, links);
        entry = entry->next;
        if (thread->wait_event == event) {
            clear_wait(thread, THREAD_AWAKENED);
            woken++;
        }
    }
    splx(s);
    if (s && ast_pending())
        ast_check();
    return woken;
}

static void wait_timer(void *argument)
{
    clear_wait(argument, THREAD_TIMED_OUT);
}

/* Sleep until an event, or for so many ticks (0: for ever). */
int tsleep(const void *event, int ticks)
{
    struct thread *self = current_thread();
    struct callout callout;
    spl_t s = splhigh();
    assert_wait(event);
    if (ticks)
        timeout(&callout, wait_timer, self, ticks);
    thread_block();
    if (ticks)
        untimeout(&callout);
    int result = self->wait_result;
    splx(s);
    return result;
}

void delay_ticks(int ticks)
{
    tsleep(current_thread(), ticks);
}
