/* A worker that has something in all vector registers while the kernel does something else. */
#define _GNU_SOURCE
#include "workers.h"

#include <asm/cputable.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define VECTORS 32

struct vectors {
	uint32_t words[VECTORS][4];
} __attribute__((aligned(16)));

#define ALL                                                                                                            \
	"0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"

static void load_all(const struct vectors *from)
{
	__asm__ volatile(".machine push\n"
			 ".machine altivec\n"
			 ".irp n," ALL "\n"
			 "	lvx	\\n,0,%0\n"
			 "	addi	%0,%0,16\n"
			 ".endr\n"
			 ".machine pop\n"
			 : "+b"(from)
			 :
			 : "memory");
}

/* Nothing here is compiled for AltiVec: between load and store only the kernel could change a register. */
static void keep_over(const struct vectors *from, struct vectors *to, long number, long first, long second)
{
	__asm__ volatile(".machine push\n"
			 ".machine altivec\n"
			 ".irp n," ALL "\n"
			 "	lvx	\\n,0,%0\n"
			 "	addi	%0,%0,16\n"
			 ".endr\n"
			 "	mr	0,%2\n"
			 "	mr	3,%3\n"
			 "	mr	4,%4\n"
			 "	sc\n"
			 ".irp n," ALL "\n"
			 "	stvx	\\n,0,%1\n"
			 "	addi	%1,%1,16\n"
			 ".endr\n"
			 ".machine pop\n"
			 : "+b"(from), "+b"(to)
			 : "b"(number), "b"(first), "b"(second)
			 : "0", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "cr0", "ctr", "xer", "memory");
}

static volatile sig_atomic_t handled;

static void on_signal(int number)
{
	static const struct vectors others;

	(void)number;
	load_all(&others);
	handled++;
}

const char *vector_step(void)
{
	static uint32_t round;
	static struct vectors in, out;
	const struct sigaction action = {.sa_handler = on_signal};
	const struct timespec nap = {0, 1000000};

	if (!(getauxval(AT_HWCAP) & PPC_FEATURE_HAS_ALTIVEC))
		return NULL;
	for (int i = 0; i < VECTORS; i++)
		for (int j = 0; j < 4; j++)
			in.words[i][j] = ++round * 2654435761u;
	keep_over(&in, &out, SYS_nanosleep, (long)&nap, 0);
	CHECK(!memcmp(&in, &out, sizeof(in)), "vector registers changed while it slept");
	handled = 0;
	CHECK(!sigaction(SIGUSR1, &action, NULL), "sigaction");
	keep_over(&in, &out, SYS_kill, getpid(), SIGUSR1);
	CHECK(handled == 1, "no signal came");
	CHECK(!memcmp(&in, &out, sizeof(in)), "a signal handler's vector registers stayed");
	return NULL;
}
