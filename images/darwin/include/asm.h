/* Constants that C and assembler share: MSR bits, exception codes, frame and per_proc offsets. */
#ifndef ASM_H
#define ASM_H

#define MSR_EE 0x8000
#define MSR_PR 0x4000
#define MSR_FP 0x2000
#define MSR_ME 0x1000
#define MSR_FE0 0x0800
#define MSR_SE 0x0400
#define MSR_FE1 0x0100
#define MSR_IP 0x0040
#define MSR_IR 0x0020
#define MSR_DR 0x0010
#define MSR_RI 0x0002
#define MSR_KERNEL (MSR_ME | MSR_IR | MSR_DR | MSR_RI)
#define MSR_USER (MSR_KERNEL | MSR_EE | MSR_PR | MSR_FE0 | MSR_FE1)

#define RED_ZONE 224             /* bytes below r1 that a leaf function may use (Darwin's ABI) */
#define KERNEL_STACK_SIZE 0x4000
#define PAGE_SIZE 4096
#define CACHE_LINE 32

/* An exception frame: 64 bytes of linkage, then struct savearea. */
#define FRAME_SAVEAREA 64
#define SS_R(n) (FRAME_SAVEAREA + 4 * (n))
#define SS_SRR0 (FRAME_SAVEAREA + 128)
#define SS_SRR1 (FRAME_SAVEAREA + 132)
#define SS_CR (FRAME_SAVEAREA + 136)
#define SS_LR (FRAME_SAVEAREA + 140)
#define SS_CTR (FRAME_SAVEAREA + 144)
#define SS_XER (FRAME_SAVEAREA + 148)
#define SS_DAR (FRAME_SAVEAREA + 152)
#define SS_DSISR (FRAME_SAVEAREA + 156)
#define SS_EXCEPTION (FRAME_SAVEAREA + 160)
#define SS_SCRATCH (FRAME_SAVEAREA + 164)
#define FRAME_SIZE (FRAME_SAVEAREA + 176)

/* struct per_proc_info; SPRG0 holds its address. */
#define PP_SAVE_R12 0
#define PP_SAVE_CR 4
#define PP_STACK_LOW 8
#define PP_STACK_HIGH 12
#define PP_PANIC_STACK 16
#define PP_USER_FRAME 20         /* where an exception of a user process is saved */

/* struct thread_state: what _switch_context keeps on the stack of a thread that does not run. */
#define SWITCH_FRAME 112
#define SWITCH_R2 12
#define SWITCH_CR 16
#define SWITCH_R13 20

/* Exceptions are known by their vector's offset. */
#define T_RESET 0x0100
#define T_MACHINE_CHECK 0x0200
#define T_DATA_ACCESS 0x0300
#define T_INSTRUCTION_ACCESS 0x0400
#define T_INTERRUPT 0x0500
#define T_ALIGNMENT 0x0600
#define T_PROGRAM 0x0700
#define T_FP_UNAVAILABLE 0x0800
#define T_DECREMENTER 0x0900
#define T_SYSTEM_CALL 0x0c00
#define T_TRACE 0x0d00
#define T_BAD_STACK 1            /* flag: r1 was outside the running thread's stack */

#endif
