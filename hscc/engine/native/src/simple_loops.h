// The inner loops of the simple operations, compiled once per instruction set from simple_loops.inc.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace hscc {

// A box of places inside a value: counts and distances (in numbers) along depth, rows and columns.
struct Box {
    int64_t count[3], step[3];
};

struct Loops {
    // See op.h.
    void (*activate)(int act, float a, float b, float* x, size_t n);
    // out[c] = largest x[place + c] of the box's places, for c < n.
    void (*box_max)(const float* x, const Box& box, int64_t n, float* out);
    // out[c] = factor * sum of x[place + c] over the box's places, for c < n.
    void (*box_sum)(const float* x, const Box& box, int64_t n, float factor, float* out);
    // out[i] = a[i] (which) b[i * b_step]; b_step is 0 or 1; out may be a or b.
    void (*binary)(int which, const float* a, const float* b, int64_t b_step, float* out, int64_t n);
    // out[i] = x[i] * scale[i] + shift[i]; out may be x.
    void (*affine)(const float* x, const float* scale, const float* shift, float* out, int64_t n);
    // out[c] = sum over k < taps of weights[k] * x[k][c].
    void (*blend)(const float* const* x, const float* weights, int taps, float* out, int64_t n);
    // exp(x) over its sum; out may be x.
    void (*softmax)(const float* x, float* out, int64_t n);
    // (x - mean) / sqrt(variance + eps) * weight + bias; out may be x.
    void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, float* out, int64_t n);
    // mean[c] and squares[c] (of the deviations from it, summed) of x[p * n + c] over p < rows.
    void (*moments)(const float* x, int64_t rows, int64_t n, float* mean, float* squares);
    // out[i] = x[index[i]].
    void (*gather)(const float* x, const int32_t* index, float* out, int64_t n);
    // out[j * out_step + i] = x[i * x_step + j] for i < rows, j < columns.
    void (*transpose)(const float* x, int64_t x_step, int64_t rows, int64_t columns, float* out, int64_t out_step);
};

extern const Loops portable_loops;
#if defined(__x86_64__)
extern const Loops avx2_loops, avx512_loops;
#endif

// Those of this processor's instruction set.
const Loops& loops();

}  // namespace hscc
