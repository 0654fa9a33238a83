// Stands in for the executor's file until both are together.
#include <cmath>
#include <cstring>
#include "op.h"
namespace hscc {
std::vector<float> read_floats(const Tensor& t) {
    std::vector<float> v(t.count);
    for (size_t i = 0; i < t.count; i++) {
        if (t.dtype == DType::f32) { std::memcpy(&v[i], t.data + 4 * i, 4); continue; }
        uint16_t h; std::memcpy(&h, t.data + 2 * i, 2);
        uint32_t bits = uint32_t(h) << 16;
        if (t.dtype == DType::bf16) { std::memcpy(&v[i], &bits, 4); continue; }
        const int e = h >> 10 & 31; const float m = float(h & 1023);
        const float x = e ? std::ldexp(1 + m / 1024, e - 15) : std::ldexp(m, -24);
        v[i] = h & 0x8000 ? -x : x;
    }
    return v;
}
void activate(int act, float a, float b, float* x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float v = x[i];
        if (act == 1) v = v < 0 ? 0 : v;
        if (act == 2) v = v < a ? a : v > b ? b : v;
        if (act == 3) v = v < 0 ? a * v : v;
        if (act == 4) v = 1 / (1 + std::exp(-v));
        x[i] = v;
    }
}
}
