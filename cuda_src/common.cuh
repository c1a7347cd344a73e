#pragma once
// Shared by all kernels.
//
// Loops stride over the block and the grid, and phases are separated by __syncthreads(), so every
// kernel is right for any block size, one thread included. Integers are 64 bits wide wherever a
// tensor may outgrow 32.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef long long int64;
typedef unsigned long long uint64;

// The first thing a kernel does. It may be launched when the blocks of the one before it in the stream
// end (programmatic dependent launch, Hopper and later), and is then in place when that one's memory
// is: 0.4 to 0.7 us of each kernel. What is read before the wait may be old, also what kernels further
// back have written: nothing makes sure that an L1 cache has dropped it.
__device__ __forceinline__ void wait_for_stream() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// ------------------------------------------------------------------------------------ arithmetic

// The type that is computed with between stored types X and Y: double where one of them holds more
// than a float does.
template <typename T> struct Wide { static constexpr bool value = false; };
template <> struct Wide<double> { static constexpr bool value = true; };
template <> struct Wide<int> { static constexpr bool value = true; };
template <> struct Wide<unsigned int> { static constexpr bool value = true; };
template <> struct Wide<int64> { static constexpr bool value = true; };
template <> struct Wide<uint64> { static constexpr bool value = true; };

template <bool> struct Pick { typedef float type; };
template <> struct Pick<true> { typedef double type; };
template <typename X, typename Y>
using Computed = typename Pick<Wide<X>::value || Wide<Y>::value>::type;

template <typename C, typename X> __device__ __forceinline__ C widen(X x) { return (C)x; }
template <typename C> __device__ __forceinline__ C widen(__half x) { return (C)__half2float(x); }
template <typename C> __device__ __forceinline__ C widen(__nv_bfloat16 x) {
    return (C)__bfloat162float(x);
}

// A computed number as a stored one: rounded once to nearest even; integers keep to their range.
template <typename Y> struct Narrow;
template <> struct Narrow<double> {
    static __device__ __forceinline__ double of(double x) { return x; }
};
template <> struct Narrow<float> {
    static __device__ __forceinline__ float of(float x) { return x; }
    static __device__ __forceinline__ float of(double x) { return (float)x; }
};
template <> struct Narrow<__half> {
    static __device__ __forceinline__ __half of(float x) { return __float2half_rn(x); }
    static __device__ __forceinline__ __half of(double x) { return __double2half(x); }
};
template <> struct Narrow<__nv_bfloat16> {
    static __device__ __forceinline__ __nv_bfloat16 of(float x) { return __float2bfloat16_rn(x); }
    static __device__ __forceinline__ __nv_bfloat16 of(double x) { return __double2bfloat16(x); }
};
template <> struct Narrow<bool> {
    template <typename C> static __device__ __forceinline__ bool of(C x) { return x != 0; }
};
template <typename Y> struct Narrow {
    template <typename C> static __device__ __forceinline__ Y of(C x) {
        constexpr bool is_signed = (Y)-1 < (Y)1;
        constexpr Y high = is_signed ? (Y)((((Y)1 << (sizeof(Y) * 8 - 2)) - 1) * 2 + 1) : (Y)-1;
        constexpr Y low = is_signed ? (Y)(-high - 1) : (Y)0;
        const double above = is_signed ? -(double)low : 2.0 * (double)((Y)1 << (sizeof(Y) * 8 - 1));
        const double r = rint((double)x);
        if (r >= above) return high;
        if (r > (double)low) return (Y)r;
        return r == r ? low : (Y)0;
    }
};

template <typename Y> __device__ __forceinline__ Y of_bits(int64 bits) {
    Y y;
    memcpy(&y, &bits, sizeof(Y));  // little-endian, as every CUDA host and device is
    return y;
}
template <> __device__ __forceinline__ bool of_bits<bool>(int64 bits) { return bits != 0; }

// ---------------------------------------------------------------------------------- wide accesses

// N elements that move in one access of up to 16 bytes.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

template <int BYTES> struct Word;
template <> struct Word<16> { typedef uint4 type; };
template <> struct Word<8> { typedef uint2 type; };
template <> struct Word<4> { typedef unsigned int type; };
template <> struct Word<2> { typedef unsigned short type; };
template <> struct Word<1> { typedef unsigned char type; };

// A pack as one word.
template <typename T, int N> using Raw = typename Word<sizeof(T) * N>::type;

template <typename T, int N> __device__ __forceinline__ Raw<T, N> load_raw(const T* p) {
    return __ldg((const Raw<T, N>*)p);
}
// Streaming: a result is not read again here, and the samples should stay in the cache.
template <typename T, int N> __device__ __forceinline__ void store_raw(T* p, Raw<T, N> raw) {
    __stcs((Raw<T, N>*)p, raw);
}

