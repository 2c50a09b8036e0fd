// y = x W' of activations in 16 bit and weights in NF4, which are unpacked in registers on their way into the matrix
// units (Dettmers et al. 2023, section 3, for the format).
//
// A block of four warps takes 64 * SLABS rows of W and up to 8 * TILES rows of x along a part of the inner dimension,
// a slice of 128 at a time. Of a row's 128 weights four threads take 32 each, which lie together in memory: a sum may
// run in any order, so the matrix units get the inner dimension in the order in which threads hold it, x in the same.
// Both come through shared memory, DEEP slices ahead: weights for the thread that sent for them, x for all, in an order
// that keeps its readers on different banks. A weight is what bitsandbytes makes of it: the code's float times the
// block's float, rounded once. The code's sixteen floats stand in the lanes of the warp. Sums are float32; parts of the
// inner dimension are added by nf4_sum in their order.
//
// Before compute capability 8.0 nothing is copied past the registers: there they wait, one slice ahead.
//
// Given by options: TYPE ("bf16" or "f16"), SLABS, TILES, BLOCKS (at least so many on a multiprocessor).

typedef unsigned int word;

#if __CUDA_ARCH__ >= 800
#define COPIES 1
const int DEEP = 3;
#else
#define COPIES 0
const int DEEP = 2;
#endif
const int SLICE = 128, EIGHTS = SLICE / 8, THREADS = 128;

__device__ __forceinline__ word rounded(float first, float second) {
    word both;
#if COPIES
    asm("cvt.rn." TYPE "x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
#else
    asm("{.reg .b16 low, high; cvt.rn.f16.f32 low, %1; cvt.rn.f16.f32 high, %2; mov.b32 %0, {low, high};}"
        : "=r"(both) : "f"(first), "f"(second));
#endif
    return both;
}

__device__ __forceinline__ word weights(word packed, int byte, float code, float scale) {
    const float high = __shfl_sync(~0u, code, packed >> (8 * byte + 4));  // the lane is taken modulo 32,
    const float low = __shfl_sync(~0u, code, packed >> (8 * byte));       // and lanes 16 apart hold the same
    return rounded(high * scale, low * scale);
}

#if COPIES
__device__ __forceinline__ void multiply(float* sum, const word* a, word b0, word b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void copy(uint4* to, const void* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
        :: "r"((word)__cvta_generic_to_shared(to)), "l"(from), "r"(there ? 16 : 0));
}
#else
__device__ __forceinline__ void multiply(float* sum, const word* a, word b0, word b1) {
    #pragma unroll
    for (int half = 0; half < 2; half++)  // of the inner dimension
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
            : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(half ? b1 : b0));
}

__device__ __forceinline__ void copy(uint4* to, const void* from, bool there) {
    *to = there ? __ldg((const uint4*)from) : make_uint4(0, 0, 0, 0);
}
#endif

