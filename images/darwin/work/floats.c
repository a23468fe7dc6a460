/* Floating point in the kernel: sums, a series, a matrix, against results known from integers. */
#include "kern.h"
#include "work.h"

#define ORDER 4

struct matrix {
    double at[ORDER][ORDER];
};

double fp_dot(const double *a, const double *b, uint32_t n);
void fp_scale(float *values, uint32_t n, float by);
int fp_compare(double a, double b);
double fp_restore_check(double value, uint32_t rounds);

static void fp_fill(double *values, uint32_t n, uint32_t seed)
{
    for (uint32_t i = 0; i < n; i++)
        values[i] = (double)(int)(random_next(&seed) % 2001) - 1000.0;
}

static bool dot_is_right(uint32_t seed)
{
    double a[24], b[24];
    int64_t sum = 0;
    fp_fill(a, 24, seed);
    fp_fill(b, 24, seed + 1);
    for (int i = 0; i < 24; i++)
        sum += (int)a[i] * (int)b[i];
    return (int)fp_dot(a, b, 24) == (int)sum;
}

static void fp_matrix_multiply(struct matrix *product, const struct matrix *a, const struct matrix *b)
{
    for (int i = 0; i < ORDER; i++)
        for (int j = 0; j < ORDER; j++) {
            product->at[i][j] = 0;
            for (int k = 0; k < ORDER; k++)
                product->at[i][j] += a->at[i][k] * b->at[k][j];
        }
}

static bool matrix_is_right(uint32_t seed)
{
    struct matrix a, b, c, left, right, inner;
    fp_fill(a.at[0], ORDER * ORDER, seed);
    fp_fill(b.at[0], ORDER * ORDER, seed * 3);
    fp_fill(c.at[0], ORDER * ORDER, seed * 5);
    fp_matrix_multiply(&inner, &a, &b);
    fp_matrix_multiply(&left, &inner, &c);
    fp_matrix_multiply(&inner, &b, &c);
    fp_matrix_multiply(&right, &a, &inner);
    return memcmp(&left, &right, sizeof left) == 0; /* whole numbers below 2^53: exact */
}

static double square_root(double x)
{
    double root = x > 1 ? x : 1;
    for (int i = 0; i < 40; i++)
        root = 0.5 * (root + x / root);
    return root;
}

static bool roots_are_right(uint32_t seed)
{
    uint32_t n = 2 + seed % 5000;
    double root = square_root((double)(int)n);
    uint32_t whole = (uint32_t)(int)root;
    double error = root * root - (double)(int)n;
    return whole * whole <= n && (whole + 1) * (whole + 1) > n && error < 1e-9 && error > -1e-9;
}

static bool scale_is_right(uint32_t seed)
{
    float values[16];
    for (int i = 0; i < 16; i++)
        values[i] = (float)(int)(seed % 1000 + (uint32_t)i);
    fp_scale(values, 16, 0.25f);
    for (int i = 0; i < 16; i++)
        if ((int)(values[i] * 4.0f) != (int)(seed % 1000) + i)
            return false;
    return fp_compare((double)values[0], (double)values[1]) < 0 && fp_compare(1.5, 1.5) == 0;
}

static double polynomial(const double *coefficients, int degree, double x)
{
    double value = 0;
    while (degree >= 0)
        value = value * x + coefficients[degree--];
    return value;
}

static bool polynomial_is_right(uint32_t seed)
{
    static const double ones[] = {1, 1, 1, 1, 1, 1, 1};
    int x = 2 + (int)(seed % 9), power = 1;
    for (int i = 0; i < 7; i++)
        power *= x;
    return (int)polynomial(ones, 6, (double)x) == (power - 1) / (x - 1);
}

bool work_floats(uint32_t number)
{
    double kept = (double)(int)number * 1.25;
    bool right = dot_is_right(number) && matrix_is_right(number) && roots_are_right(number);
    right &= scale_is_right(number) && polynomial_is_right(number);
    return right && fp_restore_check(kept, 20000) == kept;
}
