// What a Llama does between its matrix products: `torch_ops.py` in CUDA, for GPUs without Triton, from compute
// capability 7.5 on. Sums are float32, rounded once.
//
// Given by options: BITS (16 or 32) and TYPE ("bf16" or "f16") of the numbers, SIZE of a head (a power of two),
// GROUP (query heads that share a key head), MEMBERS (of them, so many attend together).

typedef unsigned int word;
typedef unsigned long long bits64;
typedef long long place_t;

#if BITS == 32
typedef float number;
__device__ __forceinline__ float wide(number x) { return x; }
__device__ __forceinline__ number narrow(float x) { return x; }
#else
typedef unsigned short number;
__device__ __forceinline__ float wide(number x) {
    float y;
    if (TYPE[0] == 'b') return __uint_as_float((word)x << 16);
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}
__device__ __forceinline__ number narrow(float x) {
    number y;
    asm("cvt.rn." TYPE ".f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
#endif

const float LOWEST = -1.0e30f;
const int THREADS = 128;  // of attention
const int EACH_OF_16_BYTES = 16 / sizeof(number);
// A key is read by a team of lanes, of which each has so many of its numbers.
const int LEAST = SIZE / 32 > EACH_OF_16_BYTES ? SIZE / 32 : EACH_OF_16_BYTES;
const int NUMBERS = LEAST < SIZE ? LEAST : SIZE, LANES = SIZE / NUMBERS, TEAMS = THREADS / LANES;
const int AHEAD = 4;  // keys of a team that are on their way at once

__device__ __forceinline__ float summed_over(float value, int lanes) {
    for (int step = lanes / 2; step; step /= 2) value += __shfl_xor_sync(~0u, value, step);
    return value;
}

struct __align__(16) numbers { number of[NUMBERS]; };

__device__ __forceinline__ void read(numbers& to, const number* from) {
    if (NUMBERS * sizeof(number) % 16 == 0) {
        #pragma unroll
        for (int part = 0; part < (int)(NUMBERS * sizeof(number) / 16); part++) ((uint4*)&to)[part] = ((const uint4*)from)[part];
    } else for (int one = 0; one < NUMBERS; one++) to.of[one] = from[one];
}

extern "C" __global__ void add_norm(number* __restrict__ residual, const number* __restrict__ delta,
    const number* __restrict__ weight, number* __restrict__ out, int width, int delta_stride, double epsilon)
{
    __shared__ float sums[32];
    number* row = residual + (place_t)blockIdx.x * width;
    float sum = 0;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        if (delta) row[column] = narrow(wide(row[column]) + wide(delta[(place_t)blockIdx.x * delta_stride + column]));
        const float value = wide(row[column]);
        sum += value * value;
    }
    sum = summed_over(sum, 32);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = summed_over(threadIdx.x % 32 < blockDim.x / 32 ? sums[threadIdx.x % 32] : 0, 32);
    const float scale = rsqrtf(sum / width + (float)epsilon);
    for (int column = threadIdx.x; column < width; column += blockDim.x)
        out[(place_t)blockIdx.x * width + column] = narrow(wide(narrow(wide(row[column]) * scale)) * wide(weight[column]));
}

// A block for a token and one of its heads: queries, keys, values.
extern "C" __global__ void turn_and_store(const number* __restrict__ projected, number* __restrict__ keys,
    number* __restrict__ values, number* __restrict__ queries, const number* __restrict__ cosines,
    const number* __restrict__ sines, const place_t* __restrict__ positions, const place_t* __restrict__ places,
    int stride, int pool, int heads)
{
    const int token = blockIdx.x, head = blockIdx.y, key_heads = heads / GROUP, half = threadIdx.x;
    const number* from = projected + (place_t)token * stride + head * SIZE;
    number first = from[half], second = from[SIZE / 2 + half];
    if (head < heads + key_heads) {
        const place_t at = positions[token] * (SIZE / 2) + half;
        const float cosine = wide(cosines[at]), sine = wide(sines[at]), left = wide(first), right = wide(second);
        first = narrow(left * cosine - right * sine);
        second = narrow(right * cosine + left * sine);
    }
    number* to = queries + ((place_t)token * heads + head) * SIZE;
    if (head >= heads) {
        const int number_of = (head - heads) % key_heads;
        to = (head < heads + key_heads ? keys : values) + ((place_t)number_of * pool + places[token]) * SIZE;
    }
    to[half] = first;
    to[SIZE / 2 + half] = second;
}

// A block for a row, some query heads of one key head, and a part of the row's tokens.
extern "C" __global__ void __launch_bounds__(THREADS) attend(const number* __restrict__ queries,
    const number* __restrict__ keys, const number* __restrict__ values, const place_t* __restrict__ starts,
    const place_t* __restrict__ positions, number* __restrict__ out, float* __restrict__ parts, int heads, int pool,
    int splits, double scale)
{
    const int CHUNKS = (GROUP + MEMBERS - 1) / MEMBERS;
    const int row = blockIdx.x, key_head = blockIdx.y / CHUNKS, first_member = blockIdx.y % CHUNKS * MEMBERS;
    const int team = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int count = (int)positions[row] + 1, share = (count + splits - 1) / splits;
    const int begin = blockIdx.z * share, end = min(begin + share, count);
    const place_t base = ((place_t)key_head * pool + starts[row]) * SIZE + lane * NUMBERS;
    const place_t target = (place_t)row * heads + key_head * GROUP + first_member;
    float query[MEMBERS][NUMBERS], sums[MEMBERS][NUMBERS] = {}, highest[MEMBERS], total[MEMBERS] = {};
    #pragma unroll
    for (int member = 0; member < MEMBERS; member++) {
        numbers given;
        const bool there = first_member + member < GROUP;
        read(given, queries + (target + (there ? member : 0)) * SIZE + lane * NUMBERS);
        #pragma unroll
        for (int one = 0; one < NUMBERS; one++) query[member][one] = wide(given.of[one]) * (float)scale;
        highest[member] = LOWEST;
    }
    for (int first = begin; first < end; first += TEAMS * AHEAD) {  // the same for all lanes of a warp
        numbers key[AHEAD], value[AHEAD];
        #pragma unroll
        for (int ahead = 0; ahead < AHEAD; ahead++) {
            const int at = min(first + ahead * TEAMS + team, end - 1);
            read(key[ahead], keys + base + (place_t)at * SIZE);
            read(value[ahead], values + base + (place_t)at * SIZE);
        }
        #pragma unroll
        for (int member = 0; member < MEMBERS; member++) {
            float score[AHEAD], higher = highest[member];
            #pragma unroll
            for (int ahead = 0; ahead < AHEAD; ahead++) {
                float sum = 0;
                #pragma unroll
                for (int one = 0; one < NUMBERS; one++) sum += query[member][one] * wide(key[ahead].of[one]);
                sum = summed_over(sum, LANES);
                score[ahead] = first + ahead * TEAMS + team < end ? sum : LOWEST;
                higher = fmaxf(higher, score[ahead]);
            }
            const float before = __expf(highest[member] - higher);
            total[member] *= before;
            #pragma unroll
            for (int one = 0; one < NUMBERS; one++) sums[member][one] *= before;
            #pragma unroll
            for (int ahead = 0; ahead < AHEAD; ahead++) {
                const float portion = score[ahead] > LOWEST ? __expf(score[ahead] - higher) : 0;
                total[member] += portion;
                #pragma unroll
                for (int one = 0; one < NUMBERS; one++) sums[member][one] += portion * wide(value[ahead].of[one]);
            }
            highest[member] = higher;
        }
    }
    __shared__ float team_highest[TEAMS], team_total[TEAMS], team_sums[TEAMS][SIZE];
    for (int member = 0; member < MEMBERS && first_member + member < GROUP; member++) {
        #pragma unroll
        for (int other = 0; other < MEMBERS; other++)  // registers have no index
            if (other == member) {
                team_highest[team] = highest[other];
                team_total[team] = total[other];
                #pragma unroll
                for (int one = 0; one < NUMBERS; one++) team_sums[team][lane * NUMBERS + one] = sums[other][one];
            }
        __syncthreads();
        float top = LOWEST, whole = 0;
        for (int other = 0; other < TEAMS; other++) top = fmaxf(top, team_highest[other]);
        for (int other = 0; other < TEAMS; other++) whole += team_total[other] * __expf(team_highest[other] - top);
        for (int column = threadIdx.x; column < SIZE; column += THREADS) {
            float sum = 0;
            for (int other = 0; other < TEAMS; other++) sum += team_sums[other][column] * __expf(team_highest[other] - top);
            if (splits == 1) out[(target + member) * SIZE + column] = narrow(sum / whole);
            else parts[((target + member) * splits + blockIdx.z) * (SIZE + 2) + column] = sum;
        }
        if (splits > 1 && threadIdx.x == 0) {
            float* weights = parts + ((target + member) * splits + blockIdx.z) * (SIZE + 2) + SIZE;
            weights[0] = top;
            weights[1] = whole;
        }
        __syncthreads();
    }
}

// A block for a row's head: its parts of the tokens together.
extern "C" __global__ void join(const float* __restrict__ parts, number* __restrict__ out, int splits)
{
    const float* own = parts + (place_t)blockIdx.x * splits * (SIZE + 2);
    float top = LOWEST, whole = 0, sum = 0;
    for (int split = 0; split < splits; split++) top = fmaxf(top, own[split * (SIZE + 2) + SIZE]);
    for (int split = 0; split < splits; split++) {
        const float factor = __expf(own[split * (SIZE + 2) + SIZE] - top);
        whole += factor * own[split * (SIZE + 2) + SIZE + 1];
        sum += factor * own[split * (SIZE + 2) + threadIdx.x];
    }
    out[(place_t)blockIdx.x * SIZE + threadIdx.x] = narrow(sum / whole);
}

const int KEYS = 32, EACH = 4, QUERIES = THREADS / 32 * EACH;  // keys at once, queries of a warp, queries of a block
const int COLUMNS = (SIZE + 31) / 32;

// A block for some queries of a tile (`PromptBatch.tiles`) and a head; a lane has a key, then columns of the result.
extern "C" __global__ void __launch_bounds__(THREADS) attend_prompts(const number* __restrict__ queries,
    const number* __restrict__ keys, const number* __restrict__ values, const place_t* __restrict__ tiles,
    number* __restrict__ out, int heads, int pool, double scale)
{
    const int PADDED = SIZE + 4 / sizeof(number);  // neighbouring keys begin on different banks
    __shared__ number key[KEYS][PADDED], value[KEYS][SIZE];
    __shared__ float query[QUERIES][SIZE];
    __shared__ float4 portions[THREADS / 32][KEYS];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = blockIdx.y;
    const place_t* tile = tiles + 4 * blockIdx.x;
    const int many = (int)tile[1] - (int)blockIdx.z * QUERIES;
    if (many <= 0) return;
    const place_t first = tile[0] + blockIdx.z * QUERIES;
    const int position = (int)tile[3] + blockIdx.z * QUERIES;
    const place_t base = ((place_t)(head / GROUP) * pool + tile[2]) * SIZE;
    const int end = position + min(many, QUERIES);
    for (int at = threadIdx.x; at < QUERIES * SIZE; at += THREADS) {
        const int one = at / SIZE;
        query[one][at % SIZE] = one < many ? wide(queries[((first + one) * heads + head) * SIZE + at % SIZE]) * (float)scale : 0;
    }
    float sums[EACH][COLUMNS] = {}, highest[EACH], total[EACH] = {};
    for (int one = 0; one < EACH; one++) highest[one] = LOWEST;
    for (int begin = 0; begin < end; begin += KEYS) {
        __syncthreads();
        for (int at = threadIdx.x; at < KEYS * SIZE; at += THREADS) {
            const int one = at / SIZE;
            const place_t from = base + (place_t)min(begin + one, end - 1) * SIZE + at % SIZE;
            key[one][at % SIZE] = keys[from];
            value[one][at % SIZE] = values[from];
        }
        __syncthreads();
        float score[EACH] = {};
        #pragma unroll 8
        for (int column = 0; column < SIZE; column++) {
            const float given = wide(key[lane][column]);
            #pragma unroll
            for (int one = 0; one < EACH; one++) score[one] += query[warp * EACH + one][column] * given;
        }
        float portion[EACH];
        #pragma unroll
        for (int one = 0; one < EACH; one++) {
            const bool seen = begin + lane <= position + warp * EACH + one && begin + lane < end;
            float higher = seen ? score[one] : LOWEST;
            for (int step = 16; step; step /= 2) higher = fmaxf(higher, __shfl_xor_sync(~0u, higher, step));
            higher = fmaxf(higher, highest[one]);
            portion[one] = seen ? __expf(score[one] - higher) : 0;
            const float before = __expf(highest[one] - higher);
            total[one] = total[one] * before + summed_over(portion[one], 32);
            #pragma unroll
            for (int part = 0; part < COLUMNS; part++) sums[one][part] *= before;
            highest[one] = higher;
        }
        portions[warp][lane] = make_float4(portion[0], portion[1], portion[2], portion[3]);
        __syncwarp();
        #pragma unroll 4
        for (int one = 0; one < KEYS; one++) {
            const float4 weight = portions[warp][one];
            #pragma unroll
            for (int part = 0; part < COLUMNS; part++) {
                const float given = lane + 32 * part < SIZE ? wide(value[one][lane + 32 * part]) : 0;
                sums[0][part] += weight.x * given;
                sums[1][part] += weight.y * given;
                sums[2][part] += weight.z * given;
                sums[3][part] += weight.w * given;
            }
        }
    }
    for (int one = 0; one < EACH; one++)
        for (int part = 0; part < COLUMNS; part++)
            if (warp * EACH + one < many && lane + 32 * part < SIZE)
                out[((first + warp * EACH + one) * heads + head) * SIZE + lane + 32 * part] = narrow(sums[one][part] / total[one]);
}

extern "C" __global__ void gate(const number* __restrict__ projected, number* __restrict__ out, int stride, int inner)
{
    const int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= inner) return;
    const number* row = projected + (place_t)blockIdx.x * stride;
    const float given = wide(row[column]);
    out[(place_t)blockIdx.x * inner + column] = narrow(given / (1 + __expf(-given)) * wide(row[inner + column]));
}

