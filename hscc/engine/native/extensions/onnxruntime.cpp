// An operation for ONNX Runtime that runs a network file of the engine: type "Network", domain "hscc".
//
// Inputs: the file, as bytes, and the network's one input, float32, channels first. One output. It asks for no more
// than version 9 of ONNX Runtime's C interface, so that one library serves every later release.
#include <array>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "hscc_engine.h"
#include "onnxruntime_c_api.h"

namespace {

constexpr uint32_t kVersion = 9;

// Throws what ONNX Runtime says of a call that failed; the runtime turns exceptions of a kernel into its own errors.
void check(const OrtApi& api, OrtStatus* status) {
    if (status == nullptr) return;
    const std::string text = api.GetErrorMessage(status);
    api.ReleaseStatus(status);
    throw std::runtime_error(text);
}

struct Sizes {
    std::vector<int64_t> sizes;
    size_t count = 0;
};

Sizes sizes_of(const OrtApi& api, const OrtValue* value) {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api, api.GetTensorTypeAndShape(value, &info));
    Sizes found;
    size_t rank = 0;
    check(api, api.GetDimensionsCount(info, &rank));
    found.sizes.resize(rank);
    check(api, api.GetDimensions(info, found.sizes.data(), rank));
    check(api, api.GetTensorShapeElementCount(info, &found.count));
    api.ReleaseTensorTypeAndShapeInfo(info);
    return found;
}

class Kernel {
public:
    explicit Kernel(const OrtApi* api) : api_(*api) {}

    void compute(OrtKernelContext* context) {
        const OrtValue *file = nullptr, *images = nullptr;
        check(api_, api_.KernelContext_GetInput(context, 0, &file));
        check(api_, api_.KernelContext_GetInput(context, 1, &images));
        hscc_engine* engine = opened(file);
        const Sizes given = sizes_of(api_, images);
        std::array<int64_t, 5> sizes{};
        const int rank = hscc_input_shape(engine, 0, sizes.data());
        bool fits = given.sizes.size() == size_t(rank);
        for (int axis = 1; fits && axis < rank; ++axis) fits = given.sizes[size_t(axis)] == sizes[size_t(axis)];
        if (!fits) throw std::runtime_error("the input has another shape than the network of the node takes");

        std::vector<int64_t> shape(5);
        shape.resize(size_t(hscc_output_shape(engine, 0, shape.data())));
        shape[0] = given.sizes[0];
        OrtValue* output = nullptr;
        check(api_, api_.KernelContext_GetOutput(context, 0, shape.data(), shape.size(), &output));
        float* written = nullptr;
        const float* read = nullptr;
        check(api_, api_.GetTensorMutableData(output, reinterpret_cast<void**>(&written)));
        check(api_, api_.GetTensorMutableData(const_cast<OrtValue*>(images), (void**)&read));
        if (hscc_run(engine, shape[0], &read, &written)) throw std::runtime_error(hscc_error(engine));
    }

private:
    hscc_engine* opened(const OrtValue* file) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!engine_) {
            void* bytes = nullptr;
            check(api_, api_.GetTensorMutableData(const_cast<OrtValue*>(file), &bytes));
            std::array<char, 500> error{};
            engine_.reset(hscc_open_memory(bytes, sizes_of(api_, file).count, 0, error.data(), error.size()));
            if (!engine_) throw std::runtime_error(error.data());
            if (hscc_input_count(engine_.get()) != 1 || hscc_output_count(engine_.get()) != 1) {
                throw std::runtime_error("in ONNX Runtime a network has one input and one output");
            }
        }
        return engine_.get();
    }

    const OrtApi& api_;
    std::mutex mutex_;
    std::unique_ptr<hscc_engine, decltype(&hscc_close)> engine_{nullptr, hscc_close};
};

OrtCustomOp operation() {
    OrtCustomOp op{};
    op.version = kVersion;
    op.CreateKernel = [](const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo*) -> void* {
        return new Kernel(api);
    };
    op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    op.KernelCompute = [](void* kernel, OrtKernelContext* context) { static_cast<Kernel*>(kernel)->compute(context); };
    op.GetName = [](const OrtCustomOp*) { return "Network"; };
    op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
    op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 2; };
    op.GetInputType = [](const OrtCustomOp*, size_t index) {
        return index == 0 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    };
    op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
    op.GetOutputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
    op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    return op;
}

}  // namespace

// What ONNX Runtime calls when the library is registered in a session's options.
extern "C" HSCC_API OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
    static const OrtCustomOp op = operation();
    const OrtApi* api = base->GetApi(kVersion);
    OrtCustomOpDomain* domain = nullptr;
    if (OrtStatus* failed = api->CreateCustomOpDomain("hscc", &domain)) return failed;
    // The domain must outlive the sessions that use it; it is released when the process ends.
    if (OrtStatus* failed = api->CustomOpDomain_Add(domain, &op)) return failed;
    return api->AddCustomOpDomain(options, domain);
}
