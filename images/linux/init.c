/* The Linux guest's init: mounts, loopback, the workers, one line a second. */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMPLAINTS_PER_WORKER 3

struct shared *shared;

static pid_t worker_pid[WORKERS_MAX];
static pid_t command_pid;

void say(const char *format, ...)
{
	static int kmsg = -1;
	char line[512] = "<6>init: ";
	const size_t head = strlen(line);
	va_list args;

	if (kmsg < 0)
		kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	va_start(args, format);
	vsnprintf(line + head, sizeof(line) - head - 1, format, args);
	va_end(args);
	strcat(line, "\n"); /* without it the kernel waits for a continuation before it prints */
	if (kmsg >= 0 && write(kmsg, line, strlen(line)) < 0)
		_exit(111);
}

void sleep_us(unsigned int us)
{
	const struct timespec time = {us / 1000000, (long)(us % 1000000) * 1000};

	nanosleep(&time, NULL);
}

int fork_bound(void)
{
	const pid_t parent = getpid();
	const int pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
	}
	return pid;
}

static void stand_still_while_paused(unsigned int index)
{
	while (shared->paused) {
		shared->halted[index] = 1;
		syscall(SYS_futex, &shared->paused, FUTEX_WAIT, 1, NULL, NULL, 0);
	}
	shared->halted[index] = 0;
}

_Noreturn void run_worker(unsigned int index)
{
	prctl(PR_SET_NAME, workers[index].name);
	for (;;) {
		const char *wrong = workers[index].step();

		if (!wrong)
			shared->ok[index]++;
		else if (shared->bad[index]++ < COMPLAINTS_PER_WORKER)
			say("bad: %s: %s (errno %d)", workers[index].name, wrong, errno);
		stand_still_while_paused(index);
		sleep_us(workers[index].pause_us);
	}
}

static void start_worker(unsigned int index)
{
	const int pid = fork();

	if (pid == 0)
		run_worker(index);
	worker_pid[index] = pid;
}

static void start_commands(void)
{
	command_pid = fork();
	if (command_pid == 0)
		run_commands();
}

static void mount_or_say(const char *type, const char *where)
{
	mkdir(where, 0755);
	if (mount(type, where, type, 0, NULL))
		say("mount %s on %s: %s", type, where, strerror(errno));
}

static void raise_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		say("lo: %s", strerror(errno));
	close(fd);
}

/* A worker that ends was killed by something: that is a failure, and its place is filled again. */
static void reap(void)
{
	int status, pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == command_pid)
			start_commands();
		for (unsigned int i = 0; i < worker_count; i++)
			if (pid == worker_pid[i]) {
				shared->bad[i]++;
				say("bad: %s ended with status 0x%x", workers[i].name, status);
				start_worker(i);
			}
	}
}

static int all_have_passed(void)
{
	for (unsigned int i = 0; i < worker_count; i++)
		if (!shared->ok[i] && !shared->bad[i])
			return 0;
	return 1;
}

static void report(void)
{
	uint32_t ok = 0, bad = 0;

	for (unsigned int i = 0; i < worker_count; i++) {
		ok += shared->ok[i];
		bad += shared->bad[i];
	}
	say("selfcheck: %u ok, %u bad", ok, bad);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "exit")) /* what the exec worker executes */
		return atoi(argv[2]);

	umask(0);
	mount_or_say("proc", "/proc");
	mount_or_say("sysfs", "/sys");
	mount_or_say("tracefs", "/sys/kernel/tracing");
	mount_or_say("tmpfs", "/tmp");
	raise_loopback();

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		say("no shared memory: %s", strerror(errno));
		return 1;
	}
	for (unsigned int i = 0; i < worker_count; i++)
		start_worker(i);
	start_commands();

	while (!all_have_passed()) {
		reap();
		sleep_us(10000);
	}
	say("ready");
	for (;;) {
		sleep_us(1000000);
		reap();
		if (!shared->paused)
			report();
	}
}
