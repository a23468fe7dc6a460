/*
 * What the CPU leaves to the kernel: a misaligned lwarx of a user process is done here by bytes (it
 * reserves nothing: a stwcx. after it fails); mfpvr, privileged on the 750, is answered.
 */
#include "kern.h"
#include "ppc.h"
#include "task.h"

#define OP_LWARX 0x7c000028u
#define OP_MFPVR 0x7c1f42a6u
#define OP_MASK 0xfc0007ffu

uint32_t alignment_assists, program_assists;

static uint32_t effective_address(const struct savearea *sv, uint32_t instruction)
{
    uint32_t base = instruction >> 16 & 31, index = instruction >> 11 & 31;
    return (base ? sv->r[base] : 0) + sv->r[index];
}

static int fetch_instruction(const struct savearea *sv, uint32_t *instruction)
{
    return copyin(sv->srr0, instruction, sizeof *instruction);
}

/* Do a misaligned lwarx of a process by bytes; 0, or why it cannot be done. Interrupts are on. */
int alignment_assist(struct savearea *sv)
{
    uint32_t instruction, value;
    int error = fetch_instruction(sv, &instruction);
    if (error == 0 && (instruction & OP_MASK) != OP_LWARX)
        error = EFAULT;
    if (error == 0)
        error = copyin(effective_address(sv, instruction), &value, sizeof value);
    if (error)
        return error;
    sv->r[instruction >> 21 & 31] = value;
    sv->srr0 += 4;
    alignment_assists++;
    return 0;
}

static uint32_t processor_version(void)
{
    uint32_t version;
    __asm__("mfpvr %0" : "=r"(version));
    return version;
}

/* Answer a privileged instruction that any process may ask. Interrupts are on. */
bool program_assist(struct savearea *sv)
{
    uint32_t instruction;
    if (fetch_instruction(sv, &instruction) || (instruction & 0xfc1fffff) != OP_MFPVR)
        return false;
    sv->r[instruction >> 21 & 31] = processor_version();
    sv->srr0 += 4;
    program_assists++;
    return true;
}
