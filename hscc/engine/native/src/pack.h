// Weights in the order in which the kernels read them, and the checks that both operations share.
#pragma once

#include <climits>
#include <functional>

#include "kernels.h"
#include "op.h"

namespace hscc {

// Numbers at an address that is a multiple of 64 (of 2 MB where there are many, so that the system may use large pages).
class WeightBuffer {
public:
    WeightBuffer() = default;
    explicit WeightBuffer(size_t count);
    float* data() { return data_.get(); }
    const float* data() const { return data_.get(); }

private:
    struct Free {
        void operator()(float* p) const;
    };
    std::unique_ptr<float, Free> data_;
};

// The matrix outputs x k that several panels hold, and what belongs to it.
class Packed {
public:
    Packed() = default;

    // `weight(output, i)` gives the numbers. `offsets` has k entries and must outlive the panels, as must `bias`, which
    // has whole vectors (null: none). The panels write to output channels from `output` on.
    Packed(int outputs, int k, const std::function<float(int, int)>& weight, const int32_t* offsets, int input, int output,
           const float* bias, Format format = Format::f32, int most_vectors = MOST_VECTORS);

    const std::vector<Panel>& panels() const { return panels_; }
    size_t bytes() const { return bytes_; }

private:
    WeightBuffer weights_;
    std::vector<Panel> panels_;
    size_t bytes_ = 0;
};

// The format of a tensor's numbers, where the kernels can read it.
Format format_of(const Tensor&);

inline int round_up(int n, int to) { return (n + to - 1) / to * to; }
inline int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// a * b, or an Error where the product is beyond the largest int32.
int64_t product(int64_t a, int64_t b, const char* what);

[[noreturn]] void fail(const char* operation, const std::string& what);

// How an operation's numbers are finished: what the kernels do themselves, and what is left.
struct Activation {
    int code = 0;
    float a = 0, b = 0;
    bool clip = false;  // by the kernels
    float low = 0, high = 0;

    Activation() = default;
    Activation(const char* operation, int code, const std::vector<float>& floats);
    bool after() const { return code != 0 && !clip; }
};

// How many vectors each panel of a matrix has: pairs, and three where a single one would be left.
std::vector<int> panel_widths(int vectors, int most);

// Whole numbers 0, 1, 2, ... for inputs that lie side by side.
std::vector<int32_t> counting(int n);

std::vector<float> padded_floats(const Tensor&, int count, const char* operation, const char* what);

const Shape& shape_of(const char* operation, const std::vector<Shape>& shapes, int32_t value);

}  // namespace hscc
