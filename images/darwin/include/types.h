/* Types and small macros used everywhere. */
#ifndef TYPES_H
#define TYPES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t vm_offset_t;
typedef uint32_t vm_size_t;
typedef int spl_t;

#define KERN_SUCCESS 0
#define KERN_INVALID_ADDRESS 1
#define KERN_PROTECTION_FAILURE 2
#define KERN_NO_SPACE 3

#define trunc_page(x) ((vm_offset_t)(x) & ~(vm_offset_t)0xfff)
#define round_page(x) trunc_page((vm_offset_t)(x) + 0xfff)
#define countof(a) (sizeof(a) / sizeof((a)[0]))

#endif
