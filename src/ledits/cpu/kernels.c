/* What a UNet is made of, in the compiler's vector types: products, attention and norms, each of them one call.
 *
 * One text for AVX-512 (16 lanes), AVX2 with FMA (8) and NEON (4); kernels.py compiles it for float32 and, with -DBF16=1
 * where AVX-512 has bfloat16, for that. Both work on units of 32 bits, one float32 or a pair of bfloat16 that lie beside
 * each other along what is summed over: mac() multiplies a unit by a vector of others and adds the products, in float32,
 * to a vector of sums.
 *
 * Tensors are rows of channels, (b h w c) or (b n c), contiguous but where strides are named. Work is shared among
 * OpenMP's threads by output, and every sum of a row runs in the same order whatever else is in the batch. Functions
 * return 0, or 1 where there is not enough memory.
 */
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Lanes of a vector, and how many sums are held in registers at once: 24 of 32, on AVX2 12 of 16. A tile of a product is
 * ROWS by VECTORS; attention takes AT_ONCE keys or DEPTHS of the values by two vectors of queries. */
#if defined(__AVX512F__)
enum { LANES = 16, VECTORS = 4, AT_ONCE = 12, DEPTHS = 8 };
#elif defined(__AVX2__)
enum { LANES = 8, VECTORS = 2, AT_ONCE = 6, DEPTHS = 4 };
#else
enum { LANES = 4, VECTORS = 4, AT_ONCE = 12, DEPTHS = 8 };
#endif

typedef float F __attribute__((vector_size(4 * LANES)));
typedef uint32_t U __attribute__((vector_size(4 * LANES)));
/* The same where they lie in memory, at any address. */
typedef F LooseF __attribute__((aligned(1), may_alias));
typedef U LooseU __attribute__((aligned(1), may_alias));
typedef uint32_t Word __attribute__((aligned(1), may_alias));

#define SET(value) ((F){0} + (value))
#define LOG2_E 1.44269504f

static inline F read(const void *x) { return *(const LooseF *)x; }
static inline void write(void *x, F value) { *(LooseF *)x = value; }

/* The larger of two; the order of the arguments preserves a NaN in the second. */
static inline F larger(F a, F b) {
#if defined(__AVX512F__)
    return (F)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (F)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__ARM_NEON)
    return (F)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
#else
    U first = (U)(a > b);
    return (F)((first & (U)a) | (~first & (U)b));
#endif
}

static inline F absolute(F x) { return (F)((U)x & 0x7fffffffu); }

static inline float total(F x) {
    typedef float Four __attribute__((vector_size(16)));
    Four part[LANES / 4];
    memcpy(part, &x, sizeof x);
    for (int i = 1; i < LANES / 4; i++) part[0] += part[i];
    return part[0][0] + part[0][2] + (part[0][1] + part[0][3]);
}

#if BF16
typedef uint16_t T;
typedef uint16_t Half __attribute__((vector_size(2 * LANES), aligned(1), may_alias));
enum { PER = 2 }; /* numbers in a unit */
typedef Word Unit;
typedef U Units;

static inline Units units_at(const void *x) { return *(const LooseU *)x; }
static inline F mac(F sum, uint32_t a, Units b) {
    return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
}
static inline F load_all(const T *x) { return (F)(__builtin_convertvector(*(const Half *)x, U) << 16); }
static inline void store_all(T *x, F value) { *(Half *)x = (Half)_mm512_cvtneps_pbh((__m512)value); }
#else
typedef float T;
enum { PER = 1 };
typedef float Unit __attribute__((aligned(1), may_alias));
typedef F Units;

static inline Units units_at(const void *x) { return read(x); }
static inline F mac(F sum, float a, Units b) { return sum + a * b; } /* one instruction: -ffp-contract=fast */
static inline F load_all(const T *x) { return read(x); }
static inline void store_all(T *x, F value) { write(x, value); }
#endif

/* A vector of numbers, the first `left` of which are there; the others are 0. Few are not whole, and those are dealt with
 * apart, for a call inside of a loop would keep its sums out of the registers. */
