// All operations but convolutions and linear layers.
#include "simple_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "file.h"
#include "kernels.h"
#include "simple_loops.h"

namespace hscc {
namespace {

constexpr int64_t kTaskNumbers = 16384;  // less is not worth another thread
constexpr int kMostAct = 10;

// Calls body(first, last) over 0 .. items, in parts of some work each that do not depend on the number of threads.
template <class Body> void parallel(Threads& threads, int64_t items, int64_t numbers_each, const Body& body) {
    const int64_t least = std::max<int64_t>(1, kTaskNumbers / std::max<int64_t>(numbers_each, 1));
    const int64_t part = std::max(least, (items + 1023) / 1024);
    const auto tasks = int((items + part - 1) / part);
    if (tasks <= 1 || threads.count() == 1) {
        for (int64_t i = 0; i < items; i += part) body(i, std::min(items, i + part));
        return;
    }
    threads.run(tasks, [&](int task, int) { body(task * part, std::min(items, (task + 1) * part)); });
}

std::string text(int64_t number) { return std::to_string(number); }

void check(bool holds, const char* message) {
    if (!holds) throw Error(message);
}

// The numbers and values of one operation, counted before they are used.
class Reader {
public:
    Reader(const Record& record, const std::vector<Shape>& shapes) : record_(record), shapes_(shapes) {}
    void counts(size_t inputs, size_t ints, size_t floats, size_t tensors) const {
        one(record_.inputs.size(), inputs, "inputs");
        one(record_.ints.size(), ints, "integers");
        one(record_.floats.size(), floats, "floats");
        one(record_.tensors.size(), tensors, "tensors");
    }
    const Shape& in(size_t i = 0) const { return shapes_[record_.inputs[i]]; }
    const Shape& out() const { return shapes_[record_.output]; }
    int32_t integer(size_t i, int64_t least, int64_t most, const char* what) const {
        const int32_t x = record_.ints[i];
        if (x < least || x > most) throw Error(std::string(what) + " is " + text(x) + ", outside " + text(least) + " to " + text(most));
        return x;
    }
    // A float32 tensor of so many numbers, or none where `otherwise` fills it.
    std::vector<float> channels(size_t i, int64_t count, float otherwise) const {
        const Tensor& tensor = record_.tensors[i];
        if (tensor.absent()) return std::vector<float>(size_t(count), otherwise);
        if (int64_t(tensor.count) != count) throw Error("a tensor has " + text(int64_t(tensor.count)) + " numbers for " + text(count) + " channels");
        return read_floats(tensor);
    }

private:
    static void one(size_t is, size_t expected, const char* what) {
        if (is != expected) throw Error("it has " + text(int64_t(is)) + " " + what + ", not " + text(int64_t(expected)));
    }
    const Record& record_;
    const std::vector<Shape>& shapes_;
};

bool same_positions(const Shape& a, const Shape& b) { return a.depth == b.depth && a.rows == b.rows && a.columns == b.columns; }
bool same(const Shape& a, const Shape& b) { return a.channels == b.channels && same_positions(a, b); }
void check_same(const Reader& r) { check(same(r.in(), r.out()), "its output has another shape than its input"); }
void check_same_channels(const Reader& r) { check(r.in().channels == r.out().channels, "its output has other channels than its input"); }
void check_same_positions(const Reader& r) { check(same_positions(r.in(), r.out()), "its output has other positions than its input"); }

struct Activation {
    int act = 0;
    float a = 0, b = 0;
    Activation() = default;
    // The integer at `at`; the last two floats.
    Activation(const Reader& r, const Record& record, size_t at)
        : act(r.integer(at, 0, kMostAct, "the activation")), a(record.floats.end()[-2]), b(record.floats.end()[-1]) {}
    void operator()(float* x, int64_t n) const {
        if (act) loops().activate(act, a, b, x, size_t(n));
    }
};

class Simple : public Op {
public:
    Simple(const Record& record, const std::vector<Shape>& shapes)
        : in_(shapes[record.inputs[0]]), out_(shapes[record.output]), input_(record.inputs[0]), output_(record.output), kind_(record.kind) {}
    const char* name() const override { return kind_name(kind_); }

protected:
    Shape in_, out_;
    int32_t input_, output_;
    Kind kind_;
};

// Position number within an image, as depth, row and column.
struct Place {
    int64_t d, h, w;
    Place(int64_t position, const Shape& shape)
        : d(position / (int64_t(shape.rows) * shape.columns)), h(position / shape.columns % shape.rows), w(position % shape.columns) {}
    int64_t operator[](int i) const { return i == 0 ? d : i == 1 ? h : w; }
};

// Calls body(image, place of the output, first channel, channels) in parallel; few positions are split over channels.
template <class Body> void over_positions(const Run& run, const Shape& out, int64_t numbers_each, const Body& body) {
    const int64_t positions = out.positions(), channels = out.channels;
    const int64_t part = numbers_each > kTaskNumbers ? std::min<int64_t>(channels, 64) : channels;
    const int64_t parts = (channels + part - 1) / part;
    parallel(run.threads, run.batch * positions * parts, numbers_each / parts, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; i++) {
            const int64_t c = i % parts * part, position = i / parts;
            body(position / positions, Place(position % positions, out), c, std::min(part, channels - c));
        }
    });
}

