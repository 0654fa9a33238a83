// What convolutions of float32 and of int8 numbers share: geometry, regions, and the cut into tasks.
#pragma once

#include <algorithm>

#include "pack.h"

namespace hscc {

constexpr int BLOCK = 160;                 // positions whose pointers are kept at once
constexpr size_t HIDDEN_BYTES = 16 << 10;  // of a block's hidden numbers: half of a small first-level cache
constexpr int TASKS_PER_THREAD = 4;        // at least; more where each is still long

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
    std::vector<float> bias;
    int panels = 0;   // of all cores
    size_t bytes = 0; // of weights
    double work = 0;  // per position, in products of vectors
};

struct Task {
    int region;
    int first_panel, last_panel;
    int64_t first, last;  // positions of all images, image by image
};

struct Axis {
    int kernel, stride, pad, dilation, up, in, out;
};

// The map is what the core reads: the input, converted, projected and padded as the operation needs it. Its numbers are
// of 4 bytes or of 1. Derived classes fill it, pack weights and multiply.
class RegionalConvolution : public Op {
public:
    size_t scratch_bytes(int batch, int threads) const override {
        return map_bytes(images_at_once(batch, threads)) + size_t(threads) * own_bytes_;
    }
    void run(const Run& run) const override;

protected:
    // Checks all but the weights. `quantised`: the map holds bytes, and scales follow the matrices.
    RegionalConvolution(const char* name, const Record& record, const std::vector<Shape>& shapes, bool quantised);

    // Fills rows first .. last-1 of the map of all images. `own` is memory of this thread.
    virtual void fill_rows(const float* in, uint8_t* map, int64_t first, int64_t last, uint8_t* own) const = 0;
    virtual void run_task(const Task& task, const void* map, float* out, const float* residual, uint8_t* own) const = 0;

    // Checks hidden size, decoder and core of a region; returns the core's inputs per output, 0 without a core.
    int check_region(const Record& record, int number);
    // Where the inputs of a patch lie, in the order of the core's numbers: depth, row, column, channel. `channels`: of
    // the group, in the map (null: in order from 0).
    std::vector<int32_t> core_offsets(const int32_t* channels) const;
    // Memory of each thread.
    void need_own(size_t bytes) { own_bytes_ = std::max(own_bytes_, (bytes + 63) / 64 * 64); }
    // Pads rows of the map and calls row(from, to, filled) for each that has numbers of the input.
    template <class Row> void each_row(const float* in, uint8_t* map, int64_t first, int64_t last, const Row& row) const;
    // Outputs of positions whose region has no core.
    void bias_alone(const Region& region, int positions, float* const* out, const float* const* residual) const;
    // Activations that the kernels leave to others.
    void finish(int positions, float* const* out, int first, int count) const;
    // Hidden numbers of a position: each group's fill whole vectors.
    int padded(const Region& r) const { return r.hidden > 0 ? round_up(r.hidden / groups_, kernels().width) * groups_ : 0; }
    // Positions of a block that keeps so many bytes of hidden numbers for each.
    static int block_positions(size_t hidden_bytes) {
        return hidden_bytes ? std::clamp(int(HIDDEN_BYTES / hidden_bytes), MOST_POSITIONS, BLOCK) : BLOCK;
    }

    template <class Number> friend class Walk;

    const char* name_;
    Shape in_, out_;
    int projected_ = 0, groups_ = 1, inner_ = 0;
    Activation act_;
    std::vector<int32_t> permutation_;
    std::vector<Region> regions_;
    size_t number_bytes_;
    uint8_t padding_ = 0;      // each byte of the map's borders
    int map_stride_ = 0;       // numbers from one position of the map to the next

private:
    size_t map_bytes(int images) const {
        return direct_ ? 0 : (number_bytes_ * (size_t(images) * map_image_ + 64) + 63) / 64 * 64;
    }
    int images_at_once(int batch, int threads) const;
    void check_geometry();
    void place_regions(const Tensor& index, int regions);
    void plan(int images, int threads) const;
    void fill_map(const float* in, uint8_t* map, uint8_t* own, int images, Threads& threads) const;