// Where eight numbers of x stand in a row of a slice: those that four neighbouring threads read lie together.
__device__ __forceinline__ int place(int token, int quarter, int part) {
    return token * EIGHTS + ((part * 4 + quarter) ^ (token % 2 * 4));
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) nf4_linear(
    const unsigned short* __restrict__ x, const uint4* __restrict__ packed, const float* __restrict__ scales,
    const float* __restrict__ code, void* __restrict__ out, int rows, int inner, int outer, int stride, int splits)
{
    extern __shared__ uint4 shared[];
    uint4 (*given)[8 * TILES * EIGHTS] = (uint4(*)[8 * TILES * EIGHTS])shared;
#if COPIES
    uint4 (*words)[SLABS * 2][THREADS] = (uint4(*)[SLABS * 2][THREADS])(shared + DEEP * 8 * TILES * EIGHTS);
    uint4 waiting[TILES];  // unused
#define WORDS(slice, line) words[(slice) % DEEP][line][threadIdx.x]
#else
    uint4 words[SLABS * 2], waiting[TILES];
#define WORDS(slice, line) words[line]
#endif
    const int lane = threadIdx.x % 32, group = lane / 4, quarter = lane % 4;
    const int first_row = (blockIdx.x * 4 + threadIdx.x / 32) * 16 * SLABS, first_token = blockIdx.z * 8 * TILES;
    const int slices = (inner + SLICE - 1) / SLICE;
    const int begin = slices * blockIdx.y / splits, end = slices * (blockIdx.y + 1) / splits;
    const float entry = code[lane % 16];
    float sums[SLABS][TILES][4] = {};
    float next[SLABS * 2];
    int block[SLABS * 2];  // of 64 weights: the first of each of the thread's rows
    #pragma unroll
    for (int line = 0; line < SLABS * 2; line++) block[line] = min(first_row + line * 8 + group, outer - 1) * (inner / 64) + quarter / 2;

    auto scale = [&](int slice) {
        #pragma unroll
        for (int line = 0; line < SLABS * 2; line++)
            next[line] = slice * SLICE + quarter * 32 < inner ? __ldg(scales + block[line] + slice * 2) : 0.f;
    };
    auto send = [&](int slice) {
        if (slice < end) {
            const bool there = slice * SLICE + quarter * 32 < inner;
            #pragma unroll
            for (int line = 0; line < SLABS * 2; line++)
                copy(&WORDS(slice, line), packed + (there ? 2 * (block[line] + slice * 2) + quarter % 2 : 0), there);
            #pragma unroll
            for (int turn = 0; turn < TILES; turn++) {
                const int token = turn * 8 + threadIdx.x / EIGHTS, eight = threadIdx.x % EIGHTS, at = slice * SLICE + eight * 8;
                const bool inside = first_token + token < rows && at < inner;
                const unsigned short* from = x + (inside ? (long long)(first_token + token) * stride + at : 0);
                copy(COPIES ? &given[slice % DEEP][place(token, eight / 4, eight % 4)] : &waiting[turn], from, inside);
            }
        }
#if COPIES
        asm volatile("cp.async.commit_group;");
#endif
    };

    if (begin < end) scale(begin);
    #pragma unroll
    for (int ahead = 0; ahead < DEEP - 1; ahead++) send(begin + ahead);
    for (int slice = begin; slice < end; slice++) {
#if COPIES
        asm volatile("cp.async.wait_group %0;" :: "n"(DEEP - 2) : "memory");
#else
        #pragma unroll
        for (int turn = 0; turn < TILES; turn++)
            given[slice % DEEP][place(turn * 8 + threadIdx.x / EIGHTS, threadIdx.x % EIGHTS / 4, threadIdx.x % 4)] = waiting[turn];
#endif
        __syncthreads();
        uint4 now[SLABS * 2];
        float factor[SLABS * 2];
        #pragma unroll
        for (int line = 0; line < SLABS * 2; line++) {
            now[line] = WORDS(slice, line);
            factor[line] = next[line];
        }
        send(slice + DEEP - 1);
        if (slice + 1 < end) scale(slice + 1);
        #pragma unroll
        for (int part = 0; part < 4; part++) {  // eight weights of a thread stand in one word
            uint4 side[TILES];
            #pragma unroll
            for (int tile = 0; tile < TILES; tile++) side[tile] = given[slice % DEEP][place(tile * 8 + group, quarter, part)];
            #pragma unroll
            for (int slab = 0; slab < SLABS; slab++) {
                const word upper = (&now[slab * 2].x)[part], lower = (&now[slab * 2 + 1].x)[part];
                const float above = factor[slab * 2], below = factor[slab * 2 + 1];
                const word left[4] = {weights(upper, 0, entry, above), weights(lower, 0, entry, below),
                                      weights(upper, 1, entry, above), weights(lower, 1, entry, below)};
                #pragma unroll
                for (int tile = 0; tile < TILES; tile++) multiply(sums[slab][tile], left, side[tile].x, side[tile].y);
                const word right[4] = {weights(upper, 2, entry, above), weights(lower, 2, entry, below),
                                       weights(upper, 3, entry, above), weights(lower, 3, entry, below)};
                #pragma unroll
                for (int tile = 0; tile < TILES; tile++) multiply(sums[slab][tile], right, side[tile].z, side[tile].w);
            }
        }
    }
    #pragma unroll
    for (int slab = 0; slab < SLABS; slab++)
        #pragma unroll
        for (int tile = 0; tile < TILES; tile++)
            #pragma unroll
            for (int one = 0; one < 4; one++) {
                const int line = first_row + slab * 16 + one / 2 * 8 + group;
                const int token = first_token + tile * 8 + quarter * 2 + one % 2;
                if (line >= outer || token >= rows) continue;
                const float sum = sums[slab][tile][one];
                if (splits == 1) ((unsigned short*)out)[(long long)token * outer + line] = rounded(sum, 0.f);
                else ((float*)out)[((long long)blockIdx.y * rows + token) * outer + line] = sum;
            }
}

// Adds up what the parts of the inner dimension gave, always in the same order.
extern "C" __global__ void nf4_sum(
    const float* __restrict__ parts, unsigned short* __restrict__ out, int total, int splits)
{
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    float sum = parts[at];
    for (int split = 1; split < splits; split++) sum += parts[(long long)split * total + at];
    out[at] = rounded(sum, 0.f);
}
