// Convolution: projection, core with weights by region, decoder, bias, residual and activation.
#include <cstring>

#include "regional.h"

namespace hscc {
namespace {

constexpr const char* NAME = "convolution";
constexpr int FEW_POSITIONS = 32;  // so few uses of a weight take less time than reading it from memory

// A region's matrices.
struct Matrices {
    std::vector<Packed> cores;  // one per group
    std::vector<Panel> panels;  // of all cores
    Packed decoder;
    std::vector<int32_t> decoder_offsets;
};

class Convolution final : public RegionalConvolution {
public:
    Convolution(const Record& record, const std::vector<Shape>& shapes);
    const char* name() const override { return NAME; }

private:
    void pack_region(const Record& record, int number);
    void fill_rows(const float* in, uint8_t* map, int64_t first, int64_t last, uint8_t* own) const override;
    void run_task(const Task& task, const void* map, float* out, const float* residual, uint8_t* own) const override;

    Packed projection_;
    std::vector<float> small_projection_;
    std::vector<int32_t> identity_;
    std::vector<std::vector<int32_t>> offsets_;  // per group
    std::vector<Matrices> matrices_;
};

Convolution::Convolution(const Record& record, const std::vector<Shape>& shapes) : RegionalConvolution(NAME, record, shapes, false) {
    if (projected_) {
        const int C = in_.channels;
        const auto p = padded_floats(record.tensors[0], int(product(projected_, C, NAME)), NAME, "the projection");
        identity_ = counting(C);
        if (projected_ * int64_t(C) <= 32)
            small_projection_.assign(p.begin(), p.begin() + projected_ * C);
        else
            projection_ = Packed(projected_, C, [&](int o, int i) { return p[size_t(o) * C + i]; }, identity_.data(), 0, 0, nullptr);
    }
    matrices_.resize(regions_.size());
    for (size_t r = 0; r < regions_.size(); r++) pack_region(record, int(r));
}

void Convolution::pack_region(const Record& record, int number) {
    const int k = check_region(record, number);
    if (!k) return;
    const Tensor &core = record.tensors[3 + 3 * size_t(number)], &decoder = record.tensors[4 + 3 * size_t(number)];
    Region& region = regions_[number];
    Matrices& m = matrices_[number];
    const int O = out_.channels, hidden = region.hidden, outputs = hidden ? hidden : O, per_group = outputs / groups_;
    const auto w = padded_floats(core, outputs * k, NAME, "a core");
    if (offsets_.empty())
        for (int g = 0; g < (permutation_.empty() ? 1 : groups_); g++)
            offsets_.push_back(core_offsets(permutation_.empty() ? nullptr : permutation_.data() + g * (inner_ / groups_)));
    // A group's hidden numbers fill whole vectors; the decoder skips what is behind them.
    const auto format = [&](const Tensor& t) { return region.positions <= FEW_POSITIONS ? format_of(t) : Format::f32; };
    const int stride = hidden ? padded(region) / groups_ : per_group;
    // Panels of a region that writes outputs carry the bias; groups that begin inside a vector need it at their start.
    for (int g = 0; g < groups_; g++) {
        const float* from = w.data() + size_t(g) * per_group * k;
        m.cores.emplace_back(
            per_group, k, [&](int o, int i) { return from[size_t(o) * k + i]; }, offsets_[permutation_.empty() ? 0 : g].data(),
            permutation_.empty() ? g * (inner_ / groups_) : 0, g * stride, hidden ? nullptr : region.bias.data() + g * per_group, format(core));
        const Packed& packed = m.cores.back();
        m.panels.insert(m.panels.end(), packed.panels().begin(), packed.panels().end());
        region.bytes += packed.bytes();
        for (const Panel& p : packed.panels()) region.work += double(k) * p.vectors;
    }
    region.panels = int(m.panels.size());
    if (!hidden) return;
    const auto u = padded_floats(decoder, int(product(O, hidden, NAME)), NAME, "a decoder");
    for (int s = 0; s < hidden; s++) m.decoder_offsets.push_back(s / per_group * stride + s % per_group);
    m.decoder = Packed(O, hidden, [&](int o, int i) { return u[size_t(o) * hidden + i]; }, m.decoder_offsets.data(), 0, 0,
                       region.bias.data(), format(decoder));
    region.bytes += m.decoder.bytes();
    for (const Panel& p : m.decoder.panels()) region.work += double(hidden) * p.vectors;
    const size_t bytes = sizeof(float) * size_t(padded(region));
    need_own(block_positions(bytes) * bytes + 64 * sizeof(float));
}

void Convolution::run_task(const Task& task, const void* map, float* out, const float* residual, uint8_t* own) const {
    const Region& region = regions_[task.region];
    const Matrices& m = matrices_[task.region];
    const int hidden = padded(region), most = block_positions(sizeof(float) * hidden);
    float* hiddens[BLOCK];
    for (int p = 0; hidden && p < most; p++) hiddens[p] = reinterpret_cast<float*>(own) + size_t(p) * hidden;
    const int first = region.hidden ? 0 : m.panels[task.first_panel].output;
    const int last = region.hidden ? out_.channels : m.panels[task.last_panel - 1].output + m.panels[task.last_panel - 1].valid;
    Walk<float> walk(*this, task, static_cast<const float*>(map), out, residual, most);
    while (const int n = walk.next()) {
        Block block = {n, walk.in, walk.out, walk.residuals(), false, act_.clip, act_.low, act_.high};
        if (region.hidden > 0) {
            const Block inner = {n, walk.in, hiddens, nullptr, true, false, 0, 0};
            for (const Panel& panel : m.panels) kernels().multiply(panel, inner);
            block.in = hiddens;
            for (const Panel& panel : m.decoder.panels()) kernels().multiply(panel, block);
        } else if (region.hidden == 0) {
            for (int p = task.first_panel; p < task.last_panel; p++) kernels().multiply(m.panels[p], block);
        } else {
            bias_alone(region, n, walk.out, walk.residuals());
        }
        if (act_.after()) finish(n, walk.out, first, last - first);
    }
}

void Convolution::fill_rows(const float* in, uint8_t* map, int64_t first, int64_t last, uint8_t*) const {
    const int C = in_.channels, stride = map_stride_;
    const float* ins[BLOCK];
    float* outs[BLOCK];
    int n = 0;
    const auto project = [&] {
        const Block block = {n, ins, outs, nullptr, false, false, 0, 0};
        for (const Panel& panel : projection_.panels()) kernels().multiply(panel, block);
        n = 0;
    };
    each_row(in, map, first, last, [&](const float* from, uint8_t* bytes, int filled) {
        float* to = reinterpret_cast<float*>(bytes);
        if (!projected_) {
            if (stride == C)
                std::memcpy(to, from, sizeof(float) * size_t(filled) * C);
            else
                for (int x = 0; x < filled; x++) std::memcpy(to + size_t(x) * stride, from + size_t(x) * C, sizeof(float) * C);
        } else if (!small_projection_.empty()) {
            kernels().mix(from, C, small_projection_.data(), to, stride, projected_, filled);
        } else {
            for (int x = 0; x < filled; x++) {
                ins[n] = from + size_t(x) * C;
                outs[n] = to + size_t(x) * stride;
                if (++n == BLOCK) project();
            }
        }
    });
    if (n) project();
}

// Each output channel reads its own input channel: nothing to share between outputs, so vectors run along the channels
// and the borders are cut from the taps instead of padding the input.
class Depthwise final : public Op {
public:
    static bool fits(const Record& r, const std::vector<Shape>& shapes);
    Depthwise(const Record& record, const std::vector<Shape>& shapes);
    size_t scratch_bytes(int, int threads) const override { return size_t(threads) * 2 * taps_ * sizeof(int32_t); }
    void run(const Run& run) const override;
    const char* name() const override { return "depthwise convolution"; }

private:
    void run_row(DepthwiseRow row, const float* in, float* out, const float* residual, int64_t number, int32_t* taps) const;

