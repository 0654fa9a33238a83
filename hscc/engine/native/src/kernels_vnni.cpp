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

#define WIDTH 16
#define REGISTERS 32
#define MASKED_STORE

namespace hscc {
namespace {
static inline __attribute__((always_inline)) void store_some(float* p, __m512 v, int n) {
    _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), v);
}
static inline __attribute__((always_inline)) __m512 load_some(const float* p, int n) {
    return _mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
}
}  // namespace
#define DOT_BYTES(sum, x, w) \
    reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)))
#define NARROW(v) reinterpret_cast<Bytes>(_mm512_maskz_cvtepi32_epi8(0xffff, reinterpret_cast<__m512i>(v)))
#define STORE_SOME_BYTES(p, v, n) _mm_mask_storeu_epi8(p, __mmask16((1u << (n)) - 1), reinterpret_cast<__m128i>(v))
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
