// What convolutions share; see regional.h.
#include "regional.h"

#include <cstring>

namespace hscc {
namespace {

constexpr size_t WEIGHTS_BYTES = 400 << 10;     // that a task goes through again and again: part of the second-level cache
constexpr size_t MAP_BYTES = 768 << 10;         // per thread: of the images that are padded or projected at once
constexpr int MOST_TASKS_PER_THREAD = 16;
constexpr double LONG_TASK = 2e5;               // products of vectors: some 50 microseconds

}  // namespace

RegionalConvolution::RegionalConvolution(const char* name, const Record& record, const std::vector<Shape>& shapes, bool quantised)
    : name_(name), number_bytes_(quantised ? 1 : sizeof(float)) {
    const auto& ints = record.ints;
    if (ints.size() < 19) fail(name_, "there are fewer than 19 numbers");
    if (record.inputs.size() != 1 && record.inputs.size() != 2) fail(name_, "there must be one or two inputs");
    input_ = record.inputs[0];
    output_ = record.output;
    in_ = shape_of(name_, shapes, input_);
    out_ = shape_of(name_, shapes, output_);
    if (record.inputs.size() == 2) {
        residual_ = record.inputs[1];
        const Shape& r = shape_of(name_, shapes, residual_);
        if (r.channels != out_.channels || r.depth != out_.depth || r.rows != out_.rows || r.columns != out_.columns)
            fail(name_, "the value to add has another shape than the output");
    }
    const int ins[3] = {in_.depth, in_.rows, in_.columns}, outs[3] = {out_.depth, out_.rows, out_.columns};
    for (int d = 0; d < 3; d++) axes_[d] = {ints[d], ints[3 + d], ints[6 + d], ints[9 + d], ints[12 + d], ins[d], outs[d]};
    projected_ = ints[15];
    groups_ = ints[16];
    const int regions = ints[17];
    act_ = Activation(name_, ints[18], record.floats);
    if (regions < 1 || regions > 256) fail(name_, "the number of regions must be 1 to 256");
    if (ints.size() != 19 + size_t(regions)) fail(name_, "there must be one hidden size per region");
    const size_t before = quantised ? 4 : 3, each = quantised ? 5 : 3;  // tensors: a matrix's scales follow it
    if (record.tensors.size() != before + each * size_t(regions)) fail(name_, "there are more or fewer tensors than the regions need");
    if (projected_ < 0) fail(name_, "the number of projected channels is negative");
    inner_ = projected_ ? projected_ : in_.channels;
    if (groups_ < 1 || inner_ % groups_) fail(name_, "the groups do not divide the core's inputs");

    const Tensor& permutation = record.tensors[before - 2];
    if (!permutation.absent()) {
        if (projected_) fail(name_, "there is a projection and a permutation");
        if (permutation.dtype != DType::i32 || permutation.count != uint64_t(inner_))
            fail(name_, "the permutation must be one int32 per input channel");
        permutation_.resize(inner_);
        std::memcpy(permutation_.data(), permutation.data, permutation_.size() * sizeof(int32_t));
        for (const int32_t c : permutation_)
            if (c < 0 || c >= inner_) fail(name_, "the permutation names a channel that does not exist");
    }
    check_geometry();
    if (!projected_ && !record.tensors[0].absent()) fail(name_, "there is a projection to no channels");
    place_regions(record.tensors[before - 1], regions);
}

void RegionalConvolution::check_geometry() {
    bool padded = false;
    for (Axis& a : axes_) {
        if (a.kernel < 1 || a.stride < 1 || a.dilation < 1 || a.up < 1 || a.pad < 0)
            fail(name_, "kernel, stride, dilation and up must be at least 1 and padding at least 0");
        const int64_t most = product((a.out - 1) / a.up, a.stride, name_) + product(a.kernel - 1, a.dilation, name_) + 1;
        if (most > INT32_MAX / 2 || a.pad > INT32_MAX / 2) fail(name_, "the kernel reaches too far");
        padded |= a.pad > 0 || most > a.in;
    }
    // Positions that lie a multiple of 2 kB apart fall into few sets of the first-level cache.
    const bool crowded = inner_ * number_bytes_ % 2048 == 0;
    direct_ = number_bytes_ == sizeof(float) && !padded && !projected_ && !crowded;
    map_stride_ = direct_ || !crowded ? inner_ : inner_ + int(64 / number_bytes_);
    int64_t size = map_stride_;
    for (int d = 0; d < 3; d++) {
        const Axis& a = axes_[d];
        map_size_[d] = direct_ ? a.in : int((a.out - 1) / a.up * int64_t(a.stride) + (a.kernel - 1) * int64_t(a.dilation) + 1);
        size = product(size, map_size_[d], name_);
    }
    map_image_ = size;
}

void RegionalConvolution::place_regions(const Tensor& index, int regions) {
    const int64_t positions = out_.positions();
    if (index.absent() ? regions > 1 : index.dtype != DType::u8 || index.count != uint64_t(positions))
        fail(name_, "the region index must be one uint8 per output position");
    regions_.resize(regions);
    for (int64_t i = 0; !index.absent() && i < positions; i++)
        if (index.data[i] >= regions) fail(name_, "the region index names a region that does not exist");
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

// Cuts the regions into tasks. Regions that write outputs may be cut by panels too, so that at batch 1 each thread reads
// its part of the weights only.
void RegionalConvolution::plan(int images, int threads) const {
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
        int sets = 1, per_set = r.panels;
        if (r.hidden == 0) {
            if (threads > 1 && positions < 512) sets = int(std::min<int64_t>(r.panels, wanted));
            per_set = r.panels / sets;
            sets = (r.panels + per_set - 1) / per_set;
        }
        const int64_t tiles = divide_up(positions, MOST_POSITIONS);
        int64_t pieces = threads > 1 ? std::clamp<int64_t>(divide_up(wanted, sets), 1, tiles) : 1;
        if (regions_.size() == 1 && pieces > 1 && sets % threads) pieces = std::min(divide_up(pieces, threads) * threads, tiles);
        for (int s = 0; s < sets; s++)
            for (int64_t i = 0; i < pieces; i++)
                tasks_.push_back({int(number), s * per_set, std::min(r.panels, (s + 1) * per_set), positions * i / pieces, positions * (i + 1) / pieces});
    }
    planned_images_ = images;
    planned_threads_ = threads;
}

// Where the weights stay in the cache anyway, the map should stay there too: few images at once.
int RegionalConvolution::images_at_once(int batch, int threads) const {
    size_t weights = 0;
    for (const Region& r : regions_) weights += r.bytes;
    if (direct_ || (regions_.size() > 1 && weights > WEIGHTS_BYTES)) return batch;
    const int64_t fit = std::max<int64_t>(1, int64_t(MAP_BYTES) * threads / (map_image_ * int64_t(number_bytes_)));
    return int(divide_up(batch, divide_up(batch, fit)));
}

std::vector<int32_t> RegionalConvolution::core_offsets(const int32_t* channels) const {
    std::vector<int32_t> offsets;
    for (int z = 0; z < axes_[0].kernel; z++)
        for (int y = 0; y < axes_[1].kernel; y++)
            for (int x = 0; x < axes_[2].kernel; x++) {
                const int64_t at = ((int64_t(z) * axes_[0].dilation * map_size_[1] + int64_t(y) * axes_[1].dilation) * map_size_[2] +
                                    int64_t(x) * axes_[2].dilation) * map_stride_;
                for (int c = 0; c < inner_ / groups_; c++) offsets.push_back(int32_t(at + (channels ? channels[c] : c)));
            }
    return offsets;
}

int RegionalConvolution::check_region(const Record& record, int number) {
    const size_t each = (record.tensors.size() - (number_bytes_ == 1 ? 4 : 3)) / regions_.size();
    const Tensor* tensors = record.tensors.data() + record.tensors.size() - each * (regions_.size() - number);
    const Tensor &core = tensors[0], &decoder = tensors[each / 2], &bias = tensors[each - 1];
    Region& region = regions_[number];
    region.hidden = record.ints[19 + size_t(number)];
    region.bias = padded_floats(bias, out_.channels, name_, "the bias");
    if (region.hidden < -1) fail(name_, "a hidden size is below -1");
    if ((region.hidden > 0) == decoder.absent()) fail(name_, "a region needs a decoder if, and only if, its hidden size is above 0");
    if (region.hidden < 0) {
        if (!core.absent()) fail(name_, "a region of hidden size -1 has a core");
        return 0;
    }
    if ((region.hidden ? region.hidden : out_.channels) % groups_) fail(name_, "the groups do not divide the core's outputs");
    int64_t numbers = inner_ / groups_;
    for (const Axis& a : axes_) numbers = product(numbers, a.kernel, name_);
    if (core.count != uint64_t(product(region.hidden ? region.hidden : out_.channels, numbers, name_)))  // before anything is as large as it says
        fail(name_, "a core has " + std::to_string(core.count) + " numbers");
    return int(numbers);
}

void RegionalConvolution::run(const Run& run) const {
    const int threads = run.threads.count(), most = images_at_once(run.batch, threads);
    uint8_t* map = run.scratch;
    uint8_t* own = map + map_bytes(most);
    for (int first = 0; first < run.batch; first += most) {
        const int images = std::min(most, run.batch - first);
        const float* in = run.values[input_] + first * in_.size();
        float* out = run.values[output_] + first * out_.size();
        const float* residual = residual_ < 0 ? nullptr : run.values[residual_] + first * out_.size();
        if (!direct_) fill_map(in, map, own, images, run.threads);
        if (planned_images_ != images || planned_threads_ != threads) plan(images, threads);
        run.threads.run(int(tasks_.size()), [&](int task, int thread) {
            run_task(tasks_[task], direct_ ? static_cast<const void*>(in) : map, out, residual, own + size_t(thread) * own_bytes_);
        });
    }
}

void RegionalConvolution::fill_map(const float* in, uint8_t* map, uint8_t* own, int images, Threads& threads) const {
    const int64_t rows = int64_t(map_size_[0]) * map_size_[1] * images;
    const int64_t tasks = std::min<int64_t>(rows, threads.count() == 1 ? 1 : int64_t(threads.count()) * TASKS_PER_THREAD);
    threads.run(int(tasks), [&](int task, int thread) {
        fill_rows(in, map, rows * task / tasks, rows * (task + 1) / tasks, own + size_t(thread) * own_bytes_);
    });
}

void RegionalConvolution::bias_alone(const Region& region, int positions, float* const* out, const float* const* residual) const {
    for (int p = 0; p < positions; p++)
        for (int o = 0; o < out_.channels; o++) {
            float v = region.bias[o] + (residual ? residual[p][o] : 0.0f);
            if (act_.clip) v = act_.low > v ? act_.low : v, v = act_.high < v ? act_.high : v;
            out[p][o] = v;
        }
}

void RegionalConvolution::finish(int positions, float* const* out, int first, int count) const {
    for (int p = 0; p < positions; p++) activate(act_.code, act_.a, act_.b, out[p] + first, count);
}

}  // namespace hscc