// Windows over positions: maximum or average.
class Pool : public Simple {
public:
    Pool(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes) {
        const Reader r(record, shapes);
        r.counts(1, 18, 2, 0);
        check_same_channels(r);
        average_ = r.integer(0, 0, 1, "the mode");
        const int32_t most = std::numeric_limits<int32_t>::max();
        for (int i = 0; i < 3; i++) {
            kernel_[i] = r.integer(1 + i, 1, most, "the kernel");
            stride_[i] = r.integer(4 + i, 1, most, "the stride");
            pad_[i] = r.integer(7 + i, 0, most, "the padding");
            dilation_[i] = r.integer(10 + i, 1, most, "the dilation");
            pad_after_[i] = r.integer(14 + i, 0, most, "the padding behind");
        }
        count_pad_ = r.integer(13, 0, 1, "count_include_pad");
        act_ = Activation(r, record, 17);
    }
    void run(const Run& run) const override {
        const float* x = run.values[input_];
        float* y = run.values[output_];
        const int64_t sizes[3] = {in_.depth, in_.rows, in_.columns};
        const int64_t steps[3] = {int64_t(in_.rows) * in_.columns * in_.channels, int64_t(in_.columns) * in_.channels, in_.channels};
        over_positions(run, out_, window_numbers(), [&](int64_t image, const Place& place, int64_t c, int64_t n) {
            const float* from = x + image * in_.size() + c;
            Box box;
            double cells = 1;
            for (int i = 0; i < 3; i++) {
                const int64_t start = place[i] * stride_[i] - pad_[i];
                const Taps inside(start, dilation_[i], kernel_[i], 0, sizes[i]);
                const Taps counted(start, dilation_[i], kernel_[i], -int64_t(pad_[i]), sizes[i] + pad_after_[i]);
                box.count[i] = inside.count;
                box.step[i] = steps[i] * dilation_[i];
                if (inside.count > 0) from += (start + inside.first * dilation_[i]) * steps[i];
                cells *= double(count_pad_ ? counted.count : inside.count);
            }
            float* to = y + image * out_.size() + ((place.d * out_.rows + place.h) * out_.columns + place.w) * out_.channels + c;
            if (average_) loops().box_sum(from, box, n, cells > 0 ? float(1 / cells) : 0, to);
            else loops().box_max(from, box, n, to);
            act_(to, n);
        });
    }

private:
    // Taps of a window that lie in low .. high - 1.
    struct Taps {
        int64_t first, count;
        Taps(int64_t start, int64_t dilation, int64_t kernel, int64_t low, int64_t high) {
            first = start < low ? (low - start + dilation - 1) / dilation : 0;
            const int64_t end = start < high ? std::min(kernel, (high - start + dilation - 1) / dilation) : 0;
            count = std::max<int64_t>(end - first, 0);
        }
    };
    int64_t window_numbers() const {
        double numbers = out_.channels;
        const int32_t sizes[3] = {in_.depth, in_.rows, in_.columns};
        for (int i = 0; i < 3; i++) numbers *= std::min(kernel_[i], sizes[i]);
        return int64_t(std::min(numbers, 1e15));
    }
    bool average_ = false, count_pad_ = false;
    int32_t kernel_[3], stride_[3], pad_[3], dilation_[3], pad_after_[3];
    Activation act_;
};