// As `sampling.py`.
__device__ __forceinline__ bits64 mixed(bits64 state) {
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9ull;
    state = (state ^ state >> 27) * 0x94D049BB133111EBull;
    return state ^ state >> 31;
}

extern "C" __global__ void choose(const number* __restrict__ logits, const place_t* __restrict__ seeds,
    const place_t* __restrict__ positions, place_t* __restrict__ out, int stride, int vocabulary, double temperature)
{
    __shared__ double highest[32];
    __shared__ int tokens[32];
    const number* row = logits + (place_t)blockIdx.x * stride;
    const bits64 step = 0x9E3779B97F4A7C15ull;
    const bits64 start = temperature ? mixed(seeds[blockIdx.x] + (positions[blockIdx.x] + 1) * step) : 0;
    double best = -1.0 / 0.0;
    int token = vocabulary;
    auto take = [&](double score, int other) {
        if (score > best || (score == best && other < token)) best = score, token = other;
    };
    for (int column = threadIdx.x; column < vocabulary; column += blockDim.x) {
        double score = wide(row[column]);
        if (temperature) {
            const double uniform = ((double)(mixed(start + (column + 1) * step) >> 12) + 0.5) * 2.220446049250313e-16;
            score = score / temperature - log(-log(uniform));
        }
        take(score, column);
    }
    auto over_lanes = [&]() {
        for (int lanes = 16; lanes; lanes /= 2) {
            const double score = __shfl_xor_sync(~0u, best, lanes);
            take(score, __shfl_xor_sync(~0u, token, lanes));
        }
    };
    over_lanes();
    if (threadIdx.x % 32 == 0) highest[threadIdx.x / 32] = best, tokens[threadIdx.x / 32] = token;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    const bool there = threadIdx.x < blockDim.x / 32;
    best = there ? highest[threadIdx.x] : -1.0 / 0.0;
    token = there ? tokens[threadIdx.x] : vocabulary;
    over_lanes();
    if (threadIdx.x == 0) out[blockIdx.x] = min(token, vocabulary - 1);
}
