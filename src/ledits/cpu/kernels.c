/* What a UNet is made of, for x86 processors with AVX-512: products, attention and norms, each of them one call.
 *
 * Compiled by kernels.py for float32 and, with -DBF16=1, for bfloat16. Both work on units of 32 bits, one float32 or a
 * pair of bfloat16 that lie beside each other along what is summed over: mac() multiplies a unit by 16 others and adds
 * the products, in float32, to 16 sums. So one text serves both.
 *
 * Tensors are rows of channels, (b h w c) or (b n c), contiguous but where strides are named. Work is shared among
 * OpenMP's threads by output, and every sum of a row runs in the same order whatever else is in the batch.
 */
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if BF16
typedef uint16_t T;
enum { PER = 2 }; /* numbers in a unit */

static inline __m512 mac(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}
static inline __m512 load(const T *x, __mmask16 which) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(which, x)), 16));
}
static inline void store(T *x, __mmask16 which, __m512 value) {
    _mm256_mask_storeu_epi16(x, which, (__m256i)_mm512_cvtneps_pbh(value));
}
#else
typedef float T;
enum { PER = 1 };

static inline __m512 mac(__m512 sum, __m512i a, __m512i b) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
}
static inline __m512 load(const T *x, __mmask16 which) { return _mm512_maskz_loadu_ps(which, x); }
static inline void store(T *x, __mmask16 which, __m512 value) { _mm512_mask_storeu_ps(x, which, value); }
#endif

#define ALL ((__mmask16)0xffff)
#define SET(value) _mm512_set1_ps(value)
#define LOG2_E 1.44269504f

/* Which of 16 lanes hold something where `left` numbers are left. */
static inline __mmask16 lanes(long left) { return left >= 16 ? ALL : (__mmask16)((1 << left) - 1); }

/* The share of `count` that is this thread's. */
static inline void share(long count, long *first, long *last) {
    long threads = omp_get_num_threads(), me = omp_get_thread_num();
    *first = count * me / threads;
    *last = count * (me + 1) / threads;
}

/* 2^x, to 2e-7: a polynomial on [-1/2, 1/2] that was fitted to the relative error, scaled by the whole part. */
static inline __m512 power(__m512 x) {
    x = _mm512_max_ps(SET(-150.f), x); /* in this order, by which what is not a number stays so */
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 part = _mm512_sub_ps(x, whole);
    __m512 p = SET(0.0013276472f);
    p = _mm512_fmadd_ps(p, part, SET(0.0096755415f));
    p = _mm512_fmadd_ps(p, part, SET(0.0555071328f));
    p = _mm512_fmadd_ps(p, part, SET(0.240221197f));
    p = _mm512_fmadd_ps(p, part, SET(0.693146967f));
    p = _mm512_fmadd_ps(p, part, SET(1.00000007f));
    return _mm512_scalef_ps(p, whole);
}

/* x / (1 + e^-x) */
static inline __m512 silu(__m512 x) {
    return _mm512_div_ps(x, _mm512_add_ps(SET(1.f), power(_mm512_mul_ps(x, SET(-LOG2_E)))));
}

/* x / 2 (1 + erf(x / sqrt 2)), erf to 1.5e-7 by 7.1.26 of Abramowitz and Stegun (1964). */
static inline __m512 gelu(__m512 x) {
    __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), SET(0.707106781f));
    __m512 t = _mm512_div_ps(SET(1.f), _mm512_fmadd_ps(z, SET(0.3275911f), SET(1.f)));
    __m512 p = SET(1.061405429f);
    p = _mm512_fmadd_ps(p, t, SET(-1.453152027f));
    p = _mm512_fmadd_ps(p, t, SET(1.421413741f));
    p = _mm512_fmadd_ps(p, t, SET(-0.284496736f));
    p = _mm512_fmadd_ps(p, t, SET(0.254829592f));
    p = _mm512_mul_ps(_mm512_mul_ps(p, t), power(_mm512_mul_ps(_mm512_mul_ps(z, z), SET(-LOG2_E))));
    /* p is 1 - erf(|x| / sqrt 2): half of it is the share of a negative x that is kept, and what a positive x loses. */
    p = _mm512_mul_ps(p, SET(0.5f));
    __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
    return _mm512_mul_ps(x, _mm512_mask_sub_ps(p, positive, SET(1.f), p));
}

/* ---- Products: linear layers, and convolutions with zeros around, as sums over the places of their filter ---- */