#define APART __attribute__((noinline, cold)) static
#define WHOLE(left) __builtin_expect((left) >= LANES, 1)

APART F load_some(const T *x, long left) {
    T part[LANES] = {0};
    memcpy(part, x, left * sizeof(T));
    return load_all(part);
}
APART F load_some_floats(const float *x, long left) {
    float part[LANES] = {0};
    memcpy(part, x, left * sizeof(float));
    return read(part);
}
APART void store_some(T *x, long left, F value) {
    T part[LANES];
    store_all(part, value);
    memcpy(x, part, left * sizeof(T));
}
APART void store_some_floats(float *x, long left, F value) { memcpy(x, &value, left * sizeof(float)); }

static inline F load(const T *x, long left) { return WHOLE(left) ? load_all(x) : load_some(x, left); }
static inline F load_float(const float *x, long left) { return WHOLE(left) ? read(x) : load_some_floats(x, left); }
static inline void store(T *x, long left, F value) {
    if (WHOLE(left)) store_all(x, value);
    else store_some(x, left, value);
}
static inline void store_float(float *x, long left, F value) {
    if (WHOLE(left)) write(x, value);
    else store_some_floats(x, left, value);
}

/* The share of `count` that is this thread's. */
static inline void share(long count, long *first, long *last) {
    long threads = omp_get_num_threads(), me = omp_get_thread_num();
    *first = count * me / threads;
    *last = count * (me + 1) / threads;
}

/* 2^x for x to 127, from -126 on (below, 2^-126), to 2e-7: a polynomial on [-1/2, 1/2] that was fitted to the relative
 * error, scaled by the whole part, which stands in the lowest bits of x + 3 * 2^22. */
static inline F power(F x) {
    x = larger(SET(-126.f), x);
    F moved = x + 12582912.f, whole = moved - 12582912.f, part = x - whole;
    F p = SET(0.0013276472f);
    p = p * part + 0.0096755415f;
    p = p * part + 0.0555071328f;
    p = p * part + 0.240221197f;
    p = p * part + 0.693146967f;
    p = p * part + 1.00000007f;
#if defined(__AVX512F__)
    return (F)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
    return p * (F)(((U)moved << 23) + 0x3f800000u);
#endif
}

/* x / (1 + e^-x) */
static inline F silu(F x) { return x / (1.f + power(-larger(SET(-127.f), x * LOG2_E))); }

/* x / 2 (1 + erf(x / sqrt 2)), erf to 1.5e-7 by 7.1.26 of Abramowitz and Stegun (1964). */
static inline F gelu(F x) {
    F size = absolute(x), z = size * 0.707106781f, t = 1.f / (z * 0.3275911f + 1.f);
    F p = SET(1.061405429f);
    p = p * t + -1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t + -0.284496736f;
    p = p * t + 0.254829592f;
    p = p * t * power(z * z * -LOG2_E);
    /* p is 1 - erf(|x| / sqrt 2): half of it is what a positive x loses, and the share of a negative x that is kept. */
    return larger(SET(0.f), x) - size * (p * 0.5f);
}

/* ---- Products: linear layers, and convolutions with zeros around, as sums over the places of their filter ---- */

enum { ROWS = 6, PANEL = LANES * VECTORS }; /* a panel of weights is for so many outputs */
enum { WIDEST = 1 << 14 };                  /* input channels */
enum { PLAIN, GELU, TIMES, PLUS };          /* what becomes of a sum, the last two with `operand` */

const long panel_width = PANEL; /* for whoever lays weights out */

typedef struct {
    const T *x;           /* (b h width c) */
    const uint32_t *w;    /* (panels side side c/PER PANEL) units */
    const float *bias;    /* (n), or null */
    const T *sample_bias; /* (b n), added to all rows of a sample, or null */
    const T *operand;     /* as out, for TIMES and PLUS; may be out itself */
    T *out;               /* (b rows columns n) */
    long b, h, width, c, rows, columns, n, side, stride, pad, epilogue;
} Product;

