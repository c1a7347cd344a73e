"""Run the CUDA kernels on a machine without a GPU: compiled by g++, one thread to a block.

Loops stride over block and grid and phases end in __syncthreads(), so one thread does the work of
a block, and half of the blocks, one after another, that of the grid. This executes the very text of
cuda_src with the undefined-behaviour sanitizer on, which makes wrong logic and wrong parameters
fail on any machine. It says nothing of races.
"""

import ctypes
import functools
import hashlib
import re
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from robocache_cupy._core.kernel import Kernel, source

CUDA_AS_CPP = r"""
#include <algorithm>
#include <cmath>
#include <cstring>
using std::fma;
using std::max;
using std::min;
using std::rint;
using std::sqrt;
#define __global__
#define __device__
#define __forceinline__ inline
#define __builtin_assume(x)
#define __launch_bounds__(...)
static int most_threads = 1024;
static inline void bounded_by(int threads, int = 0) { most_threads = threads; }
#define __shared__ static
#define __grid_constant__
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
static struct { unsigned x, y, z; } blockIdx{0, 0, 0}, threadIdx{0, 0, 0};
static struct { unsigned x, y, z; } blockDim{1, 1, 1}, gridDim{1, 1, 1};
static inline void __syncthreads() {}
static inline void __syncwarp() {}
template <typename T> static T __ldg(const T* p) { T x; std::memcpy(&x, p, sizeof(T)); return x; }
template <typename T> static void __stcs(T* p, T x) { std::memcpy(p, &x, sizeof(T)); }
template <typename T> static T atomicAdd(T* p, T x) { T old = *p; *p = old + x; return old; }
template <typename T> static T atomicOr(T* p, T x) { T old = *p; *p = old | x; return old; }
static inline float __fdividef(float x, float y) { return x / y; }
static inline int __float2int_rz(float x) {
    const float limit = 2147483648.0f;
    return x != x ? 0 : x >= limit ? 2147483647 : x < -limit ? -2147483647 - 1 : (int)x;
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
template <typename To, typename From> static To of_same_bits(From x) {
    To y;
    static_assert(sizeof(x) == sizeof(y));
    std::memcpy(&y, &x, sizeof(y));
    return y;
}
static inline unsigned __float_as_uint(float x) { return of_same_bits<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return of_same_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return of_same_bits<long long>(x); }
static inline float __fadd_rz(float x, float y) {
    const double sum = (double)x + (double)y;
    const float near = (float)sum;
    return std::fabs((double)near) > std::fabs(sum) ? std::nextafterf(near, 0.0f) : near;
}
static inline float __fadd_rd(float x, float y) {
    const double sum = (double)x + (double)y;
    const float near = (float)sum;
    return (double)near > sum ? std::nextafterf(near, -INFINITY) : near;
}
static inline double __longlong_as_double(long long x) { return of_same_bits<double>(x); }
template <typename T> static T atomicMin(T* p, T x) { T old = *p; if (x < old) *p = x; return old; }
template <typename T> static T atomicMax(T* p, T x) { T old = *p; if (x > old) *p = x; return old; }

// The 16-bit floats, value by value as the CUDA headers define them.
struct __half { unsigned short bits; };
struct __nv_bfloat16 { unsigned short bits; };
static inline double scaled(double x, int exponent, int digits) {  // x to so many digits
    const double unit = std::ldexp(1.0, exponent - digits + 1);
    return std::nearbyint(x / unit) * unit;
}
static inline unsigned short narrowed(double x, int digits, int bias) {
    const int fraction = digits - 1;
    const unsigned sign = std::signbit(x) ? 0x8000 : 0, infinity = (2 * bias + 1) << fraction;
    if (std::isnan(x)) return 0x7fff;
    int exponent = x == 0 || std::isinf(x) ? 1 - bias : std::ilogb(x);
    if (exponent < 1 - bias) exponent = 1 - bias;
    const double y = std::isinf(x) ? x : scaled(std::fabs(x), exponent, digits);
    if (std::fabs(y) >= std::ldexp(1.0, bias + 1)) return sign | infinity;
    const long long units = (long long)std::ldexp(y, fraction - exponent);
    return sign | (((unsigned)(exponent + bias - 1) << fraction) + (unsigned)units);
}
static inline double widened(unsigned short bits, int digits, int bias) {
    const int fraction = digits - 1;
    const int exponent = (bits & 0x7fff) >> fraction, rest = bits & ((1 << fraction) - 1);
    double x = exponent == 2 * bias + 1 ? (rest ? NAN : INFINITY)
             : exponent == 0 ? std::ldexp((double)rest, 1 - bias - fraction)
             : std::ldexp((double)(rest + (1 << fraction)), exponent - bias - fraction);
    return bits & 0x8000 ? -x : x;
}
static inline float __half2float(__half x) { return (float)widened(x.bits, 11, 15); }
static inline float __bfloat162float(__nv_bfloat16 x) { return (float)widened(x.bits, 8, 127); }
static inline __half __float2half_rn(float x) { return {narrowed(x, 11, 15)}; }
static inline __half __double2half(double x) { return {narrowed(x, 11, 15)}; }
static inline __nv_bfloat16 __float2bfloat16_rn(float x) { return {narrowed(x, 8, 127)}; }
static inline __nv_bfloat16 __double2bfloat16(double x) { return {narrowed(x, 8, 127)}; }
"""