enum { ROWS = 6, VECTORS = 4, PANEL = 16 * VECTORS }; /* 24 sums of 16 stay in registers; a panel is 64 outputs */
enum { WIDEST = 1 << 14 };                            /* input channels */
enum { PLAIN, GELU, TIMES, PLUS };                    /* what becomes of a sum, the last two with `other` */

typedef struct {
    const T *x;            /* (b h width c) */
    const uint32_t *w;     /* (panels side side c/PER 64) units */
    const float *bias;     /* (n), or null */
    const T *each;         /* (b n), added to all rows of a sample, or null */
    const T *other;        /* as out, for TIMES and PLUS; may be out itself */
    T *out;                /* (b rows columns n) */
    long b, h, width, c, rows, columns, n, side, stride, pad, then;
} Product;

static const T nothing[WIDEST];

static inline __attribute__((always_inline)) void tile(
    const Product *p, long row, long panel, const int rows, const int vectors) {
    const long units = p->c / PER, places = p->rows * p->columns;
    const uint32_t *w = p->w + panel * PANEL * p->side * p->side * units;
    long sample[ROWS], top[ROWS], left[ROWS];
    __m512 sum[ROWS][VECTORS];
    for (int r = 0; r < rows; r++) {
        long place = (row + r) % places;
        sample[r] = (row + r) / places;
        top[r] = place / p->columns * p->stride - p->pad;
        left[r] = place % p->columns * p->stride - p->pad;
        for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_ps();
    }
    for (long dy = 0; dy < p->side; dy++)
        for (long dx = 0; dx < p->side; dx++) {
            const uint32_t *x[ROWS];
            for (int r = 0; r < rows; r++) {
                long y = top[r] + dy, at = left[r] + dx;
                int inside = y >= 0 && at >= 0 && y < p->h && at < p->width;
                x[r] = (const uint32_t *)(
                    inside ? p->x + ((sample[r] * p->h + y) * p->width + at) * p->c : nothing);
            }
            for (long u = 0; u < units; u++, w += PANEL) {
                __m512i weights[VECTORS];
                for (int v = 0; v < vectors; v++) weights[v] = _mm512_load_si512(w + 16 * v);
#pragma GCC unroll 6
                for (int r = 0; r < rows; r++) {
                    __m512i value = _mm512_set1_epi32((int)x[r][u]);
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++) sum[r][v] = mac(sum[r][v], value, weights[v]);
                }
            }
        }
    for (int v = 0; v < vectors; v++) {
        long n = panel * PANEL + 16 * v;
        __mmask16 which = lanes(p->n - n);
        __m512 bias = p->bias ? _mm512_maskz_loadu_ps(which, p->bias + n) : _mm512_setzero_ps();
        for (int r = 0; r < rows; r++) {
            __m512 value = _mm512_add_ps(sum[r][v], bias);
            long at = (row + r) * p->n + n;
            if (p->each) value = _mm512_add_ps(value, load(p->each + sample[r] * p->n + n, which));
            switch (p->then) {
                case GELU: value = gelu(value); break;
                case TIMES: value = _mm512_mul_ps(value, load(p->other + at, which)); break;
                case PLUS: value = _mm512_add_ps(value, load(p->other + at, which)); break;
            }
            store(p->out + at, which, value);
        }
    }
}

/* The compiler makes a tile for each size, so that its sums are registers. */
#define TILE(rows, vectors) case rows * 8 + vectors: tile(p, row, panel, rows, vectors); break;
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3) TILE(rows, 4)

static void any_tile(const Product *p, long row, long panel, long rows, long vectors) {
    switch (rows * 8 + vectors) { TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6) }
}

void product(const Product *p) {
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
            long end = row + step < count ? row + step : count, wide = (p->n - panel * PANEL + 15) / 16;
            for (; row < end; row += ROWS)
                any_tile(p, row, panel, end - row < ROWS ? end - row : ROWS, wide < VECTORS ? wide : VECTORS);
        }
    }
}

/* ---- Attention, one block of queries and keys at a time (Dao et al. 2022), with queries along the lanes ---- */

enum { QUERIES = 32, KEYS = 48, AT_ONCE = 12, DEPTHS = 8 };

typedef struct {
    const T *q, *k, *v; /* (b n heads d), (b m heads d) twice: d numbers lie beside each other, heads follow */
    T *out;             /* (b n heads d), contiguous */
    long b, heads, n, m, d;
    long q_sample, q_row, k_sample, k_row, v_sample, v_row; /* strides in numbers */
    float scale;
} Attention;

