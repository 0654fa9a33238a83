// Convolution of 8-bit integers: the input becomes bytes on its way into the padded map; numbers come out.
#include <cstring>

#include "quantised.h"
#include "regional.h"

namespace hscc {
namespace {

constexpr const char* NAME = "convolution of int8";

struct Matrices {
    std::vector<BytePacked> cores;  // one per group
    std::vector<BytePanel> panels;  // of all cores
    BytePacked decoder;
    Stage hidden;
};

class Convolution8 final : public RegionalConvolution {
public:
    Convolution8(const Record& record, const std::vector<Shape>& shapes);
    const char* name() const override { return NAME; }

private:
    void pack_region(const Record& record, int number);
    void fill_rows(const float* in, uint8_t* map, int64_t first, int64_t last, uint8_t* own) const override;
    void run_task(const Task& task, const void* map, float* out, const float* residual, uint8_t* own) const override;

    Stage input_, mapped_;  // mapped: of the map's bytes
    BytePacked projection_;
    std::vector<Matrices> matrices_;
};

Convolution8::Convolution8(const Record& record, const std::vector<Shape>& shapes) : RegionalConvolution(NAME, record, shapes, true) {
    if (record.floats.size() != 4 + 2 * regions_.size() + 2) fail(NAME, "there must be a scale and a zero point per stage");
    input_ = mapped_ = stage_of(NAME, record, 0);
    const size_t C = size_t(in_.channels);
    if (projected_) {
        mapped_ = stage_of(NAME, record, 1);
        projection_ = BytePacked(NAME, record.tensors.data(), projected_, 0, projected_, counting(in_.channels), input_, &mapped_, nullptr);
    }
    if (projected_ || !permutation_.empty()) need_own(BLOCK * C + 64);  // bytes of a block before they are projected or moved
    padding_ = uint8_t(mapped_.zero);
    matrices_.resize(regions_.size());
    for (size_t r = 0; r < regions_.size(); r++) pack_region(record, int(r));
}

void Convolution8::pack_region(const Record& record, int number) {
    if (!check_region(record, number)) return;
    const Tensor* tensors = record.tensors.data() + 4 + 5 * size_t(number);
    Region& region = regions_[number];
    Matrices& m = matrices_[number];
    const int hidden = region.hidden, outputs = hidden ? hidden : out_.channels, per_group = outputs / groups_;
    const int stride = hidden ? padded(region) / groups_ : per_group;
    if (hidden) m.hidden = stage_of(NAME, record, 2 + size_t(number));
    const auto offsets = core_offsets(nullptr);
    for (int g = 0; g < groups_; g++) {
        m.cores.emplace_back(NAME, tensors, outputs, g * per_group, per_group, offsets, mapped_, hidden ? &m.hidden : nullptr,
                             hidden ? nullptr : region.bias.data() + g * per_group, g * (inner_ / groups_), g * stride);
        const BytePacked& core = m.cores.back();
        m.panels.insert(m.panels.end(), core.panels().begin(), core.panels().end());
        region.bytes += core.bytes();
        region.work += core.work();
    }
    region.panels = int(m.panels.size());
    if (!hidden) return;
    std::vector<int32_t> places;
    for (int s = 0; s < hidden; s++) places.push_back(s / per_group * stride + s % per_group);
    m.decoder = BytePacked(NAME, tensors + 2, out_.channels, 0, out_.channels, places, m.hidden, nullptr, region.bias.data());
    region.bytes += m.decoder.bytes();
    region.work += m.decoder.work();
    need_own(size_t(block_positions(padded(region))) * padded(region) + 64);
}

void Convolution8::run_task(const Task& task, const void* map, float* out, const float* residual, uint8_t* own) const {
    const Region& region = regions_[task.region];
    const Matrices& m = matrices_[task.region];
    const int hidden = padded(region), most = block_positions(hidden);
    uint8_t* hiddens[BLOCK];
    for (int p = 0; hidden && p < most; p++) hiddens[p] = own + size_t(p) * hidden;
    const int first = region.hidden ? 0 : m.panels[task.first_panel].output;
    const int last = region.hidden ? out_.channels : m.panels[task.last_panel - 1].output + m.panels[task.last_panel - 1].valid;
    Walk<uint8_t> walk(*this, task, static_cast<const uint8_t*>(map), out, residual, most);
    while (const int n = walk.next()) {
        ByteBlock block = {n, walk.in, nullptr, 0, false, walk.out, walk.residuals(), act_.clip, act_.low, act_.high};
        if (region.hidden > 0) {
            const ByteBlock inner = {n, walk.in, hiddens, m.hidden.zero, true, nullptr, nullptr, false, 0, 0};
            for (const BytePanel& panel : m.panels) kernels().multiply_bytes(panel, inner);
            block.in = hiddens;
            for (const BytePanel& panel : m.decoder.panels()) kernels().multiply_bytes(panel, block);
        } else if (region.hidden == 0) {
            for (int p = task.first_panel; p < task.last_panel; p++) kernels().multiply_bytes(m.panels[p], block);
        } else {
            bias_alone(region, n, walk.out, walk.residuals());
        }
        if (act_.after()) finish(n, walk.out, first, last - first);
    }
}

void Convolution8::fill_rows(const float* in, uint8_t* map, int64_t first, int64_t last, uint8_t* own) const {
    const size_t C = size_t(in_.channels), stride = size_t(map_stride_);
    const auto quantise = [&](const float* from, uint8_t* to, size_t n) { kernels().quantise(from, input_.scale, input_.zero, to, ptrdiff_t(n)); };
    const uint8_t* ins[BLOCK];
    uint8_t* outs[BLOCK];
    int n = 0;
    const auto project = [&] {
        const ByteBlock block = {n, ins, outs, mapped_.zero, false, nullptr, nullptr, false, 0, 0};
        for (const BytePanel& panel : projection_.panels()) kernels().multiply_bytes(panel, block);
        n = 0;
    };
    each_row(in, map, first, last, [&](const float* from, uint8_t* to, int filled) {
        if (!projected_ && permutation_.empty()) {
            if (stride == C) return quantise(from, to, size_t(filled) * C);
            for (int x = 0; x < filled; x++) quantise(from + size_t(x) * C, to + size_t(x) * stride, C);
            return;
        }
        for (int x = 0, count; x < filled; x += count) {
            count = std::min(BLOCK - n, filled - x);
            quantise(from + size_t(x) * C, own + size_t(n) * C, size_t(count) * C);
            for (int i = 0; i < count; i++) {
                ins[n + i] = own + size_t(n + i) * C;
                outs[n + i] = to + size_t(x + i) * stride;
                if (!projected_)
                    for (size_t c = 0; c < C; c++) outs[i][c] = ins[i][permutation_[c]];
            }
            if (projected_ && (n += count) == BLOCK) project();
        }
    });
    if (n) project();
}

}  // namespace

std::unique_ptr<Op> make_conv8(const Record& record, const std::vector<Shape>& shapes) {
    return std::make_unique<Convolution8>(record, shapes);
}

}  // namespace hscc
