/* Numbers to text and back, searching, base 64. */
#include "kern.h"
#include "work.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int base64_encode(const uint8_t *data, int n, char *out)
{
    char *at = out;
    for (; n > 0; n -= 3, data += 3) {
        uint32_t group = (uint32_t)data[0] << 16;
        if (n > 1)
            group |= (uint32_t)data[1] << 8;
        if (n > 2)
            group |= data[2];
        *at++ = alphabet[group >> 18];
        *at++ = alphabet[group >> 12 & 63];
        *at++ = n > 1 ? alphabet[group >> 6 & 63] : '=';
        *at++ = n > 2 ? alphabet[group & 63] : '=';
    }
    *at = 0;
    return (int)(at - out);
}

static uint32_t base64_value(char c)
{
    const char *found = c ? strchr(alphabet, c) : NULL;
    return found ? (uint32_t)(found - alphabet) : 0;
}

static int base64_decode(const char *text, uint8_t *out)
{
    uint8_t *at = out;
    for (; text[0]; text += 4) {
        uint32_t group = base64_value(text[0]) << 18 | base64_value(text[1]) << 12 | base64_value(text[2]) << 6 |
                         base64_value(text[3]);
        *at++ = (uint8_t)(group >> 16);
        if (text[2] != '=')
            *at++ = (uint8_t)(group >> 8);
        if (text[3] != '=')
            *at++ = (uint8_t)group;
    }
    return (int)(at - out);
}

static bool number_round_trip(uint32_t value)
{
    static const struct {
        const char *format;
        int base;
    } ways[] = {{"%u", 10}, {"0x%x", 16}, {"%o", 8}, {"%010u", 10}, {"%#.8X", 16}};
    char text[32];
    const char *end;
    for (unsigned i = 0; i < countof(ways) - 1; i++) {
        int length = snprintf(text, sizeof text, ways[i].format, value);
        if (strtoul(text, &end, ways[i].base) != value || end != text + length)
            return false;
    }
    return true;
}

static bool padding(int value)
{
    char left[24], right[24];
    snprintf(left, sizeof left, "%-12d|", value);
    snprintf(right, sizeof right, "%12d|", value);
    const char *a = left, *b = right;
    while (isspace(*b))
        b++;
    while (*a && !isspace(*a) && *a != '|')
        if (*a++ != *b++)
            return false;
    return strlen(left) == 13 && strlen(right) == 13 && strcmp(b, "|") == 0;
}

static bool dates_are_right(uint32_t number)
{
    static const struct {
        uint32_t seconds;
        const char *date;
    } known[] = {
        {0, "Jan 01 00:00:00"},          {951868799, "Feb 29 23:59:59"}, {1072915199, "Dec 31 23:59:59"},
        {1709164800, "Feb 29 00:00:00"}, {1732318565, "Nov 22 23:36:05"},
    };
    char date[16];
    format_time(known[number % countof(known)].seconds, date);
    return strcmp(date, known[number % countof(known)].date) == 0;
}

bool work_strings(uint32_t number)
{
    if (!dates_are_right(number))
        return false;
    uint8_t data[40], back[48];
    char text[64], upper[64];
    uint32_t n = number % sizeof data;
    fill_random(number, data, sizeof data);
    int length = base64_encode(data, (int)n, text);
    bool right = (uint32_t)length == (n + 2) / 3 * 4 && (uint32_t)base64_decode(text, back) == n;
    right &= memcmp(data, back, n) == 0;
    right &= number_round_trip(number * 2654435761u) && padding((int)(number * 12345 - 600000));
    strlcpy(upper, "the quick brown fox", sizeof upper);
    for (char *c = upper; *c; c++)
        *c = (char)toupper(*c);
    return right && strstr(upper, "BROWN") == upper + 10 && strstr(upper, "brown") == NULL &&
           strcmp(upper, "THE QUICK BROWN FOX") == 0;
}
