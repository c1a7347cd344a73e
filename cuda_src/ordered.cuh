#pragma once
// Numbers as unsigned integers of the same order.

#include "common.cuh"

template <bool> struct PickKey { typedef unsigned type; };
template <> struct PickKey<true> { typedef uint64 type; };

template <typename X> struct Ordered {
    typedef typename PickKey<sizeof(X) == 8>::type Key;
    static constexpr X low = (X)-1 < (X)1 ? (X)((X)1 << (sizeof(X) * 8 - 1)) : (X)0;
    static __device__ __forceinline__ Key of(X x) { return (Key)x - (Key)low; }
    static __device__ __forceinline__ X back(Key key) { return (X)(key + (Key)low); }
    static constexpr bool has_nan = false;
    static __device__ __forceinline__ bool nan(X) { return false; }
    static __device__ __forceinline__ X not_a_number() { return 0; }
};
template <> struct Ordered<float> {
    typedef unsigned Key;
    static __device__ __forceinline__ Key of(float x) {
        const unsigned bits = __float_as_uint(x);
        return bits >> 31 ? ~bits : bits | 0x80000000u;
    }
    static __device__ __forceinline__ float back(Key key) {
        return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
    }
    static constexpr bool has_nan = true;
    static __device__ __forceinline__ bool nan(float x) { return x != x; }
    static __device__ __forceinline__ float not_a_number() { return __uint_as_float(0x7fc00000u); }
};
template <> struct Ordered<double> {
    typedef uint64 Key;
    static __device__ __forceinline__ Key of(double x) {
        const uint64 bits = __double_as_longlong(x);
        return bits >> 63 ? ~bits : bits | 1ull << 63;
    }
    static __device__ __forceinline__ double back(Key key) {
        return __longlong_as_double(key >> 63 ? key & ~(1ull << 63) : ~key);
    }
    static constexpr bool has_nan = true;
    static __device__ __forceinline__ bool nan(double x) { return x != x; }
    static __device__ __forceinline__ double not_a_number() {
        return __longlong_as_double(0x7ff8000000000000ll);
    }
};
template <typename X> struct OrderedHalf : Ordered<float> {
    static __device__ __forceinline__ Key of(X x) { return Ordered<float>::of(widen<float>(x)); }
    static __device__ __forceinline__ X back(Key key) {
        return Narrow<X>::of(Ordered<float>::back(key));
    }
    static __device__ __forceinline__ bool nan(X x) { return Ordered<float>::nan(widen<float>(x)); }
    static __device__ __forceinline__ X not_a_number() { return of_bits<X>(0x7fff); }
};
template <> struct Ordered<__half> : OrderedHalf<__half> {};
template <> struct Ordered<__nv_bfloat16> : OrderedHalf<__nv_bfloat16> {};