    int input_, residual_, output_;
    Shape in_, out_;
    Axis axes_[3];
    Activation act_;
    int64_t taps_ = 1;
    int padded_ = 0;
    WeightBuffer weights_;
    std::vector<float> bias_;
};

bool Depthwise::fits(const Record& r, const std::vector<Shape>& shapes) {
    if (r.ints.size() != 20 || r.tensors.size() != 6 || r.inputs.empty() || r.inputs.size() > 2) return false;
    for (const int32_t v : {r.inputs[0], r.output})
        if (v < 0 || size_t(v) >= shapes.size()) return false;
    const int C = shapes[r.inputs[0]].channels;
    return C > 1 && shapes[r.output].channels == C && r.ints[16] == C && r.ints[15] == 0 && r.ints[17] == 1 && r.ints[19] == 0 &&
           r.ints[12] == 1 && r.ints[13] == 1 && r.ints[14] == 1 && r.tensors[0].absent() && r.tensors[1].absent();
}

Depthwise::Depthwise(const Record& record, const std::vector<Shape>& shapes) {
    const auto& ints = record.ints;
    input_ = record.inputs[0];
    residual_ = record.inputs.size() == 2 ? record.inputs[1] : -1;
    output_ = record.output;
    in_ = shape_of(NAME, shapes, input_);
    out_ = shape_of(NAME, shapes, output_);
    if (record.inputs.size() == 2) {
        const Shape& r = shape_of(NAME, shapes, residual_);
        if (r.channels != out_.channels || r.depth != out_.depth || r.rows != out_.rows || r.columns != out_.columns)
            fail(NAME, "the value to add has another shape than the output");
    }
    const int ins[3] = {in_.depth, in_.rows, in_.columns}, outs[3] = {out_.depth, out_.rows, out_.columns};
    for (int d = 0; d < 3; d++) {
        const Axis& a = axes_[d] = {ints[d], ints[3 + d], ints[6 + d], ints[9 + d], 1, ins[d], outs[d]};
        if (a.kernel < 1 || a.stride < 1 || a.dilation < 1 || a.pad < 0)
            fail(NAME, "kernel, stride, dilation and up must be at least 1 and padding at least 0");
        taps_ = product(taps_, a.kernel, NAME);
        product(a.out, a.stride, NAME);
        product(a.kernel, a.dilation, NAME);
    }
    act_ = Activation(NAME, ints[18], record.floats);
    if (!record.tensors[2].absent()) {
        if (record.tensors[2].dtype != DType::u8 || record.tensors[2].count != uint64_t(out_.positions()))
            fail(NAME, "the region index must be one uint8 per output position");
        for (uint64_t i = 0; i < record.tensors[2].count; i++)
            if (record.tensors[2].data[i]) fail(NAME, "the region index names a region that does not exist");
    }
    if (!record.tensors[4].absent()) fail(NAME, "a region needs a decoder if, and only if, its hidden size is above 0");
    const int C = in_.channels;
    padded_ = round_up(C, kernels().width);
    const auto w = padded_floats(record.tensors[3], int(product(C, taps_, NAME)), NAME, "a core");
    bias_ = padded_floats(record.tensors[5], C, NAME, "the bias");
    weights_ = WeightBuffer(size_t(taps_) * padded_);
    for (int c = 0; c < C; c++)
        for (int64_t t = 0; t < taps_; t++) weights_.data()[size_t(t) * padded_ + c] = w[size_t(c) * taps_ + t];
}

void Depthwise::run(const Run& run) const {
    const int64_t rows = int64_t(run.batch) * out_.depth * out_.rows;
    const int threads = run.threads.count();
    const int64_t tasks = std::min<int64_t>(rows, threads == 1 ? 1 : threads * TASKS_PER_THREAD);
    run.threads.run(int(tasks), [&](int task, int thread) {
        int32_t* taps = reinterpret_cast<int32_t*>(run.scratch) + size_t(thread) * 2 * taps_;
        DepthwiseRow row = {};
        row.channels = out_.channels;
        row.weights = weights_.data();
        row.padded = padded_;
        row.bias = bias_.data();
        row.clip = act_.clip;
        row.low = act_.low;
        row.high = act_.high;
        for (int64_t r = rows * task / tasks; r < rows * (task + 1) / tasks; r++)
            run_row(row, run.values[input_], run.values[output_], residual_ < 0 ? nullptr : run.values[residual_], r, taps);
    });
}

void Depthwise::run_row(DepthwiseRow row, const float* in, float* out, const float* residual, int64_t number, int32_t* taps) const {
    const Axis &az = axes_[0], &ay = axes_[1], &ax = axes_[2];
    const int64_t C = out_.channels, image = number / out_.rows / out_.depth;
    const int64_t z0 = number / out_.rows % out_.depth * az.stride - az.pad, y0 = number % out_.rows * ay.stride - ay.pad;
    in += image * in_.size();
    out += number * out_.columns * C;
    if (residual) residual += number * out_.columns * C;
    row.in_stride = ax.stride * C;
    // Columns from `inner` to `outer` have all their taps inside.
    const int64_t reach = int64_t(ax.kernel - 1) * ax.dilation;
    const int inner = int(std::min<int64_t>(divide_up(ax.pad, ax.stride), out_.columns));
    const int64_t last = int64_t(ax.in) - 1 - reach + ax.pad;
    const int outer = int(std::clamp<int64_t>(last < 0 ? 0 : last / ax.stride + 1, inner, out_.columns));
    row.offsets = taps;
    row.indices = taps + taps_;
    const auto columns = [&](int first, int n) {
        const int64_t x0 = int64_t(first) * ax.stride - ax.pad;
        row.taps = 0;
        for (int tz = 0; tz < az.kernel; tz++) {
            const int64_t z = z0 + int64_t(tz) * az.dilation;
            if (z < 0 || z >= az.in) continue;
            for (int ty = 0; ty < ay.kernel; ty++) {
                const int64_t y = y0 + int64_t(ty) * ay.dilation;
                if (y < 0 || y >= ay.in) continue;
                for (int tx = 0; tx < ax.kernel; tx++) {
                    const int64_t x = x0 + int64_t(tx) * ax.dilation;
                    if (x < 0 || x >= ax.in) continue;
                    taps[row.taps] = int32_t(((z * ay.in + y) * ax.in + x) * C);
                    taps[taps_ + row.taps++] = (tz * ay.kernel + ty) * ax.kernel + tx;
                }
            }
        }
        row.in = in;
        row.out = out + first * C;
        row.residual = residual ? residual + first * C : nullptr;
        row.positions = n;
        kernels().depthwise(row);
    };
    for (int x = 0; x < inner; x++) columns(x, 1);
    if (outer > inner) columns(inner, outer - inner);
    for (int x = outer; x < out_.columns; x++) columns(x, 1);
    if (act_.after()) activate(act_.code, act_.a, act_.b, out, size_t(out_.columns) * C);
}

}  // namespace

std::unique_ptr<Op> make_conv(const Record& record, const std::vector<Shape>& shapes) {
    if (Depthwise::fits(record, shapes)) return std::make_unique<Depthwise>(record, shapes);
    return std::make_unique<Convolution>(record, shapes);
}

}  // namespace hscc
