#include "quantised.h"

#include <cmath>
#include <cstring>

namespace hscc {
namespace {

// 255 * 128 times as many fits into a sum of 32 bits.
constexpr int MOST_INPUTS = 65793;

}  // namespace

Stage stage_of(const char* operation, const Record& record, size_t place) {
    if (record.floats.size() < 2 * place + 2) fail(operation, "a scale and a zero point are missing");
    Stage stage;
    const float zero = record.floats[2 * place + 1];
    stage.scale = record.floats[2 * place];
    if (!(stage.scale > 0) || !std::isfinite(stage.scale)) fail(operation, "a scale is not above 0, or not finite");
    if (!(zero >= 0 && zero <= 255) || zero != std::floor(zero)) fail(operation, "a zero point is not one of 0 to 255");
    stage.zero = int(zero);
    return stage;
}

BytePacked::BytePacked(const char* operation, const Tensor* matrix, int rows, int first, int outputs, const std::vector<int32_t>& offsets,
                       const Stage& from, const Stage* to, const float* bias, int input, int output, int most_vectors) {
    const int k = int(offsets.size()), width = kernels().width, vectors = (outputs + width - 1) / width;
    if (k > MOST_INPUTS) fail(operation, "a sum has more than 65793 products");
    if (matrix[0].dtype != DType::i8 || matrix[0].count != uint64_t(rows) * k)
        fail(operation, "a matrix must have " + std::to_string(rows) + " x " + std::to_string(k) + " signed bytes");
    if (matrix[1].count != uint64_t(rows)) fail(operation, "a matrix must have a scale per output");
    const std::vector<float> scales = read_floats(matrix[1]);
    scale_.assign(size_t(vectors) * width, 0.0f);
    start_.assign(scale_.size(), 0);
    const int8_t* const w = reinterpret_cast<const int8_t*>(matrix[0].data) + size_t(first) * k;
    for (int o = 0; o < outputs; o++) {
        const double real = double(from.scale) * scales[first + o];
        scale_[o] = float(to ? real / to->scale : real);
        int64_t sum = 0;
        for (int i = 0; i < k; i++) sum += w[size_t(o) * k + i];
        start_[o] = int32_t(-from.zero * sum);
    }
    // Four inputs that lie side by side are multiplied at once; fewer have weights of zero behind them.
    std::vector<int> begins;
    for (int i = 0; i < k; i++)
        if (begins.empty() || i == begins.back() + 4 || offsets[i] != offsets[i - 1] + 1) begins.push_back(i), offsets_.push_back(offsets[i]);
    const int fours = int(begins.size());
    begins.push_back(k);
    const size_t numbers = size_t(fours) * vectors * width;
    weights_ = WeightBuffer(numbers);
    bytes_ = numbers * 4;
    int8_t* packed = reinterpret_cast<int8_t*>(weights_.data());
    int at = 0;
    for (const int n : panel_widths(vectors, most_vectors)) {
        const int valid = std::min(n * width, outputs - at);
        panels_.push_back({packed, offsets_.data(), fours, n, valid, input, output + at, start_.data() + at, scale_.data() + at,
                           bias ? bias + at : nullptr});
        for (int o = 0; o < valid; o++)
            for (int f = 0; f < fours; f++)
                std::memcpy(packed + (size_t(f) * n * width + o) * 4, w + size_t(at + o) * k + begins[f], size_t(begins[f + 1] - begins[f]));
        packed += size_t(fours) * n * width * 4;
        at += n * width;
    }
}

double BytePacked::work() const {
    double sum = 0;
    for (const BytePanel& p : panels_) sum += double(p.fours) * p.vectors;
    return sum;
}

}  // namespace hscc
