// An operation for OpenVINO that runs a network file of the engine: type "Network", domain "hscc".
//
// Its first input is the file, a constant of bytes; the others are the network's inputs, float32, channels first.
// The ONNX files that hscc.export.engine_node writes hold one such node.
#include <array>
#include <memory>
#include <string>
#include <vector>

#include <openvino/core/except.hpp>
#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/frontend/node_context.hpp>
#include <openvino/frontend/onnx/extension/conversion.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/op.hpp>

#include "hscc_engine.h"

namespace {

using Handle = std::shared_ptr<hscc_engine>;

Handle open_network(const ov::op::v0::Constant& file) {
    std::array<char, 500> error{};
    // The number of threads is the environment's: OpenVINO does not tell an operation what it was set to.
    hscc_engine* engine =
        hscc_open_memory(file.get_data_ptr(), file.get_byte_size(), 0, error.data(), error.size());
    OPENVINO_ASSERT(engine != nullptr, std::string(error.data()));
    return Handle(engine, hscc_close);
}

class Network : public ov::op::Op {
public:
    OPENVINO_OP("Network", "hscc");

    Network() = default;
    Network(const ov::OutputVector& arguments, Handle engine = nullptr) : Op(arguments), engine_(std::move(engine)) {
        constructor_validate_and_infer_types();
    }

    void validate_and_infer_types() override {
        if (!engine_) {
            auto file = ov::as_type_ptr<ov::op::v0::Constant>(get_input_node_shared_ptr(0));
            NODE_VALIDATION_CHECK(this, file != nullptr, "the first input must be a constant, the network's file");
            engine_ = open_network(*file);
        }
        const int inputs = hscc_input_count(engine_.get());
        NODE_VALIDATION_CHECK(this, get_input_size() == size_t(inputs) + 1, "the network takes ", inputs, " inputs");
        ov::Dimension batch = ov::Dimension::dynamic();
        for (int index = 0; index < inputs; ++index) {
            std::array<int64_t, 5> sizes{};
            const int rank = hscc_input_shape(engine_.get(), index, sizes.data());
            const ov::PartialShape expected(std::vector<ov::Dimension>(sizes.begin(), sizes.begin() + rank));
            NODE_VALIDATION_CHECK(this, get_input_partial_shape(size_t(index) + 1).compatible(expected),
                                  "input ", index, " must have the shape ", expected);
            if (get_input_partial_shape(size_t(index) + 1).rank().is_static()) {
                ov::Dimension::merge(batch, batch, get_input_partial_shape(size_t(index) + 1)[0]);
            }
        }
        set_output_size(size_t(hscc_output_count(engine_.get())));
        for (size_t index = 0; index < get_output_size(); ++index) {
            std::array<int64_t, 5> sizes{};
            const int rank = hscc_output_shape(engine_.get(), int(index), sizes.data());
            std::vector<ov::Dimension> shape(sizes.begin(), sizes.begin() + rank);
            shape[0] = batch;
            set_output_type(index, ov::element::f32, ov::PartialShape(shape));
        }
    }

    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& arguments) const override {
        return std::make_shared<Network>(arguments, engine_);
    }

    bool visit_attributes(ov::AttributeVisitor&) override { return true; }
    bool has_evaluate() const override { return true; }

    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        const size_t batch = inputs.at(1).get_shape().at(0);
        std::vector<const float*> read;
        std::vector<float*> written;
        for (size_t index = 1; index < inputs.size(); ++index) read.push_back(inputs[index].data<const float>());
        for (size_t index = 0; index < outputs.size(); ++index) {
            ov::Shape shape = get_output_partial_shape(index).get_min_shape();
            shape[0] = batch;
            outputs[index].set_shape(shape);
            written.push_back(outputs[index].data<float>());
        }
        const int failed = hscc_run(engine_.get(), int64_t(batch), read.data(), written.data());
        OPENVINO_ASSERT(failed == 0, std::string(hscc_error(engine_.get())));
        return true;
    }

private:
    Handle engine_;
};

}  // namespace

OPENVINO_CREATE_EXTENSIONS(std::vector<ov::Extension::Ptr>(
    {std::make_shared<ov::OpExtension<Network>>(),
     std::make_shared<ov::frontend::onnx::ConversionExtension>(
         "Network", "hscc", [](const ov::frontend::NodeContext& node) -> ov::OutputVector {
             ov::OutputVector arguments;
             for (size_t index = 0; index < node.get_input_size(); ++index) {
                 arguments.push_back(node.get_input(int(index)));
             }
             return std::make_shared<Network>(arguments)->outputs();
         })}));