// Windows that divide the positions.
class AdaptivePool : public Simple {
public:
    AdaptivePool(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes) {
        const Reader r(record, shapes);
        r.counts(1, 2, 2, 0);
        check_same_channels(r);
        average_ = r.integer(0, 0, 1, "the mode");
        act_ = Activation(r, record, 1);
    }
    void run(const Run& run) const override {
        const float* x = run.values[input_];
        float* y = run.values[output_];
        const int64_t from_sizes[3] = {in_.depth, in_.rows, in_.columns}, to_sizes[3] = {out_.depth, out_.rows, out_.columns};
        const int64_t steps[3] = {int64_t(in_.rows) * in_.columns * in_.channels, int64_t(in_.columns) * in_.channels, in_.channels};
        const int64_t window = in_.size() / out_.positions() + out_.channels;
        over_positions(run, out_, window, [&](int64_t image, const Place& place, int64_t c, int64_t n) {
            const float* from = x + image * in_.size() + c;
            Box box;
            double cells = 1;
            for (int i = 0; i < 3; i++) {
                const int64_t start = place[i] * from_sizes[i] / to_sizes[i];
                const int64_t end = ((place[i] + 1) * from_sizes[i] + to_sizes[i] - 1) / to_sizes[i];
                box.count[i] = end - start;
                box.step[i] = steps[i];
                from += start * steps[i];
                cells *= double(end - start);
            }
            float* to = y + image * out_.size() + ((place.d * out_.rows + place.h) * out_.columns + place.w) * out_.channels + c;
            if (average_) loops().box_sum(from, box, n, float(1 / cells), to);
            else loops().box_max(from, box, n, to);
            act_(to, n);
        });
    }

private:
    bool average_ = false;
    Activation act_;
};

// Two values, number by number.
class Binary : public Simple {
public:
    Binary(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes), other_(0) {
        const Reader r(record, shapes);
        r.counts(2, 2, 2, 0);
        check_same(r);
        which_ = r.integer(0, 0, 5, "the function");
        act_ = Activation(r, record, 1);
        other_ = record.inputs[1];
        const Shape& b = r.in(1);
        if (same(b, in_)) spread_ = Spread::none;
        else if (b.positions() == 1 && b.channels == in_.channels) spread_ = Spread::positions;
        else if (b.channels == 1 && same_positions(b, in_)) spread_ = Spread::channels;
        else throw Error("its second input has a shape that does not go with the first's");
    }
    void run(const Run& run) const override {
        const float *a = run.values[input_], *b = run.values[other_];
        float* y = run.values[output_];
        const int64_t n = in_.channels, positions = in_.positions();
        if (spread_ == Spread::none)
            return parallel(run.threads, run.batch * in_.size(), 1, [&](int64_t first, int64_t last) {
                loops().binary(which_, a + first, b + first, 1, y + first, last - first);
                act_(y + first, last - first);
            });
        parallel(run.threads, run.batch * positions, n, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) {
                const bool channels = spread_ == Spread::channels;
                loops().binary(which_, a + i * n, channels ? b + i : b + i / positions * n, !channels, y + i * n, n);
            }
            act_(y + first * n, (last - first) * n);
        });
    }

private:
    enum class Spread { none, positions, channels };
    int which_ = 0;
    Spread spread_ = Spread::none;
    int32_t other_;
    Activation act_;
};

