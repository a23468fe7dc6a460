/* Workers that keep things: files on tmpfs, mapped memory, /proc. */
#define _GNU_SOURCE
#include "workers.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_WORDS 3000
#define PAGE 4096
#define PAGES 24

static const char *write_and_read_back(int fd, uint32_t seed)
{
	static uint32_t out[FILE_WORDS], in[FILE_WORDS];
	struct stat status;

	for (int i = 0; i < FILE_WORDS; i++)
		out[i] = seed + i * 40503u;
	CHECK(write(fd, out, sizeof(out)) == sizeof(out), "write");
	CHECK(!fstat(fd, &status) && status.st_size == sizeof(out), "size");
	CHECK(pread(fd, in, sizeof(in), 0) == sizeof(in), "read");
	CHECK(!memcmp(in, out, sizeof(in)), "file changed the data");
	CHECK(!ftruncate(fd, 100) && lseek(fd, 0, SEEK_END) == 100, "truncate");
	return NULL;
}

static int entries(const char *path)
{
	DIR *directory = opendir(path);
	int count = 0;

	if (!directory)
		return -1;
	while (readdir(directory))
		count++;
	closedir(directory);
	return count - 2; /* . and .. */
}

const char *file_step(void)
{
	static uint32_t round;
	const char *wrong;
	int fd;

	mkdir("/tmp/files", 0755);
	CHECK(entries("/tmp/files") == 0, "directory is not empty");
	fd = open("/tmp/files/a", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CHECK(fd >= 0, "create");
	wrong = write_and_read_back(fd, ++round);
	close(fd);
	CHECK(!wrong, wrong);
	CHECK(!link("/tmp/files/a", "/tmp/files/b"), "link");
	CHECK(!rename("/tmp/files/b", "/tmp/files/c"), "rename");
	CHECK(entries("/tmp/files") == 2, "entries");
	CHECK(!unlink("/tmp/files/a") && !unlink("/tmp/files/c"), "unlink");
	CHECK(access("/tmp/files/a", F_OK) == -1, "file outlived its unlink");
	return NULL;
}

static sigjmp_buf after_fault;

static void on_fault(int number)
{
	siglongjmp(after_fault, number);
}

static const char *use_pages(volatile uint32_t *words)
{
	const unsigned int stride = PAGE / sizeof(*words);
	int status, child;

	for (unsigned int page = 0; page < PAGES; page++)
		CHECK(words[page * stride] == 0, "fresh page is not zero");
	for (unsigned int page = 0; page < PAGES; page++)
		words[page * stride] = page * 17 + 1;
	child = fork();
	CHECK(child >= 0, "fork");
	if (child == 0) { /* copy on write: the parent must not see these */
		for (unsigned int page = 0; page < PAGES; page++)
			words[page * stride] += 1;
		_exit(words[stride] == 19 ? 0 : 1);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's copy");
	for (unsigned int page = 0; page < PAGES; page++)
		CHECK(words[page * stride] == page * 17 + 1, "page lost its data");
	CHECK(!mprotect((void *)words, PAGE, PROT_READ), "mprotect");
	if (sigsetjmp(after_fault, 1) == 0) {
		words[0] = 1;
		return "write to a read-only page";
	}
	CHECK(words[0] == 1, "read-only page changed");
	return NULL;
}

const char *memory_step(void)
{
	void *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const char *wrong;

	CHECK(pages != MAP_FAILED, "mmap");
	signal(SIGSEGV, on_fault);
	wrong = use_pages(pages);
	signal(SIGSEGV, SIG_DFL);
	CHECK(!munmap(pages, PAGES * PAGE), "munmap");
	return wrong;
}

const char *proc_step(void)
{
	FILE *file = fopen("/proc/self/stat", "re");
	char line[256];
	int pid = 0, fields;

	CHECK(file, "open /proc/self/stat");
	fields = fscanf(file, "%d (proc)", &pid);
	fclose(file);
	CHECK(fields == 1 && pid == getpid(), "/proc/self/stat names another process");
	file = fopen("/proc/net/snmp", "re");
	CHECK(file, "open /proc/net/snmp");
	fields = 0;
	while (fgets(line, sizeof(line), file))
		fields += !strncmp(line, "Udp:", 4);
	fclose(file);
	CHECK(fields == 2, "/proc/net/snmp lacks its Udp lines");
	return NULL;
}
