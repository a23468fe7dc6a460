/* The kernel proper: threads, locks, clock, message buffer, zones. */
#ifndef KERN_H
#define KERN_H

#include "ppc.h"
#include "queue.h"
#include "types.h"

#define HZ 100
#define NRQS 32

enum thread_state { TH_IDLE, TH_RUN, TH_WAIT, TH_HALTED };

struct task;
struct thread {
    struct queue_entry links;       /* on a run queue or a wait queue */
    vm_offset_t sp;                 /* while it does not run */
    vm_offset_t stack_low, stack_high;
    enum thread_state state;
    int priority;
    int quantum;
    const void *wait_event;
    int wait_result;
    uint32_t ticks;
    uint32_t id;
    void (*start)(void *);
    void *argument;
    const char *name;
    struct thread *next_thread, *next_halted;
    struct task *task;              /* the process it runs, or NULL */
    vm_offset_t recover;            /* where a fault goes on that nothing can resolve, or 0 */
    struct fp_state fp;
};
extern struct thread *all_threads;

struct thread *current_thread(void);
struct thread *thread_create(const char *name, int priority, void (*start)(void *), void *argument,
                             struct task *task);
struct thread *kernel_thread(const char *name, int priority, void (*start)(void *), void *argument);
void thread_begin(void);
_Noreturn void thread_terminate(void);
unsigned thread_count(void);

void sched_init(void);
void thread_setrun(struct thread *thread);
struct thread *thread_select(void);
void thread_block(void);
void thread_quantum_expire(void);
extern uint32_t context_switches, preemptions;
void ast_check(void);
int ast_pending(void);
_Noreturn void start_scheduling(void);

#define THREAD_AWAKENED 0
#define THREAD_TIMED_OUT 1
int tsleep(const void *event, int ticks);
void assert_wait(const void *event);
void clear_wait(struct thread *thread, int result);
int thread_wakeup(const void *event);
void delay_ticks(int ticks);

struct callout {
    struct callout *next;
    int ticks;                      /* after the one before */
    void (*function)(void *);
    void *argument;
};
void timeout(struct callout *callout, void (*function)(void *), void *argument, int ticks);
bool untimeout(struct callout *callout);
void softclock(void);
void hardclock(bool interruptible);
void clock_init(void);
void microtime(uint32_t *seconds, uint32_t *micros);
void format_time(uint32_t seconds, char *out);

struct mutex {
    volatile unsigned owner;        /* thread, or 0 */
    volatile unsigned waiters;
};
void mutex_init(struct mutex *m);
void mutex_lock(struct mutex *m);
int mutex_try(struct mutex *m);
void mutex_unlock(struct mutex *m);

int printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
int vprintf(const char *format, va_list args);
int snprintf(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
int vsnprintf(char *out, size_t size, const char *format, va_list args);
void _doprnt(const char *format, va_list args, void (*put)(char, void *), void *sink);
_Noreturn void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));
void kprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define MSG_BSIZE 0xf000
#define MSG_MAGIC 0x063061
struct msgbuf {
    uint32_t msg_magic;
    uint32_t msg_bufx;              /* next byte to write */
    uint32_t msg_bufr;              /* next byte to read */
    uint32_t msg_lost;              /* bytes that found no room */
    char msg_bufc[MSG_BSIZE];
};
extern struct msgbuf msgbuf;
extern char hostname[64];
void msgbuf_write(const char *text, size_t length);
int log_getc(void);
void msgbuf_wait(void);
uint32_t msgbuf_waiting(void);
void log_flush(void);

struct zone {
    void *free;
    vm_size_t element;
    uint32_t count, in_use;
    const char *name;
};
void zinit(struct zone *zone, vm_size_t element, const char *name);
void *zalloc(struct zone *zone);
void zfree(struct zone *zone, void *element);
void *kalloc(vm_size_t size);
void kfree(void *data, vm_size_t size);
void kalloc_init(void);

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *p, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void bcopy(const void *from, void *to, size_t n);
void bzero(void *p, size_t n);
int bcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
size_t strlcpy(char *to, const char *from, size_t size);
char *strchr(const char *s, int c);
char *strstr(const char *s, const char *wanted);
uint32_t strtoul(const char *s, const char **end, int base);
bool isdigit(int c);
bool isspace(int c);
int toupper(int c);
uint32_t random_next(uint32_t *seed);

void provoke(void);

#endif