// A scale and a shift per channel, and an activation.
class Affine : public Simple {
public:
    Affine(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes) {
        const Reader r(record, shapes);
        r.counts(1, 1, 2, 2);
        check_same(r);
        act_ = Activation(r, record, 0);
        plain_ = record.tensors[0].absent() && record.tensors[1].absent();
        scale_ = r.channels(0, in_.channels, 1);
        shift_ = r.channels(1, in_.channels, 0);
        // Several positions' channels in a row, so that few channels take long loops too.
        const size_t n = scale_.size(), times = 1 + 255 / n;
        for (size_t i = n; i < n * times; i++) {
            scale_.push_back(scale_[i - n]);
            shift_.push_back(shift_[i - n]);
        }
    }
    void run(const Run& run) const override {
        const float* x = run.values[input_];
        float* y = run.values[output_];
        const int64_t n = in_.channels;
        parallel(run.threads, run.batch * in_.positions(), n, [&](int64_t first, int64_t last) {
            const int64_t end = last * n, most = int64_t(scale_.size());
            for (int64_t i = first * n; i < end; i += most) {
                const int64_t here = std::min(most, end - i);
                if (!plain_) loops().affine(x + i, scale_.data(), shift_.data(), y + i, here);
                else if (x != y) std::memcpy(y + i, x + i, size_t(here) * sizeof(float));
                act_(y + i, here);
            }
        });
    }

private:
    bool plain_ = false;
    std::vector<float> scale_, shift_;
    Activation act_;
};

// Channels of several values one after the other.
class Concat : public Simple {
public:
    Concat(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes), inputs_(record.inputs) {
        const Reader r(record, shapes);
        r.counts(record.inputs.size(), 0, 0, 0);
        int64_t sum = 0;
        for (size_t i = 0; i < inputs_.size(); i++) {
            check(same_positions(r.in(i), out_), "its inputs have other positions than its output");
            channels_.push_back(r.in(i).channels);
            sum += r.in(i).channels;
        }
        check(sum == out_.channels, "its output has other channels than its inputs together");
    }
    void run(const Run& run) const override {
        float* y = run.values[output_];
        parallel(run.threads, run.batch * out_.positions(), out_.channels, [&](int64_t first, int64_t last) {
            int64_t at = 0;
            for (size_t k = 0; k < inputs_.size(); k++) {
                const int64_t n = channels_[k];
                const float* x = run.values[inputs_[k]];
                for (int64_t i = first; i < last; i++)
                    std::memcpy(y + i * out_.channels + at, x + i * n, size_t(n) * sizeof(float));
                at += n;
            }
        });
    }

private:
    std::vector<int32_t> inputs_;
    std::vector<int64_t> channels_;
};

// Nearest or linear interpolation, as torch.nn.functional.interpolate, in float32 as there.
class Resize : public Simple {
public:
    Resize(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes) {
        const Reader r(record, shapes);
        r.counts(1, 2, 3, 0);
        check_same_channels(r);
        linear_ = r.integer(0, 0, 1, "the mode");
        align_ = r.integer(1, 0, 1, "align_corners");
        const int32_t from[3] = {in_.depth, in_.rows, in_.columns}, to[3] = {out_.depth, out_.rows, out_.columns};
        for (int i = 0; i < 3; i++) {
            const float given = record.floats[size_t(i)];
            check(given >= 0, "a scale is negative");
            axes_[i].from = from[i];
            axes_[i].to = to[i];
            if (linear_ && align_) axes_[i].scale = to[i] > 1 ? float(from[i] - 1) / float(to[i] - 1) : 0;
            else axes_[i].scale = given > 0 ? float(1.0 / double(given)) : float(from[i]) / float(to[i]);
        }
    }
    void run(const Run& run) const override {
        const float* x = run.values[input_];
        float* y = run.values[output_];
        const int64_t n = in_.channels;
        const int64_t steps[3] = {int64_t(in_.rows) * in_.columns * n, int64_t(in_.columns) * n, n};
        parallel(run.threads, run.batch * out_.positions(), n * 4, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) {
                const float* image = x + i / out_.positions() * in_.size();
                const Place place(i % out_.positions(), out_);
                float* to = y + i * n;
                if (!linear_) {
                    for (int a = 0; a < 3; a++) image += nearest(axes_[a], place[a]) * steps[a];
                    std::memcpy(to, image, size_t(n) * sizeof(float));
                    continue;
                }
                const float* taps[8] = {image};
                float weights[8] = {1};
                int count = 1;
                for (int a = 0; a < 3; a++) {  // each axis that is resized doubles the taps
                    const Two two(axes_[a], place[a], align_);
                    for (int k = 0; k < count; k++) {
                        if (axes_[a].from > 1) {
                            taps[count + k] = taps[k] + two.second * steps[a];
                            weights[count + k] = weights[k] * two.weight;
                            weights[k] *= 1 - two.weight;
                        }
                        taps[k] += two.first * steps[a];
                    }
                    if (axes_[a].from > 1) count *= 2;
                }
                loops().blend(taps, weights, count, to, n);
            }
        });
    }

