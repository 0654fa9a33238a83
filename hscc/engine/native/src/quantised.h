// Matrices of 8-bit integers, and the numbers that say what the integers stand for.
#pragma once

#include "pack.h"

namespace hscc {

// Bytes between two products: real = scale * (byte - zero).
struct Stage {
    float scale = 1;
    int zero = 0;
};

// The stage whose two numbers are the record's floats 2 * place and 2 * place + 1.
Stage stage_of(const char* operation, const Record&, size_t place);

// A matrix outputs x k of signed bytes with a scale per output, in panels.
class BytePacked {
public:
    BytePacked() = default;

    // Checks the tensors of the matrix and of its scales. `rows` first to first + outputs are taken. The inputs lie at
    // `offsets` and are of stage `from`; the products become bytes of stage `to`, or numbers (null), to which `bias` is
    // added; it must have whole vectors and outlive the panels. `input`, `output`: as in Panel.
    BytePacked(const char* operation, const Tensor* matrix, int rows, int first, int outputs, const std::vector<int32_t>& offsets,
               const Stage& from, const Stage* to, const float* bias, int input = 0, int output = 0, int most_vectors = MOST_VECTORS);

    const std::vector<BytePanel>& panels() const { return panels_; }
    size_t bytes() const { return bytes_; }
    double work() const;  // per position, in products of vectors

private:
    WeightBuffer weights_;
    std::vector<int32_t> offsets_, start_;
    std::vector<float> scale_;
    std::vector<BytePanel> panels_;
    size_t bytes_ = 0;
};

}  // namespace hscc