    int input_ = 0, residual_ = -1, output_ = 0;
    Axis axes_[3];
    bool direct_ = false;      // the map is the input
    int map_size_[3] = {1, 1, 1};
    int64_t map_image_ = 0;
    size_t own_bytes_ = 0;
    mutable std::vector<Task> tasks_;
    mutable int planned_images_ = 0, planned_threads_ = 0;
};

template <class Row>
void RegionalConvolution::each_row(const float* in, uint8_t* map, int64_t first, int64_t last, const Row& row) const {
    const int width = map_size_[2];
    const size_t position = number_bytes_ * size_t(map_stride_);
    const int left = std::min(axes_[2].pad, width), filled = std::clamp(width - left, 0, in_.columns), right = width - left - filled;
    for (int64_t number = first; number < last; number++) {
        const int64_t y = number % map_size_[1] - axes_[1].pad, z = number / map_size_[1] % map_size_[0] - axes_[0].pad;
        const int64_t image = number / map_size_[1] / map_size_[0];
        uint8_t* to = map + size_t(number) * width * position;
        if (y < 0 || y >= in_.rows || z < 0 || z >= in_.depth) {
            __builtin_memset(to, padding_, width * position);
            continue;
        }
        __builtin_memset(to, padding_, left * position);
        to += left * position;
        __builtin_memset(to + filled * position, padding_, right * position);
        row(in + ((image * in_.depth + z) * in_.rows + y) * in_.columns * in_.channels, to, filled);
    }
}

// The positions of a task, block by block.
template <class Number> class Walk {
public:
    Walk(const RegionalConvolution& c, const Task& task, const Number* map, float* out, const float* residual, int most)
        : c_(c), task_(task), region_(c.regions_[task.region]), map_(map), out_(out), residual_(residual),
          blocks_(divide_up(task.last - task.first, most)), at_(task.first), image_(at_ / region_.positions) {
        segment_ = std::upper_bound(region_.segments.begin(), region_.segments.end(), at_ % region_.positions,
                                    [](int64_t place, const Segment& s) { return place < s.before; }) - 1;
        place_ = at_ % region_.positions - segment_->before;
    }

    // Fills the pointers of the next block; returns its positions, 0 behind the last.
    int next() {
        if (block_ == blocks_) return 0;
        const int64_t end = task_.first + (task_.last - task_.first) * ++block_ / blocks_;
        const int64_t step_in = int64_t(c_.axes_[2].stride) * c_.map_stride_, step_out = int64_t(c_.axes_[2].up) * c_.out_.channels;
        int n = 0;
        while (at_ < end) {
            const int64_t count = std::min<int64_t>(segment_->count - place_, end - at_);
            const Number* from = map_ + image_ * c_.map_image_ + segment_->in + place_ * step_in;
            const int64_t to = (image_ * c_.out_.positions() + segment_->out) * c_.out_.channels + place_ * step_out;
            for (int64_t i = 0; i < count; i++, n++) {
                in[n] = from + i * step_in;
                out[n] = out_ + to + i * step_out;
            }
            if (residual_)
                for (int64_t i = 0; i < count; i++) residuals_[n - count + i] = residual_ + to + i * step_out;
            at_ += count;
            place_ += count;
            if (place_ < segment_->count) continue;
            place_ = 0;
            if (++segment_ == region_.segments.end()) segment_ = region_.segments.begin(), image_++;
        }
        return n;
    }
    const float* const* residuals() const { return residual_ ? residuals_ : nullptr; }

    const Number* in[BLOCK];
    float* out[BLOCK];

private:
    const RegionalConvolution& c_;
    const Task task_;
    const Region& region_;
    const Number* map_;
    float* out_;
    const float* residual_;
    int64_t block_ = 0, blocks_, at_, image_, place_;
    std::vector<Segment>::const_iterator segment_;
    const float* residuals_[BLOCK];
};

}  // namespace hscc
