// A network that is ready to run: its operations, the memory they share, and the time each takes.
#pragma once

#include "file.h"

namespace hscc {

// Memory aligned to 64 bytes that grows and keeps nothing when it does.
class Buffer {
public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer();
    // Throws Error if there is not as much.
    uint8_t* grow(size_t bytes);

private:
    uint8_t* data_ = nullptr;
    size_t bytes_ = 0;
};

class Program {
public:
    Program(File file, int threads);

    const std::string& card() const { return card_; }
    size_t input_count() const { return inputs_.size(); }
    size_t output_count() const { return outputs_.size(); }
    const Shape& input_shape(size_t index) const { return shapes_[inputs_[index]]; }
    const Shape& output_shape(size_t index) const { return shapes_[outputs_[index]]; }

    // Bytes of activations and scratch that a batch takes; one too large to run at once takes those of a part.
    size_t memory(int64_t batch) const;
    void limit_memory(size_t bytes) { memory_limit_ = bytes; }

    // Arrays have the channels first.
    void run(int64_t batch, const float* const* inputs, float* const* outputs);

    void profile(bool on);
    // One line per step: name, shape of its output, milliseconds per call.
    std::string profile_text() const;

private:
    struct Step {
        std::string name;
        Shape shape;
        double seconds;
    };

    int part(int64_t batch) const;
    size_t bytes(int images) const;
    size_t scratch_bytes(int images) const;
    void run_part(int batch, int64_t first, const float* const* inputs, float* const* outputs);
    template <class Work> void timed(size_t step, const Work& work);

    std::string card_;
    std::vector<Shape> shapes_;
    std::vector<int32_t> inputs_, outputs_;
    std::vector<std::unique_ptr<Op>> ops_;
    // Per value its first number for a batch of one; the place for a batch of n begins at n times that.
    std::vector<int64_t> offsets_;
    int64_t numbers_ = 0;  // of all values together, per image
    size_t memory_limit_ = size_t(128) << 20;
    std::unique_ptr<Threads> threads_;
    int thread_count_;
    int process_;
    Buffer activations_, scratch_;
    std::vector<float*> values_;
    bool profiling_ = false;
    int64_t calls_ = 0;
    std::vector<Step> steps_;
};

}  // namespace hscc
