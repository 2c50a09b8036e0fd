/* Attention from one new token of each row to the tokens of its row, on a CPU.

   softmax(q K' / sqrt(size)) V (Vaswani et al. 2017, equation 1), the query heads that share a key head side by side.
   A row's keys and values lie in two pieces: what it begins with in common with other rows, and its own. Rows are
   the inner loop, so that a common piece stays in the core's cache. Sums are float32, those of a row in an order that
   no other row changes. No tensor library is needed; OpenMP's calls are those of the process that loads this. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define TILE 16 /* keys or values of so many tokens are fetched ahead, and stay in the first cache */

typedef struct {
    const void *keys, *values; /* of the first token, of the first key head */
    int64_t tokens, heads_apart; /* numbers from one key head to the next */
} Piece;

#ifdef BFLOAT16
typedef uint16_t Number;

static inline float read_number(Number bits) {
    uint32_t whole = (uint32_t)bits << 16;
    float number;
    memcpy(&number, &whole, 4);
    return number;
}

static inline Number write_number(float number) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &number, 4);
    return (Number)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
#else
typedef float Number;

static inline float read_number(Number number) { return number; }

static inline Number write_number(float number) { return number; }
#endif

/* exp(x) for x <= 0 within 2 units of the last place (Cephes, expf). */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504088896341f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

static inline void fetch(const Number *from, const Number *to) {
    for (const char *line = (const char *)from; line < (const char *)to; line += 64) __builtin_prefetch(line);
}

#ifdef __AVX512F__
static inline __m512 sixteen(const Number *from) {
#ifdef BFLOAT16
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
#else
    return _mm512_loadu_ps(from);
#endif
}

/* The products of one query and four keys, whose sums are made together. */
static inline void four_dots(const float *query, const Number *keys, int64_t size, float *dots) {
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t d = 0; d < size; d += 16)
        for (int key = 0; key < 4; key++)
            sum[key] = _mm512_fmadd_ps(_mm512_loadu_ps(query + d), sixteen(keys + key * size + d), sum[key]);
    __m512 left = _mm512_add_ps(_mm512_unpacklo_ps(sum[0], sum[1]), _mm512_unpackhi_ps(sum[0], sum[1]));
    __m512 right = _mm512_add_ps(_mm512_unpacklo_ps(sum[2], sum[3]), _mm512_unpackhi_ps(sum[2], sum[3]));
    __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(left), _mm512_castps_pd(right));
    __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(left), _mm512_castps_pd(right));
    __m512 all = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
    __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1));
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), upper);
    _mm_storeu_ps(dots, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
#endif

/* scores[t] = query . keys[t] for t from first to end */
static inline void dots(const float *query, const Number *keys, int64_t first, int64_t end, int64_t size, float *scores) {
    int64_t t = first;
#ifdef __AVX512F__
    if (size % 16 == 0)
        for (; t + 4 <= end; t += 4) four_dots(query, keys + t * size, size, scores + t);
#endif
    for (; t < end; t++) {
        const Number *key = keys + t * size;
        float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
        for (int64_t d = 0; d < size; d++) dot += query[d] * read_number(key[d]);
        scores[t] = dot;
    }
}

static inline void softmax(float *scores, int64_t tokens) {
    float most = scores[0], total = 0.0f;
#pragma omp simd reduction(max : most)
    for (int64_t t = 0; t < tokens; t++) most = scores[t] > most ? scores[t] : most;
#pragma omp simd reduction(+ : total)
    for (int64_t t = 0; t < tokens; t++) {
        scores[t] = exponential(scores[t] - most);
        total += scores[t];
    }
    const float part = 1.0f / total;
#pragma omp simd
    for (int64_t t = 0; t < tokens; t++) scores[t] *= part;
}

/* sums += scores[t] values[t] for t from first to end */
static inline __attribute__((always_inline)) void add_values(
    const float *scores, const Number *values, int64_t first, int64_t end, const int64_t size, float *sums) {
    float sum[size];
    memcpy(sum, sums, sizeof sum);
    for (int64_t t = first; t < end; t++) {
        const float share = scores[t];
        const Number *value = values + t * size;
#pragma omp simd
        for (int64_t d = 0; d < size; d++) sum[d] += share * read_number(value[d]);
    }
    memcpy(sums, sum, sizeof sum);
}

/* One key head of one row; queries and out: (group, size). */
static inline __attribute__((always_inline)) void one(
    const Number *queries, const Piece *pieces, int64_t head, int64_t group, const int64_t size, float *room, Number *out) {
    const int64_t tokens = pieces[0].tokens + pieces[1].tokens;
    float *asked = room, *sums = asked + group * size, *scores = sums + group * size;
    const float scale = 1.0f / sqrtf((float)size);
    for (int64_t n = 0; n < group * size; n++) asked[n] = read_number(queries[n]) * scale, sums[n] = 0.0f;
    int64_t before = 0;
    for (const Piece *piece = pieces; piece < pieces + 2; before += piece++->tokens) {
        const Number *keys = (const Number *)piece->keys + head * piece->heads_apart;
        for (int64_t first = 0; first < piece->tokens; first += TILE) {
            const int64_t end = first + TILE < piece->tokens ? first + TILE : piece->tokens;
            fetch(keys + end * size, keys + (end + TILE < piece->tokens ? end + TILE : piece->tokens) * size);
            for (int64_t g = 0; g < group; g++)
                dots(asked + g * size, keys, first, end, size, scores + g * tokens + before);
        }
    }
    for (int64_t g = 0; g < group; g++) softmax(scores + g * tokens, tokens);
    before = 0;
    for (const Piece *piece = pieces; piece < pieces + 2; before += piece++->tokens) {
        const Number *values = (const Number *)piece->values + head * piece->heads_apart;
        for (int64_t first = 0; first < piece->tokens; first += TILE) {
            const int64_t end = first + TILE < piece->tokens ? first + TILE : piece->tokens;
            fetch(values + end * size, values + (end + TILE < piece->tokens ? end + TILE : piece->tokens) * size);
            for (int64_t g = 0; g < group; g++)
                add_values(scores + g * tokens + before, values, first, end, size, sums + g * size);
        }
    }
    for (int64_t n = 0; n < group * size; n++) out[n] = write_number(sums[n]);
}

/* queries: (rows, narrow, group, size), rows so many numbers apart; pieces: two a row, of most tokens together at most;
   out: (rows, narrow, group, size). */
void attend(const Number *queries, int64_t rows_apart, const Piece *pieces, int64_t rows, int64_t narrow, int64_t group,
            int64_t size, int64_t most, Number *out) {
#pragma omp parallel
    {
        float *room = malloc(sizeof(float) * group * (2 * size + most));
#pragma omp for schedule(static)
        for (int64_t task = 0; task < narrow * rows; task++) {
            const int64_t head = task / rows, row = task % rows, from = head * group * size;
            const Number *asked = queries + row * rows_apart + from;
            Number *answer = out + row * narrow * group * size + from;
            if (size == 64)
                one(asked, pieces + 2 * row, head, group, 64, room, answer);
            else if (size == 128)
                one(asked, pieces + 2 * row, head, group, 128, room, answer);
            else
                one(asked, pieces + 2 * row, head, group, size, room, answer);
        }
        free(room);
    }
}
