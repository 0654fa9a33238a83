#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,prfchw"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,prfchw")
#endif

#define WIDTH 8
#define REGISTERS 16
#define MASKED_STORE
#define NATIVE_F16

namespace hscc {
namespace {
static inline __attribute__((always_inline)) __m256i first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline __attribute__((always_inline)) void store_some(float* p, __m256 v, int n) {
    _mm256_maskstore_ps(p, first_lanes(n), v);
}
static inline __attribute__((always_inline)) __m256 load_some(const float* p, int n) {
    return _mm256_maskload_ps(p, first_lanes(n));
}
static inline __attribute__((always_inline)) __m256 load_f16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static inline __attribute__((always_inline)) long long narrow(__m256i v) {
    const __m128i shorts = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return _mm_cvtsi128_si64(_mm_packus_epi16(shorts, shorts));
}
}  // namespace
#define DOT_PAIRS(x, w) reinterpret_cast<Ints>(_mm256_madd_epi16(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w)))
#define NARROW(v) reinterpret_cast<Bytes>(narrow(reinterpret_cast<__m256i>(v)))
#include "vectors.inc"
#include "kernels.inc"
#include "kernels8.inc"

const Kernels* kernels_avx2() {
    static const Kernels table = {"avx2", WIDTH, multiply, depthwise, mix, multiply_bytes, quantise};
    return &table;
}
}  // namespace hscc

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
namespace hscc {
const Kernels* kernels_avx2() { return nullptr; }
}  // namespace hscc
#endif
