/* A calculator twice: by recursive descent, and compiled to a stack machine's code. */
#include "kern.h"
#include "work.h"

enum opcode { OP_PUSH, OP_ADD, OP_SUB, OP_MUL, OP_AND, OP_OR, OP_XOR, OP_SHIFT, OP_NEG, OP_NOT, OP_DUP, OP_DROP, OP_HALT };

struct program {
    int32_t code[160];
    int length;
};

struct text {
    const char *at;
    struct program *program;
};

static int32_t parse_sum(struct text *text);

static void emit(struct program *program, int32_t word)
{
    if (program->length < (int)countof(program->code))
        program->code[program->length++] = word;
}

static int32_t parse_factor(struct text *text)
{
    int32_t value;
    switch (*text->at) {
    case '(':
        text->at++;
        value = parse_sum(text);
        text->at++; /* ) */
        return value;
    case '-':
        text->at++;
        value = -parse_factor(text);
        emit(text->program, OP_NEG);
        return value;
    case '~':
        text->at++;
        value = ~parse_factor(text);
        emit(text->program, OP_NOT);
        return value;
    default:
        value = (int32_t)strtoul(text->at, &text->at, 10);
        emit(text->program, OP_PUSH);
        emit(text->program, value);
        return value;
    }
}

static int32_t parse_product(struct text *text)
{
    int32_t value = parse_factor(text);
    for (;;) {
        switch (*text->at) {
        case '*':
            text->at++;
            value = (int32_t)((uint32_t)value * (uint32_t)parse_factor(text));
            emit(text->program, OP_MUL);
            break;
        case '&':
            text->at++;
            value &= parse_factor(text);
            emit(text->program, OP_AND);
            break;
        default:
            return value;
        }
    }
}

static int32_t parse_sum(struct text *text)
{
    uint32_t value = (uint32_t)parse_product(text);
    for (;;) {
        char operator = *text->at;
        if (operator != '+' && operator != '-' && operator != '|' && operator != '^')
            return (int32_t)value;
        text->at++;
        uint32_t right = (uint32_t)parse_product(text);
        switch (operator) {
        case '+':
            value += right;
            emit(text->program, OP_ADD);
            break;
        case '-':
            value -= right;
            emit(text->program, OP_SUB);
            break;
        case '|':
            value |= right;
            emit(text->program, OP_OR);
            break;
        default:
            value ^= right;
            emit(text->program, OP_XOR);
        }
    }
}

/* Run a program; the compiler makes a jump table of this. */
static int32_t interpret(const int32_t *code)
{
    uint32_t stack[64], *top = stack;
    for (;;) {
        switch ((enum opcode) * code++) {
        case OP_PUSH:
            *++top = (uint32_t)*code++;
            break;
        case OP_ADD:
            top--;
            top[0] += top[1];
            break;
        case OP_SUB:
            top--;
            top[0] -= top[1];
            break;
        case OP_MUL:
            top--;
            top[0] *= top[1];
            break;
        case OP_AND:
            top--;
            top[0] &= top[1];
            break;
        case OP_OR:
            top--;
            top[0] |= top[1];
            break;
        case OP_XOR:
            top--;
            top[0] ^= top[1];
            break;
        case OP_SHIFT:
            top--;
            top[0] <<= top[1] & 31;
            break;
        case OP_NEG:
            top[0] = -top[0];
            break;
        case OP_NOT:
            top[0] = ~top[0];
            break;
        case OP_DUP:
            top[1] = top[0];
            top++;
            break;
        case OP_DROP:
            top--;
            break;
        case OP_HALT:
            return (int32_t)*top;
        }
    }
}

static char *write_expression(char *out, uint32_t *seed, int depth)
{
    static const char operators[] = "+-*&|^";
    uint32_t kind = random_next(seed) % 8;
    if (depth == 0 || kind == 0)
        return out + snprintf(out, 8, "%u", random_next(seed) % 100000);
    if (kind == 1)
        *out++ = random_next(seed) & 1 ? '-' : '~';
    *out++ = '(';
    out = write_expression(out, seed, depth - 1);
    *out++ = operators[random_next(seed) % 6];
    out = write_expression(out, seed, depth - 1);
    *out++ = ')';
    *out = 0;
    return out;
}

static int32_t evaluate(const char *expression, int32_t *interpreted)
{
    struct program program = {.length = 0};
    struct text text = {expression, &program};
    int32_t value = parse_sum(&text);
    emit(&program, OP_DUP);
    emit(&program, OP_DROP);
    emit(&program, OP_HALT);
    *interpreted = interpret(program.code);
    return *text.at ? ~value : value;
}

bool work_expressions(uint32_t number)
{
    char expression[256];
    uint32_t seed = number + 5;
    int32_t interpreted;
    write_expression(expression, &seed, 4);
    bool right = evaluate(expression, &interpreted) == interpreted;
    right &= evaluate("2*(3+4)-(10&6)*~0", &interpreted) == 16 && interpreted == 16;
    return right;
}
