/* The table of workers, and those about processes: exec, signals, timers. */
#define _GNU_SOURCE
#include "workers.h"

#include "init.h"

#include <signal.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const struct worker workers[] = {
	{"udp", udp_step, 3000},      {"tcp", tcp_step, 20000},	    {"pipe", pipe_step, 5000},
	{"poll", poll_step, 10000},   {"file", file_step, 20000},   {"memory", memory_step, 30000},
	{"proc", proc_step, 50000},   {"exec", exec_step, 100000},  {"signal", signal_step, 10000},
	{"timer", timer_step, 20000}, {"vector", vector_step, 30000},
};
const unsigned int worker_count = sizeof(workers) / sizeof(*workers);

_Static_assert(sizeof(workers) / sizeof(*workers) <= WORKERS_MAX, "shared memory has a place for each worker");

const char *exec_step(void)
{
	static unsigned int round;
	char code[4];
	int status, child;

	snprintf(code, sizeof(code), "%u", ++round & 0x7f);
	child = fork();
	CHECK(child >= 0, "fork");
	if (child == 0) {
		execl("/init", "init", "exit", code, NULL);
		_exit(126);
	}
	CHECK(waitpid(child, &status, 0) == child, "wait");
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (int)(round & 0x7f), "exit status");
	return NULL;
}

static volatile sig_atomic_t seen_value, seen_count;

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	seen_value = info->si_value.sival_int;
	seen_count++;
}

const char *signal_step(void)
{
	static int round;
	const struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	const struct timespec no_time = {0, 0};
	siginfo_t info;
	sigset_t set, old;

	seen_count = 0;
	CHECK(!sigaction(SIGUSR1, &action, NULL), "sigaction");
	CHECK(!sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = ++round}), "sigqueue");
	CHECK(seen_count == 1 && seen_value == round, "handler saw another value");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	CHECK(!sigprocmask(SIG_BLOCK, &set, &old), "sigprocmask");
	CHECK(!kill(getpid(), SIGUSR2), "kill");
	CHECK(sigtimedwait(&set, &info, &no_time) == SIGUSR2 && info.si_pid == getpid(), "sigtimedwait");
	CHECK(!sigprocmask(SIG_SETMASK, &old, NULL), "sigprocmask");
	return NULL;
}

static int64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

const char *timer_step(void)
{
	static int fd = -1;
	const struct itimerspec once = {.it_value = {0, 4000000}};
	const struct timespec nap = {0, 2000000};
	int64_t start = now_ns();
	uint64_t expirations;

	CHECK(!nanosleep(&nap, NULL), "nanosleep");
	CHECK(now_ns() - start >= 2000000, "nanosleep was short");
	if (fd < 0)
		fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	start = now_ns();
	CHECK(fd >= 0 && !timerfd_settime(fd, 0, &once, NULL), "timerfd");
	CHECK(read(fd, &expirations, sizeof(expirations)) == sizeof(expirations) && expirations == 1, "timerfd read");
	CHECK(now_ns() - start >= 4000000, "timerfd was early");
	return NULL;
}