private:
    struct Axis {
        int64_t from = 1, to = 1;
        float scale = 1;
    };
    // The float as a whole number in 0 .. most; a hostile scale may make it anything.
    static int64_t whole(float x, int64_t most) { return x >= float(most) ? most : x > 0 ? std::min(int64_t(x), most) : 0; }
    static int64_t nearest(const Axis& axis, int64_t i) {
        if (axis.from == axis.to) return i;
        if (axis.to == 2 * axis.from) return i / 2;
        return whole(std::floor(float(i) * axis.scale), axis.from - 1);
    }
    struct Two {
        int64_t first, second;
        float weight;  // of the second
        Two(const Axis& axis, int64_t i, bool align) : first(i), second(i), weight(0) {
            if (axis.from == axis.to) return;
            const float at = align ? axis.scale * float(i) : std::max(axis.scale * (float(i) + 0.5f) - 0.5f, 0.0f);
            first = whole(at, axis.from - 1);
            second = std::min(first + 1, axis.from - 1);
            weight = std::clamp(at - float(first), 0.0f, 1.0f);
        }
    };
    bool linear_ = false, align_ = false;
    Axis axes_[3];
};

// Channels by their number.
class Select : public Simple {
public:
    Select(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes) {
        const Reader r(record, shapes);
        r.counts(1, 0, 0, 1);
        check_same_positions(r);
        const Tensor& tensor = record.tensors[0];
        check(tensor.dtype == DType::i32 && int64_t(tensor.count) == out_.channels, "its channel numbers do not fit its output");
        index_.resize(tensor.count);
        std::memcpy(index_.data(), tensor.data, tensor.count * 4);
        for (const int32_t c : index_) check(c >= 0 && c < in_.channels, "it selects a channel that its input does not have");
        range_ = true;
        for (size_t i = 1; i < index_.size(); i++) range_ = range_ && index_[i] == index_[0] + int32_t(i);
    }
    void run(const Run& run) const override {
        const float* x = run.values[input_];
        float* y = run.values[output_];
        const int64_t n = out_.channels;
        parallel(run.threads, run.batch * out_.positions(), n, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) {
                if (range_) std::memcpy(y + i * n, x + i * in_.channels + index_[0], size_t(n) * sizeof(float));
                else loops().gather(x + i * in_.channels, index_.data(), y + i * n, n);
            }
        });
    }

private:
    std::vector<int32_t> index_;
    bool range_ = false;
};

// Over channels.
class Softmax : public Simple {
public:
    Softmax(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes) {
        const Reader r(record, shapes);
        r.counts(1, 0, 0, 0);
        check_same(r);
    }
    void run(const Run& run) const override {
        const float* x = run.values[input_];
        float* y = run.values[output_];
        const int64_t n = in_.channels;
        parallel(run.threads, run.batch * in_.positions(), n * 8, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) loops().softmax(x + i * n, y + i * n, n);
        });
    }
};

// Positions added at the borders or taken away.
class Pad : public Simple {
public:
    Pad(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes) {
        const Reader r(record, shapes);
        r.counts(1, 6, 1, 0);
        check_same_channels(r);
        value_ = record.floats[0];
        const int32_t from[3] = {in_.depth, in_.rows, in_.columns}, to[3] = {out_.depth, out_.rows, out_.columns};
        for (int i = 0; i < 3; i++) {
            before_[i] = record.ints[size_t(i)];
            check(int64_t(from[i]) + before_[i] + record.ints[size_t(3 + i)] == to[i], "its output's positions are not its input's and the padding's");
        }
    }
    void run(const Run& run) const override {
        const float* x = run.values[input_];
        float* y = run.values[output_];
        const int64_t n = in_.channels, row = out_.columns * n, lines = int64_t(out_.depth) * out_.rows;
        // Columns of the output that come from the input.
        const int64_t begin = std::clamp<int64_t>(before_[2], 0, out_.columns);
        const int64_t end = std::clamp<int64_t>(before_[2] + int64_t(in_.columns), begin, out_.columns);
        parallel(run.threads, run.batch * lines, row, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) {
                const int64_t d = i % lines / out_.rows - before_[0], h = i % out_.rows - before_[1];
                float* to = y + i * row;
                if (d < 0 || d >= in_.depth || h < 0 || h >= in_.rows || begin == end) {
                    std::fill(to, to + row, value_);
                    continue;
                }
                const float* from = x + i / lines * in_.size() + ((d * in_.rows + h) * in_.columns + (begin - before_[2])) * n;
                std::fill(to, to + begin * n, value_);
                std::memcpy(to + begin * n, from, size_t((end - begin) * n) * sizeof(float));
                std::fill(to + end * n, to + row, value_);
            }
        });
    }

