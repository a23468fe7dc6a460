/* What the files of the Linux guest's user space share. */
#ifndef INIT_H
#define INIT_H

#include <stdint.h>

#define WORKERS_MAX 16

/* Anonymous shared memory, mapped before the first fork. */
struct shared {
	volatile uint32_t ok[WORKERS_MAX];
	volatile uint32_t bad[WORKERS_MAX];
	volatile uint32_t paused; /* a futex: 1 while the workload is to stand still */
	volatile uint32_t halted[WORKERS_MAX]; /* 1: this worker stands still */
};

extern struct shared *shared;

struct worker {
	const char *name;
	const char *(*step)(void); /* NULL: all results were right; else what was wrong */
	unsigned int pause_us;	   /* given away after each step, so that the guest is never starved */
};

extern const struct worker workers[];
extern const unsigned int worker_count;

/* Print one line through /dev/kmsg: "[ time] init: TEXT". */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Run one worker for ever. */
_Noreturn void run_worker(unsigned int index);
/* Obey lines read from the console for ever. */
_Noreturn void run_commands(void);
/* Fork a child that dies with its parent; returns as fork(). */
int fork_bound(void);
void sleep_us(unsigned int us);

#endif