template <typename T, int N> __device__ __forceinline__ Pack<T, N> load_pack(const T* p) {
    const Raw<T, N> raw = load_raw<T, N>(p);
    Pack<T, N> pack;
    memcpy(&pack, &raw, sizeof(pack));
    return pack;
}
template <typename T, int N> __device__ __forceinline__ void store_pack(T* p, const Pack<T, N>& v) {
    Raw<T, N> raw;
    memcpy(&raw, &v, sizeof(raw));
    store_raw<T, N>(p, raw);
}

// Asks for a line to be brought to the cache.
constexpr int LINE_BYTES = 128;
__device__ __forceinline__ void fetch_line(const void* p) {
#ifdef __CUDA_ARCH__
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
#endif
}

// The numbers of a pack as it was loaded. Elements of 16 bits go by twos, as the hardware has them:
// one by one, half of the instructions of a blend would only take words apart.
template <typename X, typename C, int V> struct Paired { static constexpr bool value = false; };
#ifdef __CUDA_ARCH__
template <int V> struct Paired<__half, float, V> { static constexpr bool value = V % 2 == 0; };
template <int V> struct Paired<__nv_bfloat16, float, V> {
    static constexpr bool value = V % 2 == 0;
};
#endif
template <typename X> struct Pair {};
template <> struct Pair<__half> {
    static __device__ __forceinline__ void widen(unsigned word, float& a, float& b) {
#ifdef __CUDA_ARCH__
        __half2 pair;
        memcpy(&pair, &word, 4);
        const float2 both = __half22float2(pair);
        a = both.x;
        b = both.y;
#endif
    }
    static __device__ __forceinline__ unsigned narrow(float a, float b) {
        unsigned word = 0;
#ifdef __CUDA_ARCH__
        const __half2 pair = __floats2half2_rn(a, b);
        memcpy(&word, &pair, 4);
#endif
        return word;
    }
};
template <> struct Pair<__nv_bfloat16> {
    static __device__ __forceinline__ void widen(unsigned word, float& a, float& b) {
        a = __uint_as_float(word << 16);
        b = __uint_as_float(word & 0xffff0000u);
    }
    static __device__ __forceinline__ unsigned narrow(float a, float b) {
        unsigned word = 0;
#ifdef __CUDA_ARCH__
        const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
        memcpy(&word, &pair, 4);
#endif
        return word;
    }
};

template <typename X, int V, typename C>
__device__ __forceinline__ void widen_raw(const Raw<X, V>& raw, C* numbers) {
    if constexpr (Paired<X, C, V>::value) {
        unsigned words[V / 2];
        memcpy(words, &raw, sizeof(raw));
#pragma unroll
        for (int k = 0; k < V / 2; ++k)
            Pair<X>::widen(words[k], numbers[2 * k], numbers[2 * k + 1]);
    } else {
        Pack<X, V> pack;
        memcpy(&pack, &raw, sizeof(raw));
#pragma unroll
        for (int v = 0; v < V; ++v) numbers[v] = widen<C>(pack.at[v]);
    }
}
template <typename Y, int V, typename C>
__device__ __forceinline__ Raw<Y, V> narrow_raw(const C* numbers) {
    Raw<Y, V> raw;
    if constexpr (Paired<Y, C, V>::value) {
        unsigned words[V / 2];
#pragma unroll
        for (int k = 0; k < V / 2; ++k)
            words[k] = Pair<Y>::narrow(numbers[2 * k], numbers[2 * k + 1]);
        memcpy(&raw, words, sizeof(raw));
    } else {
        Pack<Y, V> pack;
#pragma unroll
        for (int v = 0; v < V; ++v) pack.at[v] = Narrow<Y>::of(numbers[v]);
        memcpy(&raw, &pack, sizeof(raw));
    }
    return raw;
}

// Of numbers that are not negative. A 64-bit division takes a hundred instructions.
__device__ __forceinline__ int64 quotient(int64 x, int64 y) {
    return (x | y) >> 32 ? x / y : (unsigned)x / (unsigned)y;
}

// Which of the rows that a block moves at once a thread is in, where a row has so many packs. What is
// divided is small, so that a division of floats is exact.
struct Rows {
    int at_once, row;

    __device__ __forceinline__ explicit Rows(int packs) {
        const int width = (int)blockDim.x;
        at_once = packs < width ? width / packs : 1;
        row = packs < width ? (int)__fdividef((float)threadIdx.x + 0.5f, (float)packs) : 0;
    }
};

// ----------------------------------------------------------------------------------------- numbers

// Element i of an array of int32 or int64 (W int64), or float or double (W double), of 4 or 8
// bytes `width`.
template <typename W> __device__ __forceinline__ W load(const void* p, int64 width, int64 i);
template <> __device__ __forceinline__ int64 load<int64>(const void* p, int64 width, int64 i) {
    return width == 8 ? __ldg((const int64*)p + i) : __ldg((const int*)p + i);
}
template <> __device__ __forceinline__ double load<double>(const void* p, int64 width, int64 i) {
    return width == 8 ? __ldg((const double*)p + i) : __ldg((const float*)p + i);
}

__device__ __forceinline__ int64 clamp(int64 x, int64 low, int64 high) {
    return x < low ? low : x > high ? high : x;
}
