/* Write files, read them back, compare checksums; rename and remove them. */
#include "libc.h"

static uint8_t data[6000], back[6000];

static bool read_back(const char *path, size_t n)
{
    int file = open(path, 0), got = 0, total = 0;
    memset(back, 0, sizeof back);
    while (file >= 0 && (got = read(file, back + total, 700)) > 0)
        total += got;
    bool right = file >= 0 && total == (int)n && file_size(file) == (int)n;
    close(file);
    return right && crc32(0, data, n) == crc32(0, back, n) && memcmp(data, back, n) == 0;
}

static bool round(uint32_t number)
{
    char path[40], moved[40];
    uint32_t seed = number, n = 1 + number * 37 % (sizeof data - 1);
    format(path, sizeof path, "/tmp/file.%u", number % 5);
    format(moved, sizeof moved, "/tmp/moved/%u", number % 3);
    for (uint32_t i = 0; i < n; i++)
        data[i] = (uint8_t)random_next(&seed);
    int file = open(path, O_CREAT | O_TRUNC);
    bool right = write(file, data, n / 2) == (int)(n / 2) && write(file, data + n / 2, n - n / 2) == (int)(n - n / 2);
    right &= unlink(path) < 0; /* it is open */
    close(file);
    right &= read_back(path, n) && rename(path, moved) == 0 && read_back(moved, n);
    right &= open(path, 0) < 0 && errno == 2 && unlink(moved) == 0 && open(moved, 0) < 0;
    return right && write(99, data, 1) < 0 && errno == 9 && read(0, (void *)8, 4) < 0;
}

/* What is written to /dev/null is gone, what is read from /dev/zero is nothing but zeros. */
static bool devices(void)
{
    int null = open("/dev/null", 0), zero = open("/dev/zero", 0);
    bool right = write(null, data, 500) == 500 && read(null, back, 10) == 0 && file_size(null) == 0;
    memset(back, 0xff, 600);
    right &= read(zero, back, 600) == 600;
    for (int i = 0; i < 600; i++)
        right &= back[i] == 0;
    return close(null) == 0 && close(zero) == 0 && close(zero) < 0 && right;
}

static bool files_and_devices(uint32_t number)
{
    return devices() && round(number);
}

int main(void)
{
    check_for_ever(files_and_devices, 10);
}