private:
    int64_t before_[3];
    float value_ = 0;
};

// Layer norm over the channels of each position, or group norm over positions and channels.
class Norm : public Simple {
public:
    Norm(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes) {
        const Reader r(record, shapes);
        r.counts(1, 2, 3, 2);
        check_same(r);
        groups_ = r.integer(0, 0, in_.channels, "the number of groups");
        check(groups_ == 0 || in_.channels % groups_ == 0, "its groups do not divide its channels");
        eps_ = record.floats[0];
        check(eps_ >= 0, "its epsilon is negative");
        act_ = Activation(r, record, 1);
        weight_ = r.channels(0, in_.channels, 1);
        bias_ = r.channels(1, in_.channels, 0);
    }
    // Per block mean and squares of each channel, and per image the scale and shift made of them.
    size_t scratch_bytes(int batch, int) const override {
        return groups_ ? size_t(batch) * size_t(2 * blocks() + 2) * size_t(in_.channels) * sizeof(float) : 0;
    }
    void run(const Run& run) const override {
        const float* x = run.values[input_];
        float* y = run.values[output_];
        const int64_t n = in_.channels, positions = in_.positions();
        if (groups_ == 0)
            return parallel(run.threads, run.batch * positions, n * 4, [&](int64_t first, int64_t last) {
                for (int64_t i = first; i < last; i++) loops().layer_norm(x + i * n, weight_.data(), bias_.data(), eps_, y + i * n, n);
                act_(y + first * n, (last - first) * n);
            });
        auto* statistics = reinterpret_cast<float*>(run.scratch);
        float* affine = statistics + run.batch * blocks() * 2 * n;
        parallel(run.threads, run.batch * blocks(), 2 * kBlock * n, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) {
                const int64_t p = i % blocks() * kBlock;
                float* mean = statistics + i * 2 * n;
                loops().moments(x + (i / blocks() * positions + p) * n, std::min(kBlock, positions - p), n, mean, mean + n);
            }
        });
        parallel(run.threads, run.batch * groups_, blocks() * (n / groups_) * 4, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) merge(statistics, affine, i / groups_, i % groups_);
        });
        parallel(run.threads, run.batch * positions, n * 2, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) {
                const float* scale = affine + i / positions * 2 * n;
                loops().affine(x + i * n, scale, scale + n, y + i * n, n);
            }
            act_(y + first * n, (last - first) * n);
        });
    }

private:
    static constexpr int64_t kBlock = 128;  // positions
    int64_t blocks() const { return (in_.positions() + kBlock - 1) / kBlock; }
    // Means and squared deviations of parts give those of the whole: Chan, Golub and LeVeque, 1983.
    void merge(const float* statistics, float* affine, int64_t image, int64_t group) const {
        const int64_t n = in_.channels, width = n / groups_, from = group * width;
        double count = 0, mean = 0, squares = 0;
        for (int64_t b = 0; b < blocks(); b++) {
            const float* means = statistics + (image * blocks() + b) * 2 * n;
            const auto rows = double(std::min(kBlock, in_.positions() - b * kBlock));
            for (int64_t c = from; c < from + width; c++) {
                const double off = means[c] - mean, all = count + rows;
                mean += off * rows / all;
                squares += means[n + c] + off * off * count * rows / all;
                count = all;
            }
        }
        const double factor = 1 / std::sqrt(squares / count + double(eps_));
        float* scale = affine + image * 2 * n;
        for (int64_t c = from; c < from + width; c++) {
            scale[c] = float(factor * weight_[size_t(c)]);
            scale[n + c] = float(bias_[size_t(c)] - mean * factor * weight_[size_t(c)]);
        }
    }
    int groups_ = 0;
    float eps_ = 0;
    std::vector<float> weight_, bias_;
    Activation act_;
};

