/*
 * Demand paging: sparse memory, touched, left, checked, given back. Its pages are 16 MiB apart, so
 * that they want the same groups of the hash table, which has not room for all of them.
 */
#include "libc.h"

#define STRIDE 0x01000000u
#define PAGES 15
#define ROWS 3

static volatile uint32_t *word(uint8_t *base, uint32_t row, uint32_t i)
{
    static const uint32_t pages[ROWS] = {0x123, 0xedc, 0x723};
    return (volatile uint32_t *)(base + i * STRIDE + pages[row] * 4096 % STRIDE);
}

static bool round(uint32_t number)
{
    uint32_t refills = counter("vm.pteg_refills"), faults = counter("vm.faults");
    uint8_t *base = vm_allocate(PAGES * STRIDE + STRIDE / 2);
    bool right = base != (void *)-1;
    for (uint32_t row = 0; right && row < ROWS; row++)
        for (uint32_t i = 0; i < PAGES; i++) {
            right &= word(base, row, i)[1] == 0;
            *word(base, row, i) = number + row * 100 + i;
        }
    sleep_ticks(1);
    for (uint32_t row = 0; right && row < ROWS; row++)
        for (uint32_t i = 0; i < PAGES; i++)
            right &= *word(base, row, i) == number + row * 100 + i;
    right &= vm_deallocate(base) == 0 && vm_deallocate(base) < 0;
    return right && counter("vm.faults") - faults >= PAGES * ROWS && counter("vm.pteg_refills") > refills;
}

int main(void)
{
    check_for_ever(round, 20);
}
