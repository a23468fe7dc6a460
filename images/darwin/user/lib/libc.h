/* What programs have: system calls, and the little that is worth sharing. */
#ifndef LIBC_H
#define LIBC_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define O_CREAT 0x200
#define O_TRUNC 0x400
#define O_APPEND 8
#define countof(a) (sizeof(a) / sizeof((a)[0]))

extern uint32_t errno;
_Noreturn void exit(int code);
int read(int file, void *to, size_t n);
int write(int file, const void *from, size_t n);
int open(const char *path, int flags);
int close(int file);
int wait4(int pid, uint32_t *status);
int unlink(const char *path);
int getpid(void);
int trace(int on);
int recvfrom(int socket, void *to, size_t n, int ticks, uint32_t *port);
int vm_deallocate(void *at);
int socket(void);
int bind(int socket, int port);
int gettimeofday(uint32_t time[2]);
int rename(const char *from, const char *to);
int sendto(int socket, const void *from, size_t n, int port);
int file_size(int file);
void *vm_allocate(size_t size);
int sysctl(const char *name, void *to);
int sleep_ticks(int ticks);
int spawn(const char *path, int argument);
int report(uint32_t ok, uint32_t bad);
int kmod_load(const char *path);
int kmod_unload(int id);
int kmod_call(int id, uint32_t argument);
int sched_yield(void);
int no_such_call(void);
uint32_t misaligned_load(const void *p);
uint32_t misaligned_load_at(const void *p, uint32_t offset);
int misaligned_store(void *p);
uint32_t processor_version(void);
void count_down(uint32_t n);
void do_privileged(void), do_illegal(void), do_trap(void);

size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
bool starts_with(const char *s, const char *with);
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *p, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
int format(char *out, size_t size, const char *text, ...);
void say(const char *text, ...);
uint32_t random_next(uint32_t *seed);
uint32_t crc32(uint32_t crc, const void *data, size_t n);
uint32_t counter(const char *name);

/* Do rounds for ever, and report. */
_Noreturn void check_for_ever(bool (*round)(uint32_t number), int ticks);

#endif