ENTRY = """
template <auto kernel> struct Grid;
template <typename... A, void (*kernel)(A...)> struct Grid<kernel> {
    static int run(long long blocks, A... args) {
        gridDim.x = blocks;
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) kernel(args...);
        return most_threads;
    }
};
extern "C" { void* entry = (void*)&Grid<&EXPRESSION>::run; }
"""

FLAGS = ["-std=c++17", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover", "-shared", "-fPIC",
         "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Werror",
         "-Wno-unknown-pragmas"]  # fmt: skip


def told_bounds(text: str) -> str:
    """Kernels that tell their launch bounds, before they first wait for the stream.

    >>> told_bounds("__launch_bounds__(f(2), 4) k(int n) { wait_for_stream(); }")
    '__launch_bounds__(f(2), 4) k(int n) { bounded_by(f(2), 4); wait_for_stream(); }'
    """
    bounds = r"__launch_bounds__(\((?:[^()]|\([^()]*\))*\))((?:(?!__launch_bounds__)[\s\S])*?)"
    told, count = re.subn(
        rf"{bounds}wait_for_stream\(\);",
        r"__launch_bounds__\1\2bounded_by\1; wait_for_stream();",
        text,
    )
    assert count == text.count("__launch_bounds__(")  # or a launch would go unchecked
    return told


@functools.cache
def _compile(module: str, expression: str):
    text = told_bounds(re.sub("#include <cuda_.*>", "", source(module)))
    text = f"{CUDA_AS_CPP}{text}\n{ENTRY.replace('EXPRESSION', expression)}"
    key = hashlib.sha256("\0".join([text, *FLAGS]).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / "robocache-host-cuda"
    library = folder / f"{key}.so"
    if not library.exists():
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            cpp, so = Path(scratch) / "kernel.cpp", Path(scratch) / "kernel.so"
            cpp.write_text(text)
            subprocess.run(["g++", *FLAGS, str(cpp), "-o", str(so)], check=True)
            so.rename(library)  # whole or not at all, for other test processes
    loaded = ctypes.CDLL(str(library))
    return ctypes.c_void_p.in_dll(loaded, "entry").value, loaded


ONE_GRID = threading.Lock()  # blockIdx and shared memory are static: threads take turns


def on_host(kernel: Kernel, launch, args) -> None:
    """In the place of Kernel.on_host."""
    assert launch.types in kernel.types  # or no test would compile it for a GPU
    entry, _ = _compile(kernel.module, kernel.expression(launch.types))
    blocks = (launch.blocks + 1) // 2  # a grid may be smaller than its work
    if kernel.table is not None:  # one struct, by value
        packed = struct.pack(f"<{len(launch.arrays)}Q{kernel.table(launch.types)}", *args)
        table = (ctypes.c_uint64 * (len(packed) // 8)).from_buffer_copy(packed)
        by_value = type("Table", (ctypes.Structure,), {"_fields_": [("words", type(table))]})
        types, args = [by_value], [by_value(table)]
    else:
        types = [ctypes.c_void_p] * len(launch.arrays)
        types += [
            ctypes.c_double if type(a) is float else ctypes.c_longlong for a in args[len(types) :]
        ]
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_longlong, *types)(entry)
    with ONE_GRID:
        most_threads = function(blocks, *args)
    assert launch.threads <= most_threads
