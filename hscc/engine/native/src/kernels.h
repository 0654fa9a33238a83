// What the kernels of one instruction set offer. No std:: here: the kernel files compile this under their own target,
// and a template instantiated there could be the copy that the linker keeps for all.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace hscc {

constexpr int MOST_VECTORS = 3;     // vectors of outputs in one panel
constexpr int MOST_POSITIONS = 10;  // positions in one register tile
constexpr size_t WEIGHTS_SLACK = 4096; // bytes behind packed weights that a prefetch may name

enum class Format : int { f32 = 0, f16 = 1, bf16 = 2 };

// Packed weights of up to MOST_VECTORS vectors of outputs, [k][vectors * width], and what they are multiplied with.
struct Panel {
    const void* weights;
    Format format;
    const int32_t* offsets;  // of each of the k inputs, from where a position's patch begins
    int k;
    int vectors;
    int valid;               // outputs that exist; the others are zero weights
    int input;               // added to all offsets
    int output;              // first output channel
    const float* bias;       // of the first output, whole vectors; null: zero
};

// Some positions, and where they read and write.
struct Block {
    int positions;
    const float* const* in;
    float* const* out;
    const float* const* residual;  // null: none
    bool whole_vectors;            // `out` has room for whole vectors: no masks
    bool clip;                     // outputs are cut to low .. high
    float low, high;
};

// Positions of one row of a depthwise convolution which all have the same taps.
struct DepthwiseRow {
    const float* in;         // first tap's position of the first output
    int64_t in_stride;       // numbers from one output position to the next
    float* out;
    const float* residual;   // null: none
    int channels;            // also the numbers from one output position to the next
    int positions;
    int taps;
    const int32_t* offsets;  // of each tap
    const int32_t* indices;  // of each tap in the weights
    const float* weights;    // [tap][padded], padded: channels rounded up to whole vectors
    int padded;
    const float* bias;
    bool clip;
    float low, high;
};

// As Panel, of 8-bit integers: [fours][vectors * width][4].
struct BytePanel {
    const int8_t* weights;
    const int32_t* offsets;  // of the first of each four inputs that lie side by side, in bytes from where a patch begins
    int fours;
    int vectors;
    int valid;
    int input;
    int output;
    const int32_t* start;    // of the sums, whole vectors: what the inputs' zero point adds is taken off here
    const float* scale;      // of the sums, whole vectors
    const float* bias;       // whole vectors; read where numbers are written
};

// As Block; writes bytes for the next product, or numbers.
struct ByteBlock {
    int positions;
    const uint8_t* const* in;
    uint8_t* const* bytes;         // null: numbers are written
    int zero;                      // zero point of the bytes
    bool whole_vectors;            // `bytes` has room for whole vectors
    float* const* out;
    const float* const* residual;
    bool clip;
    float low, high;
};

struct Kernels {
    const char* name;
    int width;  // numbers in a vector
    void (*multiply)(const Panel&, const Block&);
    void (*depthwise)(const DepthwiseRow&);
    // Each of n positions times a small matrix [outputs][channels].
    void (*mix)(const float* in, int channels, const float* weights, float* out, int out_stride, int outputs, int n);
    void (*multiply_bytes)(const BytePanel&, const ByteBlock&);
    // out[i] = x[i] / scale, rounded half to even, plus zero, cut to 0..255.
    void (*quantise)(const float* x, float scale, int zero, uint8_t* out, ptrdiff_t n);
};

// Null where the file was compiled for another machine.
const Kernels* kernels_vnni();
const Kernels* kernels_avx512();
const Kernels* kernels_avx2();
const Kernels* kernels_portable();

// The best that this processor runs, or what the environment's HSCC_ENGINE_ISA names.
const Kernels& kernels();

}  // namespace hscc
