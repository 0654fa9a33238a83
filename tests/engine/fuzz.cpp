// Opens what it is given as an engine file and runs it if it is small. With libFuzzer (clang++ -fsanitize=fuzzer
// -DLIBFUZZER) this is a fuzz target; otherwise it takes files from standard input, each behind its length (8 bytes), and
// answers each with a line: "run" with a sum of the outputs, "large", or "error" and why.
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "hscc_engine.h"

static std::string open_and_run(const uint8_t* data, size_t bytes) {
    char error[500];
    hscc_engine* engine = hscc_open_memory(data, bytes, 2, error, sizeof error);
    if (!engine) return std::string("error ") + error;
    std::string answer = "large";
    const int64_t batch = 2;
    if (hscc_memory(engine, batch) < size_t(8) << 20) {
        std::vector<std::vector<float>> arrays[2];
        std::vector<float*> pointers[2];
        for (int side = 0; side < 2; side++)
            for (int i = 0; i < (side ? hscc_output_count : hscc_input_count)(engine); i++) {
                int64_t shape[5], count = batch;
                const int rank = (side ? hscc_output_shape : hscc_input_shape)(engine, i, shape);
                for (int k = 1; k < rank; k++) count *= shape[k];
                arrays[side].emplace_back(size_t(count));
                for (int64_t k = 0; k < count; k++) arrays[side].back()[size_t(k)] = float(k % 17) / 8 - 1;
                pointers[side].push_back(arrays[side].back().data());
            }
        hscc_profile(engine, 1);
        if (hscc_run(engine, batch, pointers[0].data(), pointers[1].data())) {
            answer = std::string("error ") + hscc_error(engine);
        } else {
            double sum = 0;
            for (const auto& array : arrays[1])
                for (const float x : array) sum += x;
            answer = "run " + std::to_string(sum) + (hscc_profile_text(engine)[0] ? "" : " without a profile");
        }
    }
    hscc_close(engine);
    return answer;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
    open_and_run(data, bytes);
    return 0;
}

#ifndef LIBFUZZER
int main() {
    uint64_t bytes;
    while (std::fread(&bytes, sizeof bytes, 1, stdin) == 1) {
        std::vector<uint8_t> file(bytes);
        if (bytes && std::fread(file.data(), 1, bytes, stdin) != bytes) return 1;
        std::string answer = open_and_run(file.data(), bytes);
        for (char& c : answer)
            if (c == '\n') c = ' ';
        std::puts(answer.c_str());
        std::fflush(stdout);
    }
    return 0;
}
#endif