static const T nothing[WIDEST];

static inline __attribute__((always_inline)) void tile(
    const Product *p, long row, long panel, const int rows, const int vectors) {
    const long units = p->c / PER, places = p->rows * p->columns;
    const uint32_t *w = p->w + panel * PANEL * p->side * p->side * units;
    long sample[ROWS], top[ROWS], left[ROWS];
    F sum[ROWS][VECTORS];
    long at_sample = row / places, at_row = row % places / p->columns, at_column = row % places % p->columns;
    for (int r = 0; r < rows; r++) {
        sample[r] = at_sample;
        top[r] = at_row * p->stride - p->pad;
        left[r] = at_column * p->stride - p->pad;
        if (++at_column == p->columns) at_column = 0, at_row++;
        if (at_row == p->rows) at_row = 0, at_sample++;
        for (int v = 0; v < vectors; v++) sum[r][v] = SET(0.f);
    }
    for (long dy = 0; dy < p->side; dy++)
        for (long dx = 0; dx < p->side; dx++) {
            const Unit *x[ROWS];
            for (int r = 0; r < rows; r++) {
                long y = top[r] + dy, at = left[r] + dx;
                int inside = y >= 0 && at >= 0 && y < p->h && at < p->width;
                x[r] = (const Unit *)(inside ? p->x + ((sample[r] * p->h + y) * p->width + at) * p->c : nothing);
            }
            for (long u = 0; u < units; u++, w += PANEL) {
                Units weights[VECTORS];
                for (int v = 0; v < vectors; v++) weights[v] = units_at(w + LANES * v);
#pragma GCC unroll 6
                for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++) sum[r][v] = mac(sum[r][v], x[r][u], weights[v]);
            }
        }
    for (int v = 0; v < vectors; v++) {
        const long n = panel * PANEL + LANES * v, wide = p->n - n;
        const F bias = p->bias ? load_float(p->bias + n, wide) : SET(0.f);
        for (int r = 0; r < rows; r++) {
            F value = sum[r][v] + bias;
            long at = (row + r) * p->n + n;
            if (p->sample_bias) value += load(p->sample_bias + sample[r] * p->n + n, wide);
            switch (p->epilogue) {
                case GELU: value = gelu(value); break;
                case TIMES: value *= load(p->operand + at, wide); break;
                case PLUS: value += load(p->operand + at, wide); break;
            }
            store(p->out + at, wide, value);
        }
    }
}

/* The compiler makes a tile for each size, so that its sums are registers. */
#define TILE(rows, vectors) case rows * 8 + vectors: tile(p, row, panel, rows, vectors); break;
#if defined(__AVX2__) && !defined(__AVX512F__)
#define TILES(rows) TILE(rows, 1) TILE(rows, 2)
#else
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3) TILE(rows, 4)
#endif

static void any_tile(const Product *p, long row, long panel, long rows, long vectors) {
    switch (rows * 8 + vectors) { TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6) }
}

int product(const Product *p) {
    const long count = p->b * p->rows * p->columns, panels = (p->n + PANEL - 1) / PANEL;
    /* What is larger, inputs or weights, is read once, and the other again for each block of it. */
    const int inputs_once = p->b * p->h * p->width > p->n * p->side * p->side;
    const long step = (inputs_once ? 8 : 2) * ROWS, blocks = (count + step - 1) / step;
#pragma omp parallel
    {
        long first, last;
        share(panels * blocks, &first, &last);
        for (long task = first; task < last; task++) {
            long panel = inputs_once ? task % panels : task / blocks;
            long row = (inputs_once ? task / panels : task % blocks) * step;
            long end = row + step < count ? row + step : count, wide = (p->n - panel * PANEL + LANES - 1) / LANES;
            for (; row < end; row += ROWS)
                any_tile(p, row, panel, end - row < ROWS ? end - row : ROWS, wide < VECTORS ? wide : VECTORS);
        }
    }
    return 0;
}

