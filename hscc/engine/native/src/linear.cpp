// Linear layers, dense or low rank: weights are read once per run, in the order in which they lie in memory.
#include <algorithm>
#include <cstring>

#include "pack.h"

namespace hscc {
namespace {

constexpr const char* NAME = "linear layer";
constexpr int TASKS_PER_THREAD = 4;
constexpr int BLOCK = 56;  // images at once

class Linear final : public Op {
public:
    Linear(const Record& record, const std::vector<Shape>& shapes);
    size_t scratch_bytes(int batch, int) const override {
        return sizeof(float) * (copy_floats(batch) + size_t(batch) * hidden_stride_ + 64);
    }
    void run(const Run& run) const override;
    const char* name() const override { return NAME; }

private:
    // Images a multiple of 2 kB apart fall into few sets of the first-level cache: they are moved apart.
    bool copies(int batch) const { return batch > 1 && inputs_ % 512 == 0; }
    size_t copy_floats(int batch) const { return copies(batch) ? size_t(batch) * (inputs_ + 16) : 0; }
    void multiply(const Packed& weights, int batch, const float* in, size_t in_stride, float* out, size_t out_stride,
                  const float* residual, bool last, Threads& threads) const;

    int input_, residual_ = -1, output_;
    int inputs_, outputs_, hidden_;
    Activation act_;
    std::vector<int32_t> offsets_;
    std::vector<float> bias_;
    Packed encoder_, weight_;
    size_t hidden_stride_ = 0;
};

Linear::Linear(const Record& record, const std::vector<Shape>& shapes) {
    if (record.ints.size() != 2) fail(NAME, "there must be two numbers");
    if (record.inputs.size() != 1 && record.inputs.size() != 2) fail(NAME, "there must be one or two inputs");
    if (record.tensors.size() != 3) fail(NAME, "there must be three tensors");
    input_ = record.inputs[0];
    output_ = record.output;
    inputs_ = int(shape_of(NAME, shapes, input_).size());
    const Shape& out = shape_of(NAME, shapes, output_);
    if (out.positions() != 1) fail(NAME, "the output has more than one position");
    outputs_ = out.channels;
    if (record.inputs.size() == 2) {
        residual_ = record.inputs[1];
        if (shape_of(NAME, shapes, residual_).size() != outputs_) fail(NAME, "the value to add has another shape than the output");
    }
    hidden_ = record.ints[0];
    act_ = Activation(NAME, record.ints[1], record.floats);
    if (hidden_ < 0) fail(NAME, "the hidden size is negative");
    if ((hidden_ == 0) != record.tensors[0].absent()) fail(NAME, "there must be an encoder if, and only if, the hidden size is above 0");
    const int k = hidden_ ? hidden_ : inputs_;
    if (record.tensors[0].count != uint64_t(product(hidden_, inputs_, NAME)))  // before anything is as large as it says
        fail(NAME, "the encoder has " + std::to_string(record.tensors[0].count) + " numbers");
    offsets_ = counting(std::max(k, inputs_));
    bias_ = padded_floats(record.tensors[2], outputs_, NAME, "the bias");
    const auto pack = [&](const Tensor& tensor, int n, int k, const float* bias, const char* what) {
        const auto w = padded_floats(tensor, int(product(n, k, NAME)), NAME, what);
        // Few outputs are still work for several threads.
        const int most = n <= 8 * kernels().width ? 1 : 2;
        return Packed(n, k, [&](int o, int i) { return w[size_t(o) * k + i]; }, offsets_.data(), 0, 0, bias, format_of(tensor), most);
    };
    if (hidden_) {
        encoder_ = pack(record.tensors[0], hidden_, inputs_, nullptr, "the encoder");
        hidden_stride_ = round_up(hidden_, kernels().width);
        if (hidden_stride_ % 512 == 0) hidden_stride_ += 16;
    }
    weight_ = pack(record.tensors[1], outputs_, k, bias_.data(), "the weight");
}

void Linear::multiply(const Packed& weights, int batch, const float* in, size_t in_stride, float* out, size_t out_stride,
                      const float* residual, bool last, Threads& threads) const {
    const auto& panels = weights.panels();
    const int count = int(panels.size());
    const int tasks = std::min(count, threads.count() == 1 ? 1 : threads.count() * TASKS_PER_THREAD);
    threads.run(tasks, [&](int task, int) {
        const float *ins[BLOCK], *residuals[BLOCK];
        float* outs[BLOCK];
        const int first = int(int64_t(count) * task / tasks), end = int(int64_t(count) * (task + 1) / tasks);
        for (int p = first; p < end; p++)
            for (int image = 0; image < batch; image += BLOCK) {
                const int n = std::min(BLOCK, batch - image);
                for (int i = 0; i < n; i++) {
                    ins[i] = in + size_t(image + i) * in_stride;
                    outs[i] = out + size_t(image + i) * out_stride;
                    residuals[i] = residual ? residual + size_t(image + i) * out_stride : nullptr;
                }
                const Block block = {n, ins, outs, residual ? residuals : nullptr, !last, last && act_.clip, act_.low, act_.high};
                kernels().multiply(panels[p], block);
                if (last && act_.after())
                    for (int i = 0; i < n; i++) activate(act_.code, act_.a, act_.b, outs[i] + panels[p].output, panels[p].valid);
            }
    });
}

void Linear::run(const Run& run) const {
    const float* in = run.values[input_];
    float* scratch = reinterpret_cast<float*>(run.scratch);
    size_t stride = inputs_;
    if (copies(run.batch)) {
        stride += 16;
        for (int i = 0; i < run.batch; i++) std::memcpy(scratch + i * stride, in + size_t(i) * inputs_, sizeof(float) * inputs_);
        in = scratch;
    }
    const float* residual = residual_ < 0 ? nullptr : run.values[residual_];
    if (hidden_) {
        float* hidden = scratch + copy_floats(run.batch);
        multiply(encoder_, run.batch, in, stride, hidden, hidden_stride_, nullptr, false, run.threads);
        in = hidden;
        stride = hidden_stride_;
    }
    multiply(weight_, run.batch, in, stride, run.values[output_], outputs_, residual, true, run.threads);
}

}  // namespace

std::unique_ptr<Op> make_linear(const Record& record, const std::vector<Shape>& shapes) {
    return std::make_unique<Linear>(record, shapes);
}

}  // namespace hscc
