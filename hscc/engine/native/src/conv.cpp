// Convolution: projection, core with weights by region, decoder, bias, residual and activation.
#include <algorithm>
#include <cstring>

#include "pack.h"

namespace hscc {
namespace {

constexpr const char* NAME = "convolution";
constexpr int BLOCK = 160;                      // positions whose pointers are kept at once
constexpr size_t HIDDEN_BYTES = 16 << 10;       // of a block's hidden numbers: half of a small first-level cache
constexpr size_t WEIGHTS_BYTES = 400 << 10;     // that a task goes through again and again: part of the second-level cache
constexpr size_t MAP_BYTES = 768 << 10;         // per thread: of the images that are padded or projected at once
constexpr int TASKS_PER_THREAD = 4;             // at least; more where each is still long
constexpr int MOST_TASKS_PER_THREAD = 16;
constexpr double LONG_TASK = 2e5;               // products of vectors: some 50 microseconds
constexpr int FEW_POSITIONS = 32;               // so few uses of a weight take less time than reading it from memory

// Positions of one region that follow each other in a row of the output.
struct Segment {
    int64_t before;  // positions of the region that come before
    int32_t in;      // where the first one's patch begins, in numbers from the map's start
    int32_t out;     // the first one's output position
    int32_t count;
};

struct Region {
    int hidden = 0;
    std::vector<Segment> segments;
    int64_t positions = 0;
    std::vector<Packed> cores;  // one per group
    Packed decoder;
    std::vector<float> bias;
    std::vector<int32_t> decoder_offsets;
    std::vector<Panel> panels;  // of all cores
    size_t bytes = 0;
    double work = 0;            // per position
};

struct Task {
    int region;
    int first_panel, last_panel;
    int64_t first, last;  // positions of all images, image by image
};

struct Axis {
    int kernel, stride, pad, dilation, up, in, out;
};

class Convolution final : public Op {
public:
    Convolution(const Record& record, const std::vector<Shape>& shapes);
    size_t scratch_bytes(int batch, int threads) const override {
        return sizeof(float) * (map_floats(images_at_once(batch, threads)) + size_t(threads) * hidden_floats_);
    }
    void run(const Run& run) const override;
    const char* name() const override { return NAME; }

private:
    size_t map_floats(int batch) const { return direct_ ? 0 : (size_t(batch) * map_image_ + 64 + 15) / 16 * 16; }
    int images_at_once(int batch, int threads) const;
    void check_geometry();
    void place_regions(const Record& record, int regions);
    void pack_region(const Record& record, int number, int hidden);
    std::vector<int32_t> core_offsets(int group) const;
    void plan(int images, int threads) const;
    void fill_map(const float* in, float* map, int images, Threads& threads) const;
    void fill_rows(const float* in, float* map, int64_t first, int64_t last) const;
    void run_task(const Task& task, const float* map, float* out, const float* residual, float* hidden) const;
    void finish(const Block& block, int first, int count) const;

