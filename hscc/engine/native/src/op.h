// What the executor and the operations agree on. Activations are NHWC: batch, depth, row, column, channel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace hscc {

// A file that cannot be run, or a call that cannot be served; the text is for the user.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Shape {
    int32_t channels = 1, depth = 1, rows = 1, columns = 1;
    int64_t positions() const { return int64_t(depth) * rows * columns; }
    int64_t size() const { return positions() * channels; }
};

enum class DType : uint32_t { f32 = 0, f16 = 1, bf16 = 2, i8 = 3, i32 = 4, u8 = 5 };

// A tensor inside the file's weights; the reader has checked that it lies inside and that floats are finite.
struct Tensor {
    DType dtype = DType::f32;
    const uint8_t* data = nullptr;
    uint64_t count = 0;  // 0: absent
    bool absent() const { return count == 0; }
};

enum class Kind : uint32_t {
    conv = 1, linear, pool, adaptive_pool, binary, affine, concat, resize, select, softmax, pad, norm, reshape,
    conv8, linear8,
};

// One operation as the file has it. Each operation's constructor checks its own numbers and throws Error.
struct Record {
    Kind kind;
    std::vector<int32_t> inputs;
    int32_t output = 0;
    std::vector<int32_t> ints;
    std::vector<float> floats;
    std::vector<Tensor> tensors;
};

// Runs body(task, thread) for task = 0 .. tasks-1 on all threads; tasks are taken in order by whichever thread is free.
class Threads {
public:
    explicit Threads(int count);
    ~Threads();
    int count() const;
    template <class Body> void run(int tasks, const Body& body) {
        run_raw(tasks, [](void* b, int task, int thread) { (*static_cast<const Body*>(b))(task, thread); }, (void*)&body);
    }

private:
    void run_raw(int tasks, void (*call)(void*, int, int), void* body);
    struct State;
    std::unique_ptr<State> state_;
};

// Memory of one run. `scratch` is shared by the operations, one after the other.
struct Run {
    int batch;                         // images in this run
    const std::vector<float*>& values; // per value id: batch x Shape::size() numbers, NHWC, 64-byte aligned, 64 numbers of slack behind
    Threads& threads;
    uint8_t* scratch;                  // at least what scratch_bytes asked for, 64-byte aligned
};

class Op {
public:
    virtual ~Op() = default;
    // Bytes of scratch that a run of so many images needs.
    virtual size_t scratch_bytes(int batch, int threads) const { (void)batch; (void)threads; return 0; }
    virtual void run(const Run& run) const = 0;
    virtual const char* name() const = 0;
};

// `shapes` holds all values of the program. Weights are packed here; the record's tensors may go away afterwards.
std::unique_ptr<Op> make_conv(const Record&, const std::vector<Shape>& shapes);    // conv.cpp
std::unique_ptr<Op> make_linear(const Record&, const std::vector<Shape>& shapes);  // linear.cpp
std::unique_ptr<Op> make_conv8(const Record&, const std::vector<Shape>& shapes);   // conv8.cpp
std::unique_ptr<Op> make_linear8(const Record&, const std::vector<Shape>& shapes); // linear8.cpp
std::unique_ptr<Op> make_simple(const Record&, const std::vector<Shape>& shapes);  // simple_ops.cpp, all other kinds

// Numbers of a tensor as float32 (f32, f16, bf16).
std::vector<float> read_floats(const Tensor&);                                     // file.cpp

// act(x) as the format numbers them, applied to n numbers in place; a and b are the activation's parameters.
void activate(int act, float a, float b, float* x, size_t n);                      // simple_ops.cpp

}  // namespace hscc
