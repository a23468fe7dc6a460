/* The workload: threads that compute, compare and count. */
#ifndef WORK_H
#define WORK_H

#include "types.h"

struct worker {
    const char *name;
    bool (*round)(uint32_t number); /* does one piece of work; whether its result was right */
    int priority;
    int pause; /* ticks between rounds */
    uint32_t rounds, bad;
    uint32_t seen, stalled; /* rounds at the last look; seconds without one */
};

bool work_checksums(uint32_t number);
bool work_lists(uint32_t number);
bool work_trees(uint32_t number);
bool work_copies(uint32_t number);
bool work_counters(uint32_t number);
bool work_atomics(uint32_t number);
bool work_paging(uint32_t number);
bool work_sorting(uint32_t number);
bool work_strings(uint32_t number);
bool work_expressions(uint32_t number);
bool work_messages(uint32_t number);
bool work_numbers(uint32_t number);
bool work_packing(uint32_t number);
bool work_background(uint32_t number);
bool work_registers(uint32_t number);
bool work_forms(uint32_t number);
bool work_floats(uint32_t number);
bool work_files(uint32_t number);

void messages_init(void);
void counters_init(void);

void selfcheck_start(void);
void selfcheck(void *unused);
bool selfcheck_report(const char *name, uint32_t pid, uint32_t ok, uint32_t bad);

uint32_t crc32(const uint8_t *data, uint32_t length);
uint32_t adler32(const uint8_t *data, uint32_t length);
void sha1(const uint8_t *data, uint32_t length, uint32_t digest[5]);
void fill_random(uint32_t seed, void *data, uint32_t length);

#endif
