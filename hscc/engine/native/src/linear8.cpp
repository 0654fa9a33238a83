// Linear layers of 8-bit integers: a quarter of the bytes to read.
#include "quantised.h"

namespace hscc {
namespace {

constexpr const char* NAME = "linear layer of int8";
constexpr int TASKS_PER_THREAD = 4;
constexpr int BLOCK = 60;  // images at once

class Linear8 final : public Op {
public:
    Linear8(const Record& record, const std::vector<Shape>& shapes);
    size_t scratch_bytes(int batch, int) const override { return size_t(batch) * (input_stride_ + hidden_stride_) + 64; }
    void run(const Run& run) const override;
    const char* name() const override { return NAME; }

private:
    // Bytes between images: whole vectors, and not so that all images share few sets of the first-level cache.
    static size_t stride_of(int n) { return size_t(round_up(n, 64)) + 64; }
    void multiply(const BytePacked& weights, int batch, const uint8_t* in, size_t in_stride, const ByteBlock& to, uint8_t* hidden,
                  float* out, const float* residual, Threads& threads) const;

    int input_, residual_ = -1, output_;
    int inputs_, outputs_;
    Activation act_;
    Stage stage_, hidden_stage_;
    std::vector<float> bias_;
    BytePacked encoder_, weight_;
    size_t input_stride_ = 0, hidden_stride_ = 0;
};

Linear8::Linear8(const Record& record, const std::vector<Shape>& shapes) {
    if (record.ints.size() != 2) fail(NAME, "there must be two numbers");
    if (record.inputs.size() != 1 && record.inputs.size() != 2) fail(NAME, "there must be one or two inputs");
    if (record.tensors.size() != 5) fail(NAME, "there must be five tensors");
    if (record.floats.size() != 6) fail(NAME, "there must be a scale and a zero point per stage");
    input_ = record.inputs[0];
    output_ = record.output;
    const int64_t inputs = shape_of(NAME, shapes, input_).size();
    if (inputs > INT32_MAX - 128) fail(NAME, "there are too many inputs");
    inputs_ = int(inputs);
    const Shape& out = shape_of(NAME, shapes, output_);
    if (out.positions() != 1) fail(NAME, "the output has more than one position");
    outputs_ = out.channels;
    if (record.inputs.size() == 2) {
        residual_ = record.inputs[1];
        if (shape_of(NAME, shapes, residual_).size() != outputs_) fail(NAME, "the value to add has another shape than the output");
    }
    const int hidden = record.ints[0];
    act_ = Activation(NAME, record.ints[1], record.floats);
    stage_ = stage_of(NAME, record, 0);
    if (hidden < 0) fail(NAME, "the hidden size is negative");
    if ((hidden == 0) != record.tensors[0].absent()) fail(NAME, "there must be an encoder if, and only if, the hidden size is above 0");
    if (record.tensors[0].count != uint64_t(product(hidden, inputs_, NAME)))  // before anything is as large as it says
        fail(NAME, "the encoder has " + std::to_string(record.tensors[0].count) + " numbers");
    input_stride_ = stride_of(inputs_);
    bias_ = padded_floats(record.tensors[4], outputs_, NAME, "the bias");
    const auto pack = [&](const Tensor* tensors, int n, int k, const Stage& from, const Stage* to, const float* bias) {
        // Few outputs are still work for several threads.
        const int most = n <= 8 * kernels().width ? 1 : 2;
        return BytePacked(NAME, tensors, n, 0, n, counting(k), from, to, bias, 0, 0, most);
    };
    if (hidden) {
        hidden_stage_ = stage_of(NAME, record, 1);
        hidden_stride_ = stride_of(hidden);
        encoder_ = pack(record.tensors.data(), hidden, inputs_, stage_, &hidden_stage_, nullptr);
    }
    weight_ = pack(record.tensors.data() + 2, outputs_, hidden ? hidden : inputs_, hidden ? hidden_stage_ : stage_, nullptr, bias_.data());
}

// `hidden` or `out`: where the outputs go.
void Linear8::multiply(const BytePacked& weights, int batch, const uint8_t* in, size_t in_stride, const ByteBlock& to, uint8_t* hidden,
                       float* out, const float* residual, Threads& threads) const {
    const auto& panels = weights.panels();
    const int count = int(panels.size());
    const int tasks = std::min(count, threads.count() == 1 ? 1 : threads.count() * TASKS_PER_THREAD);
    threads.run(tasks, [&](int task, int) {
        const uint8_t* ins[BLOCK];
        uint8_t* hiddens[BLOCK];
        float* outs[BLOCK];
        const float* residuals[BLOCK];
        ByteBlock block = to;
        block.in = ins;
        block.bytes = hidden ? hiddens : nullptr;
        block.out = outs;
        block.residual = residual ? residuals : nullptr;
        const int first = int(int64_t(count) * task / tasks), end = int(int64_t(count) * (task + 1) / tasks);
        for (int p = first; p < end; p++)
            for (int image = 0; image < batch; image += BLOCK) {
                block.positions = std::min(BLOCK, batch - image);
                for (int i = 0; i < block.positions; i++) {
                    ins[i] = in + size_t(image + i) * in_stride;
                    hiddens[i] = hidden ? hidden + size_t(image + i) * hidden_stride_ : nullptr;
                    outs[i] = out ? out + size_t(image + i) * outputs_ : nullptr;
                    residuals[i] = residual ? residual + size_t(image + i) * outputs_ : nullptr;
                }
                kernels().multiply_bytes(panels[p], block);
                if (out && act_.after())
                    for (int i = 0; i < block.positions; i++) activate(act_.code, act_.a, act_.b, outs[i] + panels[p].output, panels[p].valid);
            }
    });
}

void Linear8::run(const Run& run) const {
    uint8_t* in = run.scratch;
    const int parts = run.batch == 1 ? 1 : std::min(run.batch, run.threads.count() * TASKS_PER_THREAD);
    run.threads.run(parts, [&](int part, int) {
        for (int64_t i = int64_t(run.batch) * part / parts; i < int64_t(run.batch) * (part + 1) / parts; i++)
            kernels().quantise(run.values[input_] + i * inputs_, stage_.scale, stage_.zero, in + size_t(i) * input_stride_, inputs_);
    });
    const float* residual = residual_ < 0 ? nullptr : run.values[residual_];
    ByteBlock last = {};
    last.clip = act_.clip;
    last.low = act_.low;
    last.high = act_.high;
    size_t stride = input_stride_;
    if (hidden_stride_) {
        ByteBlock inner = {};
        inner.zero = hidden_stage_.zero;
        inner.whole_vectors = true;
        uint8_t* hidden = in + size_t(run.batch) * input_stride_;
        multiply(encoder_, run.batch, in, stride, inner, hidden, nullptr, nullptr, run.threads);
        in = hidden;
        stride = hidden_stride_;
    }
    multiply(weight_, run.batch, in, stride, last, nullptr, run.values[output_], residual, run.threads);
}

}  // namespace

std::unique_ptr<Op> make_linear8(const Record& record, const std::vector<Shape>& shapes) {
    return std::make_unique<Linear8>(record, shapes);
}

}  // namespace hscc