/* (12 32) scores of 12 keys, (12 units), for 32 queries, (units 32) */
static inline void scores(const uint32_t *restrict q, const uint32_t *restrict k, long units, float *restrict out) {
    __m512 sum[AT_ONCE][2];
#pragma GCC unroll 12
    for (int r = 0; r < AT_ONCE; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (long u = 0; u < units; u++) {
        __m512i left = _mm512_load_si512(q + u * QUERIES), right = _mm512_load_si512(q + u * QUERIES + 16);
#pragma GCC unroll 12
        for (int r = 0; r < AT_ONCE; r++) {
            __m512i key = _mm512_set1_epi32((int)k[r * units + u]);
            sum[r][0] = mac(sum[r][0], key, left);
            sum[r][1] = mac(sum[r][1], key, right);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < AT_ONCE; r++) {
        _mm512_store_ps(out + r * QUERIES, sum[r][0]);
        _mm512_store_ps(out + r * QUERIES + 16, sum[r][1]);
    }
}

/* Adds to 8 depths of the outputs, (8 32), the values (units deep) of a block's keys by their weights (units 32). */
static inline void gather(const uint32_t *restrict weights, const uint32_t *restrict v, long deep, float *restrict out) {
    __m512 sum[DEPTHS][2];
#pragma GCC unroll 8
    for (int r = 0; r < DEPTHS; r++) {
        sum[r][0] = _mm512_load_ps(out + r * QUERIES);
        sum[r][1] = _mm512_load_ps(out + r * QUERIES + 16);
    }
    for (long u = 0; u < KEYS / PER; u++) {
        __m512i left = _mm512_load_si512(weights + u * QUERIES), right = _mm512_load_si512(weights + u * QUERIES + 16);
#pragma GCC unroll 8
        for (int r = 0; r < DEPTHS; r++) {
            __m512i value = _mm512_set1_epi32((int)v[u * deep + r]);
            sum[r][0] = mac(sum[r][0], value, left);
            sum[r][1] = mac(sum[r][1], value, right);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < DEPTHS; r++) {
        _mm512_store_ps(out + r * QUERIES, sum[r][0]);
        _mm512_store_ps(out + r * QUERIES + 16, sum[r][1]);
    }
}

/* Weights (units 32) of a block's scores for 16 of the queries, whose highest score, sum and outputs are kept along. */
static inline void weigh(
    const float *restrict score, uint32_t *restrict weights, float c, __m512 *most, __m512 *sum, float *restrict out,
    long deep) {
    __m512 top = *most;
    for (int r = 0; r < KEYS; r++) top = _mm512_max_ps(top, _mm512_load_ps(score + r * QUERIES));
    if (_mm512_cmp_ps_mask(top, *most, _CMP_GT_OQ)) { /* what was summed so far was relative to a lower one */
        __m512 fade = power(_mm512_mul_ps(_mm512_sub_ps(*most, top), SET(c)));
        *sum = _mm512_mul_ps(*sum, fade);
        for (long e = 0; e < deep; e++)
            _mm512_store_ps(out + e * QUERIES, _mm512_mul_ps(_mm512_load_ps(out + e * QUERIES), fade));
        *most = top;
    }
    const __m512 shift = _mm512_mul_ps(top, SET(-c));
    for (int r = 0; r < KEYS; r += PER) {
        __m512 one = power(_mm512_fmadd_ps(_mm512_load_ps(score + r * QUERIES), SET(c), shift));
        *sum = _mm512_add_ps(*sum, one);
        __m512i unit = _mm512_castps_si512(one);
#if BF16
        __m512 two = power(_mm512_fmadd_ps(_mm512_load_ps(score + (r + 1) * QUERIES), SET(c), shift));
        *sum = _mm512_add_ps(*sum, two);
        const __m512i half = _mm512_set1_epi32(0x8000); /* rounds to the nearest when the lower bits go */
        unit = _mm512_srli_epi32(_mm512_add_epi32(unit, half), 16);
        unit = _mm512_mask_blend_epi16(0xaaaaaaaa, unit, _mm512_add_epi32(_mm512_castps_si512(two), half));
#endif
        _mm512_store_si512(weights + r / PER * QUERIES, unit);
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
            __m512 most[2] = {SET(-INFINITY), SET(-INFINITY)}, sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
            memset(out, 0, deep * QUERIES * 4);
            for (long j = 0; j < keys; j += KEYS) {
                for (int r = 0; r < KEYS; r += AT_ONCE) scores(q, k + (j + r) * units, units, score + r * QUERIES);
                for (long r = (a->m - j) * QUERIES; r < KEYS * QUERIES; r++) score[r] = -INFINITY;
                for (int half = 0; half < QUERIES; half += 16)
                    weigh(score + half, weights + half, c, most + half / 16, sum + half / 16, out + half, deep);
                for (long e = 0; e < deep; e += DEPTHS)
                    gather(weights, v + j / PER * deep + e, deep, out + e * QUERIES);
            }
            for (int half = 0; half < QUERIES; half += 16) {
                __m512 part = _mm512_div_ps(SET(1.f), sum[half / 16]);
                for (long e = 0; e < a->d; e++) {
                    float *at = out + e * QUERIES + half;
                    T rounded[16];
                    store(rounded, ALL, _mm512_mul_ps(_mm512_load_ps(at), part));
                    memcpy(at, rounded, sizeof rounded);
                }
                for (long i = 0; i < 16 && start + half + i < a->n; i++) {
                    T *row = a->out + ((sample * a->n + start + half + i) * a->heads + head) * a->d;
                    for (long e = 0; e < a->d; e++) row[e] = ((const T *)(out + e * QUERIES + half))[i];
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
                        for (long e = 0; e < c; e += 16) {
                            __mmask16 which = lanes(c - e);
                            __m512 value = load(x + k * rows + row * c + e, which);
                            __m512 before = _mm512_maskz_loadu_ps(which, part + k + e);
                            value = _mm512_sub_ps(value, _mm512_maskz_loadu_ps(which, mean + k + e));
                            value = pass ? _mm512_fmadd_ps(value, value, before) : _mm512_add_ps(value, before);
                            _mm512_mask_storeu_ps(part + k + e, which, value);
                        }
                    for (long e = k; e < k + c; e++) sum[e] += part[e], part[e] = 0;
                }
#pragma omp barrier
#pragma omp single
            for (long k = 0; k < all; k += wide) {
                float total = 0;
                for (long e = k; e < k + wide; e++)
                    for (long thread = 0; thread < threads; thread++) {
                        total += sums[thread * all + e];
                        sums[thread * all + e] = 0;
                    }
                total /= (float)(wide * rows);
                for (long e = k; e < k + wide; e++) {
                    if (pass) gain[e] = weight[e % c] / sqrtf(total + eps);
                    else mean[e] = total;
                }
            }
        }
        for (long k = 0; k < all; k += c)
            for (long row = first; row < last; row++)
                for (long e = 0; e < c; e += 16) {
                    __mmask16 which = lanes(c - e);
                    long at = k * rows + row * c + e;
                    __m512 value = _mm512_sub_ps(load(x + at, which), _mm512_maskz_loadu_ps(which, mean + k + e));
                    value = _mm512_fmadd_ps(
                        value, _mm512_maskz_loadu_ps(which, gain + k + e), _mm512_maskz_loadu_ps(which, bias + e));
                    store(out + at, which, active ? silu(value) : value);
                }
    }
    free(sums);
    return 0;
}

/* Each row of x (rows c) with mean 0 and variance 1, times weight plus bias. */
void layer_norm(const T *x, T *out, const float *weight, const float *bias, long rows, long c, float eps) {
#pragma omp parallel
    {
        long first, last;
        share(rows, &first, &last);
        for (long row = first; row < last; row++) {
            const T *from = x + row * c;
            __m512 sum = _mm512_setzero_ps(), square = _mm512_setzero_ps();
            for (long e = 0; e < c; e += 16) sum = _mm512_add_ps(sum, load(from + e, lanes(c - e)));
            const __m512 mean = SET(_mm512_reduce_add_ps(sum) / (float)c);
            for (long e = 0; e < c; e += 16) {
                __mmask16 which = lanes(c - e);
                __m512 value = _mm512_maskz_sub_ps(which, load(from + e, which), mean);
                square = _mm512_fmadd_ps(value, value, square);
            }
            const __m512 gain = SET(1.f / sqrtf(_mm512_reduce_add_ps(square) / (float)c + eps));
            for (long e = 0; e < c; e += 16) {
                __mmask16 which = lanes(c - e);
                __m512 value = _mm512_mul_ps(_mm512_sub_ps(load(from + e, which), mean), gain);
                value = _mm512_fmadd_ps(
                    value, _mm512_maskz_loadu_ps(which, weight + e), _mm512_maskz_loadu_ps(which, bias + e));
                store(out + row * c + e, which, value);
            }
        }
    }
}
