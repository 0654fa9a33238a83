#include "program.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

#include "simple_ops.h"

namespace hscc {
namespace {

constexpr int64_t kAlign = 16, kSlack = 64;  // numbers
constexpr int kMostImages = 1024;            // in one part of a batch

// When a value is needed: from the step that writes it to the last that reads it.
struct Life {
    int32_t value, first, last;
    int64_t numbers;
};

// Whether the operation reads each number of this input for the last time before it writes that number of its output.
bool works_in_place(const Record& record, size_t input, const std::vector<Shape>& shapes) {
    const Shape& from = shapes[record.inputs[input]];
    const Shape& to = shapes[record.output];
    const bool same = from.channels == to.channels && from.depth == to.depth && from.rows == to.rows && from.columns == to.columns;
    switch (record.kind) {
        case Kind::affine: case Kind::softmax: return same;
        // An input that is read again for other numbers has another shape.
        case Kind::binary: return same;
        default: return false;
    }
}

// Gives each value that is written a place; values that are needed at the same time do not overlap. Returns the
// numbers of all places together. Large values come first, each at the lowest place that is free during its life.
int64_t plan(const File& file, std::vector<int64_t>& offsets) {
    const auto steps = int32_t(file.records.size());
    std::vector<int32_t> first(file.values.size(), -2), last(file.values.size(), -2);
    for (const int32_t id : file.inputs) first[id] = last[id] = -1;
    for (int32_t s = 0; s < steps; s++) {
        for (const int32_t id : file.records[s].inputs) last[id] = s;
        first[file.records[s].output] = last[file.records[s].output] = s;
    }
    for (const int32_t id : file.outputs) last[id] = steps;

    // A value that is written in place of another shares that one's place.
    std::vector<int32_t> owner(file.values.size());
    for (size_t i = 0; i < owner.size(); i++) owner[i] = int32_t(i);
    for (int32_t s = 0; s < steps; s++) {
        const Record& record = file.records[s];
        for (size_t i = 0; i < record.inputs.size(); i++) {
            const int32_t id = record.inputs[i];
            if (last[id] != s || !works_in_place(record, i, file.values)) continue;
            owner[record.output] = owner[id];
            break;
        }
    }
    std::vector<Life> lives;
    std::vector<int32_t> index(file.values.size(), -1);
    for (size_t i = 0; i < owner.size(); i++) {
        if (first[i] == -2 || owner[i] != int32_t(i)) continue;
        index[i] = int32_t(lives.size());
        const int64_t numbers = (file.values[i].size() + kAlign - 1) / kAlign * kAlign + kSlack;
        lives.push_back({int32_t(i), first[i], last[i], numbers});
    }
    for (size_t i = 0; i < owner.size(); i++)
        if (owner[i] != int32_t(i)) lives[index[owner[i]]].last = std::max(lives[index[owner[i]]].last, last[i]);

    std::sort(lives.begin(), lives.end(), [](const Life& a, const Life& b) {
        return a.numbers != b.numbers ? a.numbers > b.numbers : a.value < b.value;
    });
    offsets.assign(file.values.size(), -1);
    std::vector<const Life*> placed;  // by their place
    int64_t total = 0;
    for (const Life& life : lives) {
        int64_t at = 0;
        for (const Life* other : placed) {
            if (other->last < life.first || life.last < other->first) continue;
            const int64_t start = offsets[other->value];
            if (at + life.numbers <= start) break;
            at = std::max(at, start + other->numbers);
        }
        offsets[life.value] = at;
        total = std::max(total, at + life.numbers);
        placed.insert(std::upper_bound(placed.begin(), placed.end(), at,
                                       [&](int64_t place, const Life* other) { return place < offsets[other->value]; }),
                      &life);
    }
    for (size_t i = 0; i < owner.size(); i++) offsets[i] = offsets[owner[i]];
    return total;
}

std::unique_ptr<Op> make_op(const Record& record, const std::vector<Shape>& shapes) {
    switch (record.kind) {
        case Kind::conv: return make_conv(record, shapes);
        case Kind::linear: return make_linear(record, shapes);
        case Kind::conv8: return make_conv8(record, shapes);
        case Kind::linear8: return make_linear8(record, shapes);
        default: return make_simple(record, shapes);
    }
}

double gibibytes(double bytes) { return bytes / double(1 << 30); }

std::string rounded(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", x);
    return text;
}

void check_memory(double bytes) {
    const double there = double(sysconf(_SC_PHYS_PAGES)) * double(sysconf(_SC_PAGESIZE));
    if (there > 0 && bytes > there)
        throw Error("one image takes " + rounded(gibibytes(bytes)) + " GiB of memory; this machine has " +
                    rounded(gibibytes(there)) + " GiB");
}

std::string shape_text(const Shape& s) {
    std::string text = std::to_string(s.channels);
    const int32_t sizes[] = {s.depth, s.rows, s.columns};
    int i = 0;
    while (i < 3 && sizes[i] == 1) i++;
    for (; i < 3; i++) text += "x" + std::to_string(sizes[i]);
    return text;
}

}  // namespace

Buffer::~Buffer() { std::free(data_); }

uint8_t* Buffer::grow(size_t bytes) {
    if (bytes <= bytes_) return data_;
    std::free(data_);
    bytes_ = 0;
    void* data = nullptr;
    if (posix_memalign(&data, 64, bytes)) data = nullptr;
    data_ = static_cast<uint8_t*>(data);
    if (!data_) throw Error("there is not enough memory for " + rounded(double(bytes) / double(1 << 20)) + " MiB of activations");
    bytes_ = bytes;
    return data_;
}

Program::Program(File file, int threads)
    : card_(std::move(file.card)), threads_(std::make_unique<Threads>(threads)), thread_count_(threads), process_(int(getpid())) {
    numbers_ = plan(file, offsets_);
    check_memory(double(numbers_) * sizeof(float));
    shapes_ = std::move(file.values);
    inputs_ = std::move(file.inputs);
    outputs_ = std::move(file.outputs);
    for (const int32_t id : inputs_) steps_.push_back({"input", shapes_[id], 0});
    for (size_t i = 0; i < file.records.size(); i++) {
        const Record& record = file.records[i];
        try {
            ops_.push_back(make_op(record, shapes_));
        } catch (const Error& error) {
            throw Error("operation " + std::to_string(i) + " (" + kind_name(record.kind) + "): " + error.what());
        }
        steps_.push_back({ops_.back()->name(), shapes_[record.output], 0});
    }
    for (const int32_t id : outputs_) steps_.push_back({"output", shapes_[id], 0});
    check_memory(double(numbers_) * sizeof(float) + double(scratch_bytes(1)));
    values_.assign(shapes_.size(), nullptr);
}

// Images of one part: as many as the limit allows, in parts as equal as can be.
int Program::part(int64_t batch) const {
    int most = 1;
    for (int step = kMostImages; step; step /= 2) {
        const int more = most + step;
        if (more <= std::min<int64_t>(batch, kMostImages) && bytes(more) <= memory_limit_) most = more;
    }
    const int64_t parts = (batch + most - 1) / most;
    return int((batch + parts - 1) / parts);
}

size_t Program::bytes(int images) const {
    return size_t(numbers_) * sizeof(float) * size_t(images) + scratch_bytes(images);
}

size_t Program::scratch_bytes(int images) const {
    size_t most = 0;
    for (const auto& op : ops_) most = std::max(most, op->scratch_bytes(images, thread_count_));
    return most;
}

size_t Program::memory(int64_t batch) const {
    return bytes(part(std::max<int64_t>(batch, 1)));
}

void Program::run(int64_t batch, const float* const* inputs, float* const* outputs) {
    if (batch < 0) throw Error("the batch is " + std::to_string(batch) + ", which must not be negative");
    if (batch == 0) return;
    if (process_ != int(getpid())) {  // A fork takes no threads along; the old pool can be neither used nor ended here.
        (void)threads_.release();
        threads_ = std::make_unique<Threads>(thread_count_);
        process_ = int(getpid());
    }
    const int images = part(batch);
    for (int64_t first = 0; first < batch; first += images)
        run_part(int(std::min<int64_t>(images, batch - first)), first, inputs, outputs);
    calls_ += profiling_;
}

template <class Work> void Program::timed(size_t step, const Work& work) {
    if (!profiling_) return work();
    const auto start = std::chrono::steady_clock::now();
    work();
    steps_[step].seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Program::run_part(int batch, int64_t first, const float* const* inputs, float* const* outputs) {
    auto* base = reinterpret_cast<float*>(activations_.grow(size_t(numbers_) * sizeof(float) * size_t(batch)));
    for (size_t i = 0; i < values_.size(); i++) values_[i] = offsets_[i] < 0 ? nullptr : base + offsets_[i] * batch;
    const Run run{batch, values_, *threads_, scratch_.grow(scratch_bytes(batch))};
    size_t step = 0;
    for (size_t i = 0; i < inputs_.size(); i++, step++) {
        const Shape& shape = shapes_[inputs_[i]];
        timed(step, [&] { channels_last(*threads_, batch, shape, inputs[i] + first * shape.size(), values_[inputs_[i]]); });
    }
    for (const auto& op : ops_) timed(step++, [&] { op->run(run); });
    for (size_t i = 0; i < outputs_.size(); i++, step++) {
        const Shape& shape = shapes_[outputs_[i]];
        timed(step, [&] { channels_first(*threads_, batch, shape, values_[outputs_[i]], outputs[i] + first * shape.size()); });
    }
}

void Program::profile(bool on) {
    profiling_ = on;
    calls_ = 0;
    for (Step& step : steps_) step.seconds = 0;
}

std::string Program::profile_text() const {
    std::string text;
    for (const Step& step : steps_) {
        char milliseconds[40];
        std::snprintf(milliseconds, sizeof milliseconds, "%.6f", step.seconds * 1e3 / double(std::max<int64_t>(calls_, 1)));
        text += step.name + "\t" + shape_text(step.shape) + "\t" + milliseconds + "\n";
    }
    return text;
}

}  // namespace hscc
