/* Formatting: %d %i %u %x %X %o %p %c %s %% with flags 0 - +, width, precision, l and h. */
#include "kern.h"

struct spec {
    bool left, zero, plus, upper;
    int width, precision;
};

struct sink {
    char *out;
    size_t size, length;
};

static int put_repeated(void (*put)(char, void *), void *sink, char c, int n)
{
    for (int i = 0; i < n; i++)
        put(c, sink);
    return n > 0 ? n : 0;
}

static void put_text(void (*put)(char, void *), void *sink, const struct spec *spec, const char *text,
                     int length)
{
    if (!spec->left)
        put_repeated(put, sink, ' ', spec->width - length);
    for (int i = 0; i < length; i++)
        put(text[i], sink);
    if (spec->left)
        put_repeated(put, sink, ' ', spec->width - length);
}

static void put_number(void (*put)(char, void *), void *sink, const struct spec *spec, uint32_t value,
                       uint32_t base, bool negative)
{
    char digits[40];
    int at = sizeof digits;
    const char *alphabet = spec->upper ? "0123456789ABCDEF" : "0123456789abcdef";
    do
        digits[--at] = alphabet[value % base];
    while (value /= base);
    int sign = negative || spec->plus;
    int wanted = spec->precision >= 0 ? spec->precision : spec->zero && !spec->left ? spec->width - sign : 0;
    while ((int)sizeof digits - at < wanted && at > 1)
        digits[--at] = '0';
    if (sign)
        digits[--at] = negative ? '-' : '+';
    put_text(put, sink, spec, &digits[at], sizeof digits - at);
}

static int scan_number(const char **format, va_list *args)
{
    int n = 0;
    if (**format == '*') {
        ++*format;
        return va_arg(*args, int);
    }
    while (isdigit(**format))
        n = n * 10 + *(*format)++ - '0';
    return n;
}

static const char *scan_spec(const char *format, struct spec *spec, va_list *args)
{
    *spec = (struct spec){.precision = -1};
    for (;; format++) {
        if (*format == '-')
            spec->left = true;
        else if (*format == '0')
            spec->zero = true;
        else if (*format == '+')
            spec->plus = true;
        else
            break;
    }
    spec->width = scan_number(&format, args);
    if (*format == '.') {
        format++;
        spec->precision = scan_number(&format, args);
    }
    while (*format == 'l' || *format == 'h' || *format == 'z')
        format++;
    return format;
}

static int text_length(const char *text, int limit)
{
    int n = 0;
    while ((limit < 0 || n < limit) && text[n])
        n++;
    return n;
}

void _doprnt(const char *format, va_list given, void (*put)(char, void *), void *sink)
{
    va_list args;
    va_copy(args, given);
    for (; *format; format++) {
        struct spec spec;
        if (*format != '%') {
            put(*format, sink);
            continue;
        }
        format = scan_spec(format + 1, &spec, &args);
        switch (*format) {
        case 'd':
        case 'i': {
            int value = va_arg(args, int);
            put_number(put, sink, &spec, value < 0 ? -(uint32_t)value : (uint32_t)value, 10, value < 0);
            break;
        }
        case 'u':
            put_number(put, sink, &spec, va_arg(args, uint32_t), 10, false);
            break;
        case 'o':
            put_number(put, sink, &spec, va_arg(args, uint32_t), 8, false);
            break;
        case 'X':
            spec.upper = true;
            put_number(put, sink, &spec, va_arg(args, uint32_t), 16, false);
            break;
        case 'p':
            put('0', sink);
            put('x', sink);
            /* fall through */
        case 'x':
            put_number(put, sink, &spec, va_arg(args, uint32_t), 16, false);
            break;
        case 'c': {
            char c = (char)va_arg(args, int);
            put_text(put, sink, &spec, &c, 1);
            break;
        }
        case 's': {
            const char *text = va_arg(args, const char *);
            text = text ? text : "(null)";
            put_text(put, sink, &spec, text, text_length(text, spec.precision));
            break;
        }
        case 0:
            va_end(args);
            return;
        default:
            put(*format, sink);
        }
    }
    va_end(args);
}

static void put_bounded(char c, void *argument)
{
    struct sink *sink = argument;
    if (sink->length + 1 < sink->size)
        sink->out[sink->length] = c;
    sink->length++;
}

/* The length the whole text would have had. */
int vsnprintf(char *out, size_t size, const char *format, va_list args)
{
    struct sink sink = {.out = out, .size = size};
    _doprnt(format, args, put_bounded, &sink);
    if (size)
        out[sink.length < size ? sink.length : size - 1] = 0;
    return (int)sink.length;
}

int snprintf(char *out, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(out, size, format, args);
    va_end(args);
    return length;
}
