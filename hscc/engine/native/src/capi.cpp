// The public functions: nothing thrown leaves them, and one caller at a time is inside an engine.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <sys/stat.h>
#if defined(__linux__)
#include <sched.h>
#endif
#include <thread>

#include "hscc_engine.h"
#include "kernels.h"
#include "program.h"

struct hscc_engine {
    hscc::Program program;
    mutable std::mutex mutex;
};

namespace {

using hscc::Error;

thread_local std::string last_text;

int usable_processors() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
#endif
    return std::max(int(std::thread::hardware_concurrency()), 1);
}

// Calls `work`; what it throws becomes a text for `report`. Returns whether nothing was thrown.
template <class Work, class Report> bool guarded(const Work& work, const Report& report) {
    try {
        try {
            work();
            return true;
        } catch (const std::bad_alloc&) {
            report("there is not enough memory");
        } catch (const std::exception& error) {
            report(error.what());
        }
    } catch (...) {
    }
    return false;
}

void copy_text(const char* text, char* to, size_t bytes) {
    if (!to || !bytes) return;
    const size_t length = std::min(std::strlen(text), bytes - 1);
    std::memcpy(to, text, length);
    to[length] = 0;
}

hscc_engine* make_engine(const uint8_t* data, size_t bytes, int threads) {
    if (threads <= 0) threads = usable_processors();
    return new hscc_engine{{hscc::parse(data, bytes), std::min(threads, 1024)}, {}};
}

int shape_of(const hscc::Shape& shape, int64_t sizes[5]) {
    sizes[0] = -1;
    sizes[1] = shape.channels;
    int rank = 2;
    for (const int64_t size : {shape.depth, shape.rows, shape.columns})
        if (rank > 2 || size > 1) sizes[rank++] = size;
    return rank;
}

}  // namespace

extern "C" {

const char* hscc_version(void) { return "1.0.0"; }

const char* hscc_isa(void) {
    const char* name = "";
    guarded([&] { name = hscc::kernels().name; }, [](const char* text) { last_text = text; });
    return name;
}

hscc_engine* hscc_open_memory(const void* data, size_t bytes, int threads, char* error, size_t error_bytes) {
    hscc_engine* engine = nullptr;
    guarded(
        [&] {
            if (!data) throw Error("no data was given");
            hscc::Buffer aligned;
            if (bytes) std::memcpy(aligned.grow(bytes), data, bytes);
            engine = make_engine(aligned.grow(0), bytes, threads);
        },
        [&](const char* text) { copy_text(text, error, error_bytes); });
    return engine;
}

hscc_engine* hscc_open(const char* path, int threads, char* error, size_t error_bytes) {
    hscc_engine* engine = nullptr;
    guarded(
        [&] {
            if (!path) throw Error("no path was given");
            struct Closer {
                std::FILE* file;
                ~Closer() { if (file) std::fclose(file); }
            } opened{std::fopen(path, "rb")};
            struct stat status;
            if (!opened.file || fstat(fileno(opened.file), &status))
                throw Error(std::string(path) + " cannot be opened: " + std::strerror(errno));
            if (!S_ISREG(status.st_mode)) throw Error(std::string(path) + " is not a file");
            const auto bytes = size_t(status.st_size);
            hscc::Buffer data;
            if (bytes && std::fread(data.grow(bytes), 1, bytes, opened.file) != bytes)
                throw Error(std::string(path) + " cannot be read");
            try {
                engine = make_engine(data.grow(0), bytes, threads);
            } catch (const Error& cause) {
                throw Error(std::string(path) + ": " + cause.what());
            }
        },
        [&](const char* text) { copy_text(text, error, error_bytes); });
    return engine;
}

void hscc_close(hscc_engine* engine) { delete engine; }

int hscc_input_count(const hscc_engine* engine) { return int(engine->program.input_count()); }

int hscc_output_count(const hscc_engine* engine) { return int(engine->program.output_count()); }

int hscc_input_shape(const hscc_engine* engine, int index, int64_t shape[5]) {
    if (index < 0 || index >= hscc_input_count(engine)) return 0;
    return shape_of(engine->program.input_shape(size_t(index)), shape);
}

int hscc_output_shape(const hscc_engine* engine, int index, int64_t shape[5]) {
    if (index < 0 || index >= hscc_output_count(engine)) return 0;
    return shape_of(engine->program.output_shape(size_t(index)), shape);
}

const char* hscc_card(const hscc_engine* engine) { return engine->program.card().c_str(); }

int hscc_run(hscc_engine* engine, int64_t batch, const float* const* inputs, float* const* outputs) {
    const bool done = guarded(
        [&] {
            const std::lock_guard<std::mutex> lock(engine->mutex);
            if (batch > 0) {
                for (size_t i = 0; i < engine->program.input_count(); i++)
                    if (!inputs || !inputs[i]) throw Error("input " + std::to_string(i) + " was not given");
                for (size_t i = 0; i < engine->program.output_count(); i++)
                    if (!outputs || !outputs[i]) throw Error("output " + std::to_string(i) + " was not given");
            }
            engine->program.run(batch, inputs, outputs);
        },
        [](const char* text) { last_text = text; });
    return done ? 0 : 1;
}

const char* hscc_error(const hscc_engine*) { return last_text.c_str(); }

size_t hscc_memory(const hscc_engine* engine, int64_t batch) {
    size_t bytes = 0;
    guarded(
        [&] {
            const std::lock_guard<std::mutex> lock(engine->mutex);
            bytes = engine->program.memory(batch);
        },
        [](const char* text) { last_text = text; });
    return bytes;
}

void hscc_limit_memory(hscc_engine* engine, size_t bytes) {
    guarded(
        [&] {
            const std::lock_guard<std::mutex> lock(engine->mutex);
            engine->program.limit_memory(bytes);
        },
        [](const char*) {});
}

void hscc_profile(hscc_engine* engine, int on) {
    guarded(
        [&] {
            const std::lock_guard<std::mutex> lock(engine->mutex);
            engine->program.profile(on != 0);
        },
        [](const char*) {});
}

const char* hscc_profile_text(hscc_engine* engine) {
    guarded(
        [&] {
            const std::lock_guard<std::mutex> lock(engine->mutex);
            last_text = engine->program.profile_text();
        },
        [](const char* text) { last_text = text; });
    return last_text.c_str();
}

}  // extern "C"
