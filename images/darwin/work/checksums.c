/* CRC-32, Adler-32 and SHA-1, each checked against known answers. */
#include "kern.h"
#include "net.h"
#include "ppc.h"
#include "work.h"

static uint32_t crc_table[256];

static void crc32_init(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        crc_table[n] = c;
    }
}

uint32_t crc32(const uint8_t *data, uint32_t length)
{
    uint32_t crc = ~0u;
    if (crc_table[1] == 0)
        crc32_init();
    while (length--)
        crc = crc_table[(crc ^ *data++) & 0xff] ^ crc >> 8;
    return ~crc;
}

uint32_t adler32(const uint8_t *data, uint32_t length)
{
    uint32_t a = 1, b = 0;
    for (uint32_t i = 0; i < length; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static void sha1_block(uint32_t state[5], const uint8_t *block)
{
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20)
            f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40)
            f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60)
            f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else
            f = b ^ c ^ d, k = 0xca62c1d6;
        uint32_t next = (a << 5 | a >> 27) + f + e + k + w[i];
        e = d;
        d = c;
        c = b << 30 | b >> 2;
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

void sha1(const uint8_t *data, uint32_t length, uint32_t digest[5])
{
    static const uint32_t start[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t block[64];
    uint32_t left = length;
    memcpy(digest, start, sizeof start);
    for (; left >= 64; left -= 64, data += 64)
        sha1_block(digest, data);
    memset(block, 0, sizeof block);
    memcpy(block, data, left);
    block[left] = 0x80;
    if (left >= 56) {
        sha1_block(digest, block);
        memset(block, 0, sizeof block);
    }
    for (int i = 0; i < 4; i++)
        block[60 + i] = (uint8_t)(length << 3 >> (24 - 8 * i));
    sha1_block(digest, block);
}

static uint16_t slow_cksum(const uint8_t *data, uint32_t length)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < length; i++)
        sum += i & 1 ? data[i] : (uint32_t)data[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static bool known_answers(void)
{
    static const char digits[] = "123456789";
    static const uint32_t abc[5] = {0xa9993e36, 0x4706816a, 0xba3e2571, 0x7850c26c, 0x9cd0d89d};
    uint32_t digest[5];
    sha1((const uint8_t *)"abc", 3, digest);
    return crc32((const uint8_t *)digits, 9) == 0xcbf43926 && adler32((const uint8_t *)digits, 9) == 0x091e01de &&
           memcmp(digest, abc, sizeof abc) == 0;
}

bool work_checksums(uint32_t number)
{
    uint32_t buffer[150], digest[5], again[5];
    uint32_t length = 1 + number * 37 % sizeof buffer;
    uint8_t *data = (uint8_t *)buffer;
    fill_random(number, buffer, sizeof buffer);
    uint32_t crc = crc32(data, length), adler = adler32(data, length);
    sha1(data, length, digest);
    bool right = in_cksum(data, length, 0) == slow_cksum(data, length);
    data[length / 2] ^= 1; /* one bit must show in all of them */
    right &= crc32(data, length) != crc && adler32(data, length) != adler;
    data[length / 2] ^= 1;
    sha1(data, length, again);
    return right && memcmp(digest, again, sizeof digest) == 0 && crc32(data, length) == crc && known_answers();
}