/* ---- Attention, one block of queries and keys at a time (Dao et al. 2022), with queries along the lanes ---- */

enum { QUERIES = 2 * LANES, KEYS = 48 };

typedef struct {
    const T *q, *k, *v; /* (b n heads d), (b m heads d) twice: d numbers lie beside each other, heads follow */
    T *out;             /* (b n heads d), contiguous */
    long b, heads, n, m, d;
    long q_sample, q_row, k_sample, k_row, v_sample, v_row; /* strides in numbers */
    float scale;
} Attention;

/* Scores (AT_ONCE QUERIES) of keys (AT_ONCE units) for queries (units QUERIES). */
static inline void scores(const uint32_t *restrict q, const uint32_t *restrict k, long units, float *restrict out) {
    F sum[AT_ONCE][2];
    const Unit *key = (const Unit *)k;
#pragma GCC unroll 12
    for (int r = 0; r < AT_ONCE; r++) sum[r][0] = sum[r][1] = SET(0.f);
    for (long u = 0; u < units; u++) {
        const Units left = units_at(q + u * QUERIES), right = units_at(q + u * QUERIES + LANES);
#pragma GCC unroll 12
        for (int r = 0; r < AT_ONCE; r++) {
            sum[r][0] = mac(sum[r][0], key[r * units + u], left);
            sum[r][1] = mac(sum[r][1], key[r * units + u], right);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < AT_ONCE; r++) {
        write(out + r * QUERIES, sum[r][0]);
        write(out + r * QUERIES + LANES, sum[r][1]);
    }
}

/* Adds to DEPTHS of the outputs, (DEPTHS QUERIES), the values (units deep) of a block's keys by their weights (units
 * QUERIES). */
static inline void gather(const uint32_t *restrict weights, const uint32_t *restrict v, long deep, float *restrict out) {
    F sum[DEPTHS][2];
    const Unit *value = (const Unit *)v;
#pragma GCC unroll 8
    for (int r = 0; r < DEPTHS; r++) {
        sum[r][0] = read(out + r * QUERIES);
        sum[r][1] = read(out + r * QUERIES + LANES);
    }
    for (long u = 0; u < KEYS / PER; u++) {
        const Units left = units_at(weights + u * QUERIES), right = units_at(weights + u * QUERIES + LANES);
#pragma GCC unroll 8
        for (int r = 0; r < DEPTHS; r++) {
            sum[r][0] = mac(sum[r][0], value[u * deep + r], left);
            sum[r][1] = mac(sum[r][1], value[u * deep + r], right);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < DEPTHS; r++) {
        write(out + r * QUERIES, sum[r][0]);
        write(out + r * QUERIES + LANES, sum[r][1]);
    }
}

/* Weights (units QUERIES) of a block's scores for one vector of the queries, whose highest score, sum and outputs are
 * kept along. */
static inline void weigh(
    const float *restrict score, uint32_t *restrict weights, float c, F *most, F *sum, float *restrict out, long deep) {
    F top = *most;
    for (int r = 0; r < KEYS; r++) top = larger(top, read(score + r * QUERIES));
    if (memcmp(&top, most, sizeof top)) { /* what was summed so far was relative to a lower one */
        F fade = power((*most - top) * c);
        *sum *= fade;
        for (long e = 0; e < deep; e++) write(out + e * QUERIES, read(out + e * QUERIES) * fade);
        *most = top;
    }
    const F shift = top * -c;
    for (int r = 0; r < KEYS; r += PER) {
        F one = power(read(score + r * QUERIES) * c + shift);
        *sum += one;
        U unit = (U)one;
#if BF16 /* each rounded to the nearest when its lower bits go */
        F two = power(read(score + (r + 1) * QUERIES) * c + shift);
        *sum += two;
        unit = ((unit + 0x8000u) >> 16) | (((U)two + 0x8000u) & 0xffff0000u);
#endif
        *(LooseU *)(weights + r / PER * QUERIES) = unit;
    }
}

int attention(const Attention *a) {
    const long units = a->d / PER, keys = (a->m + KEYS - 1) / KEYS * KEYS, deep = (a->d + DEPTHS - 1) / DEPTHS * DEPTHS;
    const long blocks = (a->n + QUERIES - 1) / QUERIES;
    const float c = a->scale * LOG2_E;
    int failed = 0;
#pragma omp parallel
    {
        /* keys, values, queries, scores, weights, outputs; each is a multiple of a cache line long */
        long sizes[] = {keys * units, keys / PER * deep, units * QUERIES, KEYS * QUERIES, KEYS / PER * QUERIES,
                        deep * QUERIES};
        uint32_t *room[6], *all;
        long size = 0, first, last, held = -1;
        for (int i = 0; i < 6; i++) size += (sizes[i] + 15) / 16 * 16;
        all = aligned_alloc(64, size * 4);
        room[0] = all;
        for (int i = 1; i < 6; i++) room[i] = room[i - 1] + (sizes[i - 1] + 15) / 16 * 16;
        uint32_t *k = room[0], *v = room[1], *q = room[2], *weights = room[4];
        float *score = (float *)room[3], *out = (float *)room[5];
        share(a->b * a->heads * blocks, &first, &last);
        if (!all) {
#pragma omp atomic write
            failed = 1;
            last = first;
        }
        for (long task = first; task < last; task++) {
            const long pair = task / blocks, sample = pair / a->heads, head = pair % a->heads;
            const long start = task % blocks * QUERIES;
            if (pair != held) { /* a thread's tasks are of few heads, whose keys and values it lays out for itself */
                held = pair;
                memset(k + a->m * units, 0, (keys - a->m) * units * 4);
                memset(v, 0, keys / PER * deep * 4);
                for (long j = 0; j < a->m; j++) {
                    const T *key = a->k + sample * a->k_sample + j * a->k_row + head * a->d;
                    const T *value = a->v + sample * a->v_sample + j * a->v_row + head * a->d;
                    memcpy(k + j * units, key, a->d * sizeof(T));
                    T *to = (T *)v + j / PER * deep * PER + j % PER;
                    for (long e = 0; e < a->d; e++) to[e * PER] = value[e];
                }
            }
            for (long i = 0; i < QUERIES; i++) { /* beyond the last query comes the last one again */
                long row = start + i < a->n ? start + i : a->n - 1;
                const T *query = a->q + sample * a->q_sample + row * a->q_row + head * a->d;
                for (long e = 0; e < a->d; e++) ((T *)q)[(e / PER * QUERIES + i) * PER + e % PER] = query[e];
            }
            F most[2] = {SET(-INFINITY), SET(-INFINITY)}, sum[2] = {SET(0.f), SET(0.f)};
            memset(out, 0, deep * QUERIES * 4);
            for (long j = 0; j < keys; j += KEYS) {
                for (int r = 0; r < KEYS; r += AT_ONCE) scores(q, k + (j + r) * units, units, score + r * QUERIES);
                for (long r = (a->m - j) * QUERIES; r < KEYS * QUERIES; r++) score[r] = -INFINITY;
                for (int half = 0; half < 2; half++)
                    weigh(score + half * LANES, weights + half * LANES, c, most + half, sum + half, out + half * LANES,
                          deep);
                for (long e = 0; e < deep; e += DEPTHS)
                    gather(weights, v + j / PER * deep + e, deep, out + e * QUERIES);
            }
            for (int half = 0; half < 2; half++) {
                F part = 1.f / sum[half];
                for (long e = 0; e < a->d; e++) {
                    float *at = out + e * QUERIES + half * LANES;
                    T rounded[LANES];
                    store_all(rounded, read(at) * part);
                    memcpy(at, rounded, sizeof rounded);
                }
                for (long i = 0; i < LANES && start + half * LANES + i < a->n; i++) {
                    T *row = a->out + ((sample * a->n + start + half * LANES + i) * a->heads + head) * a->d;
                    for (long e = 0; e < a->d; e++) row[e] = ((const T *)(out + e * QUERIES + half * LANES))[i];
                }
            }
        }
        free(all);
    }
    return failed;
}

/* ---- Norms ---- */

/* x (b rows c) with mean 0 and variance 1 over the channels of each group and all rows of a sample, times weight plus
 * bias, and its silu where `active`. */
int group_norm(
    const T *x, T *out, const float *weight, const float *bias, long b, long rows, long c, long groups, float eps,
    long active) {
    const long all = b * c, wide = c / groups, threads = omp_get_max_threads();
    float *sums = calloc((2 * threads + 2) * all, sizeof(float));
    if (!sums) return 1;
    float *parts = sums + threads * all, *mean = parts + threads * all, *gain = mean + all; /* (b c) */
#pragma omp parallel
    {
        long first, last;
        float *sum = sums + omp_get_thread_num() * all, *part = parts + omp_get_thread_num() * all;
        share(rows, &first, &last);
        for (int pass = 0; pass < 2; pass++) { /* the mean, then the mean square of what differs from it */
            for (long k = 0; k < all; k += c)
                for (long start = first; start < last; start += 256) { /* long sums in float32 would round too much */
                    for (long row = start; row < last && row < start + 256; row++)
                        for (long e = 0; e < c; e += LANES) {
                            const long left = c - e;
                            F value = load(x + k * rows + row * c + e, left) - load_float(mean + k + e, left);
                            F sofar = load_float(part + k + e, left);
                            store_float(part + k + e, left, pass ? sofar + value * value : sofar + value);
                        }
                    for (long e = k; e < k + c; e++) sum[e] += part[e], part[e] = 0;
                }
#pragma omp barrier
#pragma omp single
            for (long k = 0; k < all; k += wide) {
                float all_of_it = 0;
                for (long e = k; e < k + wide; e++)
                    for (long thread = 0; thread < threads; thread++) {
                        all_of_it += sums[thread * all + e];
                        sums[thread * all + e] = 0;
                    }
                all_of_it /= (float)(wide * rows);
                for (long e = k; e < k + wide; e++) {
                    if (pass) gain[e] = weight[e % c] / sqrtf(all_of_it + eps);
                    else mean[e] = all_of_it;
                }
            }
        }
        for (long k = 0; k < all; k += c)
            for (long row = first; row < last; row++)
                for (long e = 0; e < c; e += LANES) {
                    const long at = k * rows + row * c + e, left = c - e;
                    F value = load(x + at, left) - load_float(mean + k + e, left);
                    value = value * load_float(gain + k + e, left) + load_float(bias + e, left);
                    store(out + at, left, active ? silu(value) : value);
                }
    }
    free(sums);
    return 0;
}

/* Each row of x (rows c) with mean 0 and variance 1, times weight plus bias. */
int layer_norm(const T *x, T *out, const float *weight, const float *bias, long rows, long c, float eps) {
#pragma omp parallel
    {
        long first, last;
        share(rows, &first, &last);
        for (long row = first; row < last; row++) {
            const T *from = x + row * c;
            const long whole = c / LANES * LANES;
            F sum = SET(0.f), square = SET(0.f);
            for (long e = 0; e < c; e += LANES) sum += load(from + e, c - e);
            const float mean = total(sum) / (float)c;
            for (long e = 0; e < whole; e += LANES) {
                F value = load_all(from + e) - mean;
                square += value * value;
            }
            float rest = 0;
            for (long e = whole; e < c; e++) {
                float value = load(from + e, 1)[0] - mean;
                rest += value * value;
            }
            const float gain = 1.f / sqrtf((total(square) + rest) / (float)c + eps);
            for (long e = 0; e < c; e += LANES) {
                const long left = c - e;
                F value = (load(from + e, left) - mean) * gain;
                store(out + row * c + e, left, value * load_float(weight + e, left) + load_float(bias + e, left));
            }
        }
    }
    return 0;
}