// The same numbers, channels first, in another shape.
class Reshape : public Simple {
public:
    Reshape(const Record& record, const std::vector<Shape>& shapes) : Simple(record, shapes) {
        const Reader r(record, shapes);
        r.counts(1, 0, 0, 0);
        check(in_.size() == out_.size(), "its output has another count of numbers than its input");
        // Both layouts are the same for one channel or one position.
        moves_ = in_.channels != out_.channels;
    }
    size_t scratch_bytes(int batch, int) const override {
        return moves_ ? size_t(batch) * size_t(in_.size()) * sizeof(float) : 0;
    }
    void run(const Run& run) const override {
        auto* between = reinterpret_cast<float*>(run.scratch);
        if (!moves_) {
            const auto bytes = size_t(run.batch) * size_t(in_.size()) * sizeof(float);
            std::memcpy(run.values[output_], run.values[input_], bytes);
            return;
        }
        channels_first(run.threads, run.batch, in_, run.values[input_], between);
        channels_last(run.threads, run.batch, out_, between, run.values[output_]);
    }

private:
    bool moves_ = false;
};

// Per image rows x columns to columns x rows, split along the longer side.
void transpose(Threads& threads, int batch, int64_t rows, int64_t columns, const float* from, float* to) {
    const int64_t numbers = rows * columns;
    if (rows == 1 || columns == 1)
        return parallel(threads, batch * numbers, 1, [&](int64_t first, int64_t last) {
            std::memcpy(to + first, from + first, size_t(last - first) * sizeof(float));
        });
    const bool wide = columns >= rows;
    const int64_t side = wide ? columns : rows, other = wide ? rows : columns;
    const int64_t part = std::max<int64_t>(16, kTaskNumbers / other / 16 * 16), parts = (side + part - 1) / part;
    parallel(threads, batch * parts, part * other, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; i++) {
            const int64_t at = i % parts * part, n = std::min(part, side - at);
            const float* x = from + i / parts * numbers;
            float* y = to + i / parts * numbers;
            if (wide) loops().transpose(x + at, columns, rows, n, y + at * rows, rows);
            else loops().transpose(x + at * columns, columns, n, columns, y + at, rows);
        }
    });
}

}  // namespace

const Loops& loops() {
    static const Loops& chosen = [&]() -> const Loops& {
#if defined(__x86_64__)
        if (!std::strncmp(kernels().name, "avx512", 6)) return avx512_loops;
        if (!std::strcmp(kernels().name, "avx2")) return avx2_loops;
#endif
        return portable_loops;
    }();
    return chosen;
}

void activate(int act, float a, float b, float* x, size_t n) { loops().activate(act, a, b, x, n); }

void channels_last(Threads& threads, int batch, const Shape& shape, const float* from, float* to) {
    transpose(threads, batch, shape.channels, shape.positions(), from, to);
}

void channels_first(Threads& threads, int batch, const Shape& shape, const float* from, float* to) {
    transpose(threads, batch, shape.positions(), shape.channels, from, to);
}

std::unique_ptr<Op> make_simple(const Record& record, const std::vector<Shape>& shapes) {
    switch (record.kind) {
        case Kind::pool: return std::make_unique<Pool>(record, shapes);
        case Kind::adaptive_pool: return std::make_unique<AdaptivePool>(record, shapes);
        case Kind::binary: return std::make_unique<Binary>(record, shapes);
        case Kind::affine: return std::make_unique<Affine>(record, shapes);
        case Kind::concat: return std::make_unique<Concat>(record, shapes);
        case Kind::resize: return std::make_unique<Resize>(record, shapes);
        case Kind::select: return std::make_unique<Select>(record, shapes);
        case Kind::softmax: return std::make_unique<Softmax>(record, shapes);
        case Kind::pad: return std::make_unique<Pad>(record, shapes);
        case Kind::norm: return std::make_unique<Norm>(record, shapes);
        case Kind::reshape: return std::make_unique<Reshape>(record, shapes);
        default: throw Error("it cannot be run");
    }
}

}  // namespace hscc
