/*
 * The console's command channel, for benchmarks: one command a line, answered by
 * "init: done COMMAND" or "init: failed COMMAND: REASON".
 *
 *   pause              let every worker finish its step and stand still
 *   resume             let them go on
 *   write PATH TEXT    write TEXT and a newline to a file (tracefs, sysctl)
 *   read PATH          print a file, one "init: read: LINE" a line
 *   threads N          make N threads that do nothing for ever
 *   badread PATH       read a byte of a file to an address that is not there
 *   udp N              send N datagrams to itself over loopback and receive each
 *   getppid N          call getppid N times
 *   sethostname TEXT   name the machine
 *   eventfd N          write N times to a new eventfd, print what /proc says of it
 *   insmod PATH        load a module
 *   rmmod NAME         unload it
 *
 * The answer to the last two ends in " ticks T": timebase ticks spent in the loop.
 */
#define _GNU_SOURCE
#include "init.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

static uint64_t timebase(void)
{
	uint32_t high, low, again;

	do {
		__asm__ volatile("mftbu %0; mftb %1; mftbu %2" : "=r"(high), "=r"(low), "=r"(again));
	} while (high != again);
	return (uint64_t)high << 32 | low;
}

static const char *pause_workers(void)
{
	shared->paused = 1;
	for (unsigned int i = 0; i < worker_count; i++)
		while (!shared->halted[i])
			sleep_us(1000);
	return NULL;
}

static const char *resume_workers(void)
{
	shared->paused = 0;
	syscall(SYS_futex, &shared->paused, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	return NULL;
}

static const char *write_file(char *path)
{
	char *text = strchr(path, ' ');
	const char *wrong = NULL;
	int fd;

	if (!text)
		return "no text";
	*text++ = 0;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return strerror(errno);
	if (dprintf(fd, "%s\n", text) < 0)
		wrong = strerror(errno);
	close(fd);
	text[-1] = ' '; /* the answer quotes the whole command */
	return wrong;
}

static const char *read_file(const char *path)
{
	char line[256];
	FILE *file = fopen(path, "re");

	if (!file)
		return strerror(errno);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		say("read: %s", line);
	}
	fclose(file);
	return NULL;
}

static void *rest(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static const char *threads(unsigned int count)
{
	pthread_t one;
	int wrong = 0;

	while (count-- && !wrong)
		wrong = pthread_create(&one, NULL, rest, NULL);
	return wrong ? strerror(wrong) : NULL;
}

static const char *bad_read(const char *path)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *wrong = NULL;

	if (fd < 0 || syscall(SYS_read, fd, 16, 1) < 0)
		wrong = strerror(errno);
	close(fd);
	return wrong;
}

static const char *eventfd_writes(unsigned int count)
{
	char path[32];
	uint64_t one = 1;
	int fd = eventfd(0, 0);
	const char *wrong = NULL;

	if (fd < 0)
		return strerror(errno);
	for (unsigned int i = 0; i < count && !wrong; i++)
		if (write(fd, &one, sizeof(one)) != sizeof(one))
			wrong = strerror(errno);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	wrong = wrong ? wrong : read_file(path);
	close(fd);
	return wrong;
}

static const char *udp(unsigned long count, uint64_t *ticks)
{
	struct sockaddr_in self = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(self);
	const char *wrong = NULL;
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t start;

	if (fd < 0)
		return strerror(errno);
	if (bind(fd, (struct sockaddr *)&self, length) || getsockname(fd, (struct sockaddr *)&self, &length))
		wrong = strerror(errno);
	start = timebase();
	for (unsigned long i = 0, back; i < count && !wrong; i++)
		if (sendto(fd, &i, sizeof(i), 0, (struct sockaddr *)&self, length) != sizeof(i) ||
		    recv(fd, &back, sizeof(back), 0) != sizeof(back) || back != i)
			wrong = "datagram lost or changed";
	*ticks = timebase() - start;
	close(fd);
	return wrong;
}

static const char *getppids(unsigned long count, uint64_t *ticks)
{
	const uint64_t start = timebase();

	for (unsigned long i = 0; i < count; i++)
		if (syscall(SYS_getppid) != 1)
			return "parent is not init";
	*ticks = timebase() - start;
	return NULL;
}

static const char *insmod(const char *path)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *wrong = NULL;

	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		wrong = strerror(errno);
	close(fd);
	return wrong;
}

static const char *rmmod(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? strerror(errno) : NULL;
}

static void obey(char *line)
{
	const char *wrong = NULL;
	uint64_t ticks = 0;
	int timed = 0;

	if (!strcmp(line, "pause"))
		wrong = pause_workers();
	else if (!strcmp(line, "resume"))
		wrong = resume_workers();
	else if (!strncmp(line, "write ", 6))
		wrong = write_file(line + 6);
	else if (!strncmp(line, "read ", 5))
		wrong = read_file(line + 5);
	else if (!strncmp(line, "threads ", 8))
		wrong = threads(strtoul(line + 8, NULL, 10));
	else if (!strncmp(line, "badread ", 8))
		wrong = bad_read(line + 8);
	else if (!strncmp(line, "sethostname ", 12))
		wrong = sethostname(line + 12, strlen(line + 12)) ? strerror(errno) : NULL;
	else if (!strncmp(line, "eventfd ", 8))
		wrong = eventfd_writes(strtoul(line + 8, NULL, 10));
	else if (!strncmp(line, "insmod ", 7))
		wrong = insmod(line + 7);
	else if (!strncmp(line, "rmmod ", 6))
		wrong = rmmod(line + 6);
	else if ((timed = !strncmp(line, "udp ", 4)))
		wrong = udp(strtoul(line + 4, NULL, 0), &ticks);
	else if ((timed = !strncmp(line, "getppid ", 8)))
		wrong = getppids(strtoul(line + 8, NULL, 0), &ticks);
	else
		wrong = "no such command";

	if (wrong)
		say("failed %s: %s", line, wrong);
	else if (timed)
		say("done %s ticks %llu", line, (unsigned long long)ticks);
	else
		say("done %s", line);
}

_Noreturn void run_commands(void)
{
	char line[256];
	struct termios mode;
	FILE *console = fopen("/dev/console", "re");

	prctl(PR_SET_NAME, "commands");
	if (!console) {
		say("no console: %s", strerror(errno));
		for (;;)
			pause();
	}
	if (!tcgetattr(fileno(console), &mode)) { /* no echo: the console shows log lines only */
		mode.c_lflag &= ~(ECHO | ECHONL | ISIG);
		mode.c_lflag |= ICANON;
		mode.c_iflag |= ICRNL;
		tcsetattr(fileno(console), TCSANOW, &mode);
	}
	for (;;) {
		if (!fgets(line, sizeof(line), console)) {
			clearerr(console);
			sleep_us(100000);
			continue;
		}
		line[strcspn(line, "\r\n")] = 0;
		if (*line)
			obey(line);
	}
}