    int input_ = 0, residual_ = -1, output_ = 0;
    Shape in_, out_;
    Axis axes_[3];
    int projected_ = 0, groups_ = 1, inner_ = 0;
    Activation act_;
    bool direct_ = false;
    int map_size_[3] = {1, 1, 1};
    int map_stride_ = 0;       // numbers from one position of the map to the next
    int64_t map_image_ = 0;
    Packed projection_;
    std::vector<float> small_projection_;
    std::vector<int32_t> permutation_, identity_;
    std::vector<std::vector<int32_t>> offsets_;  // per group
    std::vector<Region> regions_;
    size_t hidden_floats_ = 0;
    mutable std::vector<Task> tasks_;
    mutable int planned_images_ = 0, planned_threads_ = 0;
};

Convolution::Convolution(const Record& record, const std::vector<Shape>& shapes) {
    const auto& ints = record.ints;
    if (ints.size() < 19) fail(NAME, "there are fewer than 19 numbers");
    if (record.inputs.size() != 1 && record.inputs.size() != 2) fail(NAME, "there must be one or two inputs");
    input_ = record.inputs[0];
    output_ = record.output;
    in_ = shape_of(NAME, shapes, input_);
    out_ = shape_of(NAME, shapes, output_);
    if (record.inputs.size() == 2) {
        residual_ = record.inputs[1];
        const Shape& r = shape_of(NAME, shapes, residual_);
        if (r.channels != out_.channels || r.depth != out_.depth || r.rows != out_.rows || r.columns != out_.columns)
            fail(NAME, "the value to add has another shape than the output");
    }
    const int ins[3] = {in_.depth, in_.rows, in_.columns}, outs[3] = {out_.depth, out_.rows, out_.columns};
    for (int d = 0; d < 3; d++) axes_[d] = {ints[d], ints[3 + d], ints[6 + d], ints[9 + d], ints[12 + d], ins[d], outs[d]};
    projected_ = ints[15];
    groups_ = ints[16];
    const int regions = ints[17];
    act_ = Activation(NAME, ints[18], record.floats);
    if (regions < 1 || regions > 256) fail(NAME, "the number of regions must be 1 to 256");
    if (ints.size() != 19 + size_t(regions)) fail(NAME, "there must be one hidden size per region");
    if (record.tensors.size() != 3 + 3 * size_t(regions)) fail(NAME, "there must be three tensors and three per region");
    if (projected_ < 0) fail(NAME, "the number of projected channels is negative");
    inner_ = projected_ ? projected_ : in_.channels;
    if (groups_ < 1 || inner_ % groups_) fail(NAME, "the groups do not divide the core's inputs");

    const Tensor& permutation = record.tensors[1];
    if (!permutation.absent()) {
        if (projected_) fail(NAME, "there is a projection and a permutation");
        if (permutation.dtype != DType::i32 || permutation.count != uint64_t(inner_))
            fail(NAME, "the permutation must be one int32 per input channel");
        permutation_.resize(inner_);
        std::memcpy(permutation_.data(), permutation.data, permutation_.size() * sizeof(int32_t));
        for (const int32_t c : permutation_)
            if (c < 0 || c >= inner_) fail(NAME, "the permutation names a channel that does not exist");
    }
    check_geometry();
    place_regions(record, regions);

    const Tensor& projection = record.tensors[0];
    if (projected_) {
        const int C = in_.channels;
        const auto p = padded_floats(projection, int(product(projected_, C, NAME)), NAME, "the projection");
        identity_ = counting(C);
        if (projected_ * int64_t(C) <= 32)
            small_projection_.assign(p.begin(), p.begin() + projected_ * C);
        else
            projection_ = Packed(projected_, C, [&](int o, int i) { return p[size_t(o) * C + i]; }, identity_.data(), 0, 0, nullptr);
    } else if (!projection.absent()) {
        fail(NAME, "there is a projection to no channels");
    }
    for (int r = 0; r < regions; r++) pack_region(record, r, ints[19 + r]);
}

void Convolution::check_geometry() {
    bool padded = false;
    for (Axis& a : axes_) {
        if (a.kernel < 1 || a.stride < 1 || a.dilation < 1 || a.up < 1 || a.pad < 0)
            fail(NAME, "kernel, stride, dilation and up must be at least 1 and padding at least 0");
        const int64_t most = product((a.out - 1) / a.up, a.stride, NAME) + product(a.kernel - 1, a.dilation, NAME) + 1;
        if (most > INT32_MAX / 2 || a.pad > INT32_MAX / 2) fail(NAME, "the kernel reaches too far");
        padded |= a.pad > 0 || most > a.in;
    }
    // Positions that lie a multiple of 2 kB apart fall into few sets of the first-level cache.
    const bool crowded = inner_ % 512 == 0;
    direct_ = !padded && !projected_ && !crowded;
    map_stride_ = direct_ || !crowded ? inner_ : inner_ + 16;
    int64_t size = map_stride_;
    for (int d = 0; d < 3; d++) {
        const Axis& a = axes_[d];
        map_size_[d] = direct_ ? a.in : int((a.out - 1) / a.up * int64_t(a.stride) + (a.kernel - 1) * int64_t(a.dilation) + 1);
        size = product(size, map_size_[d], NAME);
    }
    map_image_ = size;
}

void Convolution::place_regions(const Record& record, int regions) {
    const Tensor& index = record.tensors[2];
    const int64_t positions = out_.positions();
    if (index.absent() ? regions > 1 : index.dtype != DType::u8 || index.count != uint64_t(positions))
        fail(NAME, "the region index must be one uint8 per output position");
    regions_.resize(regions);
    for (int64_t i = 0; !index.absent() && i < positions; i++)
        if (index.data[i] >= regions) fail(NAME, "the region index names a region that does not exist");
    const Axis &az = axes_[0], &ay = axes_[1], &ax = axes_[2];
    for (int z = 0; z < az.out; z++)
        for (int y = 0; y < ay.out; y++) {
            const int32_t out = (z * ay.out + y) * ax.out;
            const int64_t in = (int64_t(z / az.up) * az.stride * map_size_[1] + int64_t(y / ay.up) * ay.stride) * map_size_[2];
            // The columns of one phase follow each other in the input, and so do the positions of a segment.
            for (int phase = 0; phase < std::min(ax.up, ax.out); phase++)
                for (int64_t x = phase; x < ax.out;) {
                    const int number = index.absent() ? 0 : index.data[out + x];
                    int64_t end = int64_t(x) + ax.up;
                    while (end < ax.out && (index.absent() || index.data[out + end] == number)) end += ax.up;
                    Region& region = regions_[number];
                    const int count = int((end - x) / ax.up);
                    region.segments.push_back({region.positions, int32_t((in + x / ax.up * ax.stride) * map_stride_), int32_t(out + x), count});
                    region.positions += count;
                    x = end;
                }
        }
}

// Where the inputs of a patch lie, in the order of the core's numbers: depth, row, column, channel of the group.
std::vector<int32_t> Convolution::core_offsets(int group) const {
    const int channels = inner_ / groups_;
    std::vector<int32_t> offsets;
    for (int z = 0; z < axes_[0].kernel; z++)
        for (int y = 0; y < axes_[1].kernel; y++)
            for (int x = 0; x < axes_[2].kernel; x++) {
                const int64_t at = ((int64_t(z) * axes_[0].dilation * map_size_[1] + int64_t(y) * axes_[1].dilation) * map_size_[2] +
                                    int64_t(x) * axes_[2].dilation) * map_stride_;
                for (int c = 0; c < channels; c++)
                    offsets.push_back(int32_t(at + (permutation_.empty() ? c : permutation_[group * channels + c])));
            }
    return offsets;
}

void Convolution::pack_region(const Record& record, int number, int hidden) {
    const Tensor& core = record.tensors[3 + 3 * size_t(number)];
    const Tensor& decoder = record.tensors[4 + 3 * size_t(number)];
    Region& region = regions_[number];
    const int O = out_.channels, width = kernels().width;
    region.hidden = hidden;
    region.bias = padded_floats(record.tensors[5 + 3 * size_t(number)], O, NAME, "the bias");
    if (hidden < -1) fail(NAME, "a hidden size is below -1");
    if ((hidden > 0) == decoder.absent()) fail(NAME, "a region needs a decoder if, and only if, its hidden size is above 0");
    if (hidden < 0) {
        if (!core.absent()) fail(NAME, "a region of hidden size -1 has a core");
        return;
    }
    const int outputs = hidden ? hidden : O;
    if (outputs % groups_) fail(NAME, "the groups do not divide the core's outputs");
    int64_t numbers = inner_ / groups_;
    for (const Axis& a : axes_) numbers = product(numbers, a.kernel, NAME);
    const int k = int(numbers), per_group = outputs / groups_;
    const auto w = padded_floats(core, int(product(outputs, k, NAME)), NAME, "a core");
    if (offsets_.empty())
        for (int g = 0; g < (permutation_.empty() ? 1 : groups_); g++) offsets_.push_back(core_offsets(g));
    // A group's hidden numbers fill whole vectors; the decoder skips what is behind them.
    const auto format = [&](const Tensor& t) { return region.positions <= FEW_POSITIONS ? format_of(t) : Format::f32; };
    const int padded = hidden ? round_up(per_group, width) : per_group;
    // Panels of a region that writes outputs carry the bias; groups that begin inside a vector need it at their start.
    for (int g = 0; g < groups_; g++) {
        const float* from = w.data() + size_t(g) * per_group * k;
        region.cores.emplace_back(
            per_group, k, [&](int o, int i) { return from[size_t(o) * k + i]; }, offsets_[permutation_.empty() ? 0 : g].data(),
            permutation_.empty() ? g * (inner_ / groups_) : 0, g * padded, hidden ? nullptr : region.bias.data() + g * per_group, format(core));
        const Packed& packed = region.cores.back();
        region.panels.insert(region.panels.end(), packed.panels().begin(), packed.panels().end());
        region.bytes += packed.bytes();
        for (const Panel& p : packed.panels()) region.work += double(k) * p.vectors;
    }
    if (!hidden) return;
    const auto u = padded_floats(decoder, int(product(O, hidden, NAME)), NAME, "a decoder");
    for (int s = 0; s < hidden; s++) region.decoder_offsets.push_back(s / per_group * padded + s % per_group);
    region.decoder = Packed(O, hidden, [&](int o, int i) { return u[size_t(o) * hidden + i]; }, region.decoder_offsets.data(), 0, 0,
                            region.bias.data(), format(decoder));
    region.bytes += region.decoder.bytes();
    for (const Panel& p : region.decoder.panels()) region.work += double(hidden) * p.vectors;
    const int block = std::clamp(int(HIDDEN_BYTES / sizeof(float) / (size_t(padded) * groups_)), MOST_POSITIONS, BLOCK);
    hidden_floats_ = std::max(hidden_floats_, (size_t(block) * padded * groups_ + 64 + 15) / 16 * 16);
}

// Cuts the regions into tasks. Regions that write outputs may be cut by panels too, so that at batch 1 each thread reads
// its part of the weights only.
void Convolution::plan(int images, int threads) const {
    tasks_.clear();
    double total = 0;
    for (const Region& r : regions_) total += r.work * double(r.positions);
    // Parts of one region read its weights once more each, so many regions are cut no further.
    const double most = regions_.size() == 1 ? MOST_TASKS_PER_THREAD : TASKS_PER_THREAD;
    const double per_thread = std::clamp(total * images / threads / LONG_TASK, double(TASKS_PER_THREAD), most);
    for (size_t number = 0; number < regions_.size(); number++) {
        const Region& r = regions_[number];
        const int64_t positions = r.positions * images;
        if (!positions) continue;
        const double share = total > 0 ? r.work * double(r.positions) / total : 1;
        const int64_t wanted = std::max<int64_t>(1, int64_t(share * threads * per_thread + (regions_.size() == 1 ? 0.999 : 0.5)));
        int panels = int(r.panels.size()), sets = 1, per_set = panels;
        if (r.hidden == 0) {
            if (threads > 1 && positions < 512) sets = int(std::min<int64_t>(panels, wanted));
            per_set = panels / sets;
            sets = (panels + per_set - 1) / per_set;
        }
        const int64_t tiles = divide_up(positions, MOST_POSITIONS);
        int64_t pieces = threads > 1 ? std::clamp<int64_t>(divide_up(wanted, sets), 1, tiles) : 1;
        if (regions_.size() == 1 && pieces > 1 && sets % threads) pieces = std::min(divide_up(pieces, threads) * threads, tiles);
        for (int s = 0; s < sets; s++)
            for (int64_t i = 0; i < pieces; i++)
                tasks_.push_back({int(number), s * per_set, std::min(panels, (s + 1) * per_set), positions * i / pieces, positions * (i + 1) / pieces});
    }
    planned_images_ = images;
    planned_threads_ = threads;
}

// Where the weights stay in the cache anyway, the map should stay there too: few images at once.
int Convolution::images_at_once(int batch, int threads) const {
    size_t weights = 0;
    for (const Region& r : regions_) weights += r.bytes;
    if (direct_ || (regions_.size() > 1 && weights > WEIGHTS_BYTES)) return batch;
    const int64_t fit = std::max<int64_t>(1, int64_t(MAP_BYTES) * threads / (map_image_ * int64_t(sizeof(float))));
    return int(divide_up(batch, divide_up(batch, fit)));
}

void Convolution::run(const Run& run) const {
    const int threads = run.threads.count(), most = images_at_once(run.batch, threads);
    float* map = reinterpret_cast<float*>(run.scratch);
    float* hidden = map + map_floats(most);
    for (int first = 0; first < run.batch; first += most) {
        const int images = std::min(most, run.batch - first);
        const float* in = run.values[input_] + first * in_.size();
        float* out = run.values[output_] + first * out_.size();
        const float* residual = residual_ < 0 ? nullptr : run.values[residual_] + first * out_.size();
        if (!direct_) fill_map(in, map, images, run.threads);
        if (planned_images_ != images || planned_threads_ != threads) plan(images, threads);
        run.threads.run(int(tasks_.size()), [&](int task, int thread) {
            run_task(tasks_[task], direct_ ? in : map, out, residual, hidden + size_t(thread) * hidden_floats_);
        });
    }
}

void Convolution::run_task(const Task& task, const float* map, float* out, const float* residual, float* hidden) const {
    const Region& region = regions_[task.region];
    const float* in[BLOCK];
    float *outs[BLOCK], *hiddens[BLOCK];
    const float* residuals[BLOCK];
    const int O = out_.channels;
    const int padded = region.hidden > 0 ? round_up(region.hidden / groups_, kernels().width) * groups_ : 0;
    const int most = padded ? std::clamp(int(HIDDEN_BYTES / sizeof(float) / padded), MOST_POSITIONS, BLOCK) : BLOCK;
    const int64_t blocks = divide_up(task.last - task.first, most), per_image = region.positions;
    for (int p = 0; padded && p < most; p++) hiddens[p] = hidden + size_t(p) * padded;
    const int first_output = region.hidden ? 0 : region.panels[task.first_panel].output;
    const int last_output = region.hidden ? O : region.panels[task.last_panel - 1].output + region.panels[task.last_panel - 1].valid;
    const int64_t step_in = int64_t(axes_[2].stride) * map_stride_, step_out = int64_t(axes_[2].up) * O;
    int64_t at = task.first, image = at / per_image;
    auto segment = std::upper_bound(region.segments.begin(), region.segments.end(), at % per_image,
                                    [](int64_t place, const Segment& s) { return place < s.before; }) - 1;
    int64_t place = at % per_image - segment->before;  // in the segment
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t end = task.first + (task.last - task.first) * (b + 1) / blocks;
        int n = 0;
        while (at < end) {
            const int64_t count = std::min<int64_t>(segment->count - place, end - at);
            const float* from = map + image * map_image_ + segment->in + place * step_in;
            const int64_t to = (image * out_.positions() + segment->out) * O + place * step_out;
            for (int64_t i = 0; i < count; i++, n++) {
                in[n] = from + i * step_in;
                outs[n] = out + to + i * step_out;
            }
            if (residual)
                for (int64_t i = 0; i < count; i++) residuals[n - count + i] = residual + to + i * step_out;
            at += count;
            place += count;
            if (place < segment->count) continue;
            place = 0;
            if (++segment == region.segments.end()) segment = region.segments.begin(), image++;
        }
        Block block = {n, in, outs, residual ? residuals : nullptr, false, act_.clip, act_.low, act_.high};
        if (region.hidden > 0) {
            const Block inner = {n, in, hiddens, nullptr, true, false, 0, 0};
            for (const Panel& panel : region.panels) kernels().multiply(panel, inner);
            block.in = hiddens;
            for (const Panel& panel : region.decoder.panels()) kernels().multiply(panel, block);
        } else if (region.hidden == 0) {
            for (int p = task.first_panel; p < task.last_panel; p++) kernels().multiply(region.panels[p], block);
        } else {
            for (int p = 0; p < n; p++)
                for (int o = 0; o < O; o++) {
                    float v = region.bias[o] + (residual ? residuals[p][o] : 0.0f);
                    if (act_.clip) v = act_.low > v ? act_.low : v, v = act_.high < v ? act_.high : v;
                    outs[p][o] = v;
                }
        }
        if (act_.after()) finish(block, first_output, last_output - first_output);
    }
}

// Activations that the kernels leave to others.
void Convolution::finish(const Block& block, int first, int count) const {
    for (int p = 0; p < block.positions; p++) activate(act_.code, act_.a, act_.b, block.out[p] + first, count);
}

// The padded map: the input's numbers, projected or not, and zeros around them.
void Convolution::fill_map(const float* in, float* map, int images, Threads& threads) const {
    const int64_t rows = int64_t(map_size_[0]) * map_size_[1] * images;
    const int64_t tasks = std::min<int64_t>(rows, threads.count() == 1 ? 1 : int64_t(threads.count()) * TASKS_PER_THREAD);
    threads.run(int(tasks), [&](int task, int) { fill_rows(in, map, rows * task / tasks, rows * (task + 1) / tasks); });
}

void Convolution::fill_rows(const float* in, float* map, int64_t first, int64_t last) const {
    const int C = in_.channels, width = map_size_[2], stride = map_stride_;
    const int left = std::min(axes_[2].pad, width), filled = std::clamp(width - left, 0, in_.columns), right = width - left - filled;
    const float* ins[BLOCK];
    float* outs[BLOCK];
    int n = 0;
    const auto project = [&] {
        const Block block = {n, ins, outs, nullptr, false, false, 0, 0};
        for (const Panel& panel : projection_.panels()) kernels().multiply(panel, block);
        n = 0;
    };
    for (int64_t row = first; row < last; row++) {
        const int64_t y = row % map_size_[1] - axes_[1].pad, z = row / map_size_[1] % map_size_[0] - axes_[0].pad;
        const int64_t image = row / map_size_[1] / map_size_[0];
        float* to = map + row * width * int64_t(stride);
        if (y < 0 || y >= in_.rows || z < 0 || z >= in_.depth) {
            std::memset(to, 0, sizeof(float) * size_t(width) * stride);
            continue;
        }
        const float* from = in + ((image * in_.depth + z) * in_.rows + y) * in_.columns * C;
        std::memset(to, 0, sizeof(float) * size_t(left) * stride);
        to += size_t(left) * stride;
        std::memset(to + size_t(filled) * stride, 0, sizeof(float) * size_t(right) * stride);
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
    }
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
    Buffer weights_;
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
    weights_ = Buffer(size_t(taps_) * padded_);
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
