/* Compression: runs, and back references; unpacked again and compared. */
#include "kern.h"
#include "work.h"

#define PLAIN 300
#define PACKED 700

static uint32_t run_length(const uint8_t *data, uint32_t left)
{
    uint32_t n = 1;
    while (n < left && n < 255 && data[n] == data[0])
        n++;
    return n;
}

static uint32_t rle_pack(const uint8_t *data, uint32_t n, uint8_t *out)
{
    uint32_t at = 0;
    while (n) {
        uint32_t run = run_length(data, n);
        out[at++] = (uint8_t)run;
        out[at++] = *data;
        data += run;
        n -= run;
    }
    return at;
}

static uint32_t rle_unpack(const uint8_t *packed, uint32_t n, uint8_t *out)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i + 1 < n; i += 2) {
        memset(out + at, packed[i + 1], packed[i]);
        at += packed[i];
    }
    return at;
}

static uint32_t match_length(const uint8_t *a, const uint8_t *b, const uint8_t *end)
{
    uint32_t n = 0;
    while (b + n < end && n < 130 && a[n] == b[n])
        n++;
    return n;
}

/* Find the longest earlier occurrence of what is at `at`; its length, and its distance. */
static uint32_t find_match(const uint8_t *data, const uint8_t *at, const uint8_t *end, uint32_t *distance)
{
    uint32_t best = 0;
    const uint8_t *from = at - data > 255 ? at - 255 : data;
    for (; from < at; from++) {
        uint32_t n = match_length(from, at, end);
        if (n > best) {
            best = n;
            *distance = (uint32_t)(at - from);
        }
    }
    return best;
}

/* A byte below 128 says how many plain bytes follow (less one), above it a match of that length less 125. */
static uint32_t lz_pack(const uint8_t *data, uint32_t n, uint8_t *out)
{
    const uint8_t *at = data, *end = data + n, *plain = data;
    uint32_t length = 0, distance = 0;
    while (at < end) {
        uint32_t match = find_match(data, at, end, &distance);
        if (match < 3) {
            at++;
            if (at < end && at - plain < 128)
                continue;
            match = 0;
        }
        if (at > plain) {
            out[length++] = (uint8_t)(at - plain - 1);
            memcpy(out + length, plain, (uint32_t)(at - plain));
            length += (uint32_t)(at - plain);
        }
        if (match) {
            out[length++] = (uint8_t)(match + 125);
            out[length++] = (uint8_t)distance;
        }
        at += match;
        plain = at;
    }
    return length;
}

static uint32_t lz_unpack(const uint8_t *packed, uint32_t n, uint8_t *out)
{
    uint32_t at = 0, i = 0;
    while (i < n) {
        uint32_t code = packed[i++];
        if (code < 128) {
            memcpy(out + at, packed + i, code + 1);
            at += code + 1;
            i += code + 1;
        } else {
            uint32_t from = at - packed[i++];
            for (code -= 125; code; code--)
                out[at++] = out[from++];
        }
    }
    return at;
}

bool work_packing(uint32_t number)
{
    uint8_t *packed = kalloc(PACKED), *back = kalloc(PLAIN), data[PLAIN];
    uint32_t seed = number, n = 50 + number % (PLAIN - 50);
    for (uint32_t i = 0; i < n; i++)
        data[i] = (uint8_t)(random_next(&seed) % 4 && i ? data[i - 1] : random_next(&seed) % 8);
    uint32_t length = rle_pack(data, n, packed);
    bool right = rle_unpack(packed, length, back) == n && memcmp(data, back, n) == 0;
    length = lz_pack(data, n, packed);
    right &= lz_unpack(packed, length, back) == n && memcmp(data, back, n) == 0;
    kfree(packed, PACKED);
    kfree(back, PLAIN);
    return right;
}
