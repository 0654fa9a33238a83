#include "pack.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace hscc {
namespace {

constexpr size_t LARGE_PAGE = size_t(2) << 20;

// The 16 bits of a number that has come from such bits.
uint16_t encode(float number, Format format) {
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    if (format == Format::bf16) return uint16_t(bits >> 16);
    const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size >= 0x38800000) return uint16_t(sign | (size - 0x38000000) >> 13);
    return uint16_t(sign | uint32_t(std::ldexp(std::fabs(number), 24)));  // below 2^-14: a multiple of 2^-24
}

}  // namespace

std::vector<int> panel_widths(int vectors, int most) {
    if (most < 3) {
        std::vector<int> widths(vectors / most, most);
        if (vectors % most) widths.push_back(vectors % most);
        return widths;
    }
    if (vectors == 1) return {1};
    std::vector<int> widths(vectors / 2, 2);
    if (vectors % 2) widths.back() = 3;
    return widths;
}

WeightBuffer::WeightBuffer(size_t count) {
    if (count > std::numeric_limits<size_t>::max() / 8) throw std::bad_alloc();
    const size_t bytes = count * sizeof(float) + WEIGHTS_SLACK;
    const size_t alignment = bytes >= 2 * LARGE_PAGE ? LARGE_PAGE : 64;
    void* p = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (!p) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == LARGE_PAGE) madvise(p, bytes, MADV_HUGEPAGE);  // only a hint
#endif
    std::memset(p, 0, bytes);
    data_.reset(static_cast<float*>(p));
}

void WeightBuffer::Free::operator()(float* p) const { std::free(p); }

Packed::Packed(int outputs, int k, const std::function<float(int, int)>& weight, const int32_t* offsets, int input,
               int output, const float* bias, Format format, int most_vectors) {
    const int width = kernels().width;
    const int vectors = (outputs + width - 1) / width;
    const size_t count = size_t(vectors) * width * k;
    weights_ = WeightBuffer(format == Format::f32 ? count : (count + 1) / 2);
    bytes_ = count * (format == Format::f32 ? sizeof(float) : sizeof(uint16_t));
    float* const floats = weights_.data();
    uint16_t* const halves = reinterpret_cast<uint16_t*>(floats);
    size_t at = 0;
    int first = 0;
    for (const int n : panel_widths(vectors, most_vectors)) {
        const int valid = std::min(n * width, outputs - first);
        const void* start = format == Format::f32 ? static_cast<const void*>(floats + at) : halves + at;
        panels_.push_back({start, format, offsets, k, n, valid, input, output + first, bias ? bias + first : nullptr});
        for (int o = 0; o < valid; o++)
            for (int i = 0; i < k; i++) {
                const size_t place = at + size_t(i) * n * width + o;
                if (format == Format::f32)
                    floats[place] = weight(first + o, i);
                else
                    halves[place] = encode(weight(first + o, i), format);
            }
        at += size_t(k) * n * width;
        first += n * width;
    }
}

Format format_of(const Tensor& tensor) {
    return tensor.dtype == DType::f16 ? Format::f16 : tensor.dtype == DType::bf16 ? Format::bf16 : Format::f32;
}

void fail(const char* operation, const std::string& what) { throw Error(std::string(operation) + ": " + what + "."); }

int64_t product(int64_t a, int64_t b, const char* what) {
    if (a < 0 || b < 0 || (a && b > INT32_MAX / a)) throw Error(std::string(what) + " is too large for this engine.");
    return a * b;
}

Activation::Activation(const char* operation, int code, const std::vector<float>& floats) : code(code) {
    if (code < 0 || code > 10) fail(operation, "activation " + std::to_string(code) + " does not exist");
    if (floats.size() >= 2) {
        a = floats[floats.size() - 2];
        b = floats[floats.size() - 1];
    } else if (code == 2 || code == 3 || code == 10) {
        fail(operation, "the activation's two parameters are missing");
    }
    clip = code == 1 || code == 2;
    low = code == 2 ? a : 0.0f;
    high = code == 2 ? b : std::numeric_limits<float>::infinity();
}

std::vector<int32_t> counting(int n) {
    std::vector<int32_t> numbers(n);
    for (int i = 0; i < n; i++) numbers[i] = i;
    return numbers;
}

std::vector<float> padded_floats(const Tensor& tensor, int count, const char* operation, const char* what) {
    if (tensor.count != uint64_t(count))
        fail(operation, std::string(what) + " has " + std::to_string(tensor.count) + " numbers instead of " + std::to_string(count));
    std::vector<float> floats = read_floats(tensor);
    floats.resize(size_t(count) + MOST_VECTORS * 16, 0.0f);
    return floats;
}

const Shape& shape_of(const char* operation, const std::vector<Shape>& shapes, int32_t value) {
    if (value < 0 || size_t(value) >= shapes.size()) fail(operation, "value " + std::to_string(value) + " does not exist");
    const Shape& s = shapes[value];
    if (s.channels < 1 || s.depth < 1 || s.rows < 1 || s.columns < 1) fail(operation, "a value has a size below 1");
    product(product(product(s.channels, s.depth, operation), s.rows, operation), s.columns, operation);
    return s;
}

}  // namespace hscc
