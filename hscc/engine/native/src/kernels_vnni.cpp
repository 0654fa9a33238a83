// AVX-512 with dot products of bytes; numbers of float32 have the kernels of AVX-512.
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,prfchw"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,prfchw")
#endif

#include "avx512.inc"

namespace hscc {
#define DOT_BYTES(sum, x, w) \
    reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)))
#include "vectors.inc"
#include "kernels8.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

// Runs on any processor: behind the pragma.
const Kernels* kernels_vnni() {
    static const Kernels table = [] {
        Kernels k = *kernels_avx512();
        k.name = "avx512vnni";
        k.multiply_bytes = multiply_bytes;
        k.quantise = quantise;
        return k;
    }();
    return &table;
}
}  // namespace hscc
#else
namespace hscc {
const Kernels* kernels_vnni() { return nullptr; }
}  // namespace hscc
#endif
