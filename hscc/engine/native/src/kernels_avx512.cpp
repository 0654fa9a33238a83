#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prfchw"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prfchw")
#endif

#include "avx512.inc"
#define NATIVE_F16

namespace hscc {
namespace {
static inline __attribute__((always_inline)) __m512 load_f16(const uint16_t* p) {
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
}  // namespace
#define DOT_PAIRS(x, w) reinterpret_cast<Ints>(_mm512_madd_epi16(reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)))
#include "vectors.inc"
#include "kernels.inc"
#include "kernels8.inc"

const Kernels* kernels_avx512() {
    static const Kernels table = {"avx512", WIDTH, multiply, depthwise, mix, multiply_bytes, quantise};
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
const Kernels* kernels_avx512() { return nullptr; }
}  // namespace hscc
#endif
