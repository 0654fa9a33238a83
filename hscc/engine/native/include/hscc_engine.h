/* HSCC's inference engine: runs one compressed network from one file.
 *
 *     char error[500];
 *     hscc_engine* engine = hscc_open("small.hscc", 0, error, sizeof error);
 *     if (!engine) { puts(error); return 1; }
 *     const float* inputs[] = {images};      // (batch, channels, rows, columns)
 *     float* outputs[] = {logits};           // (batch, features)
 *     if (hscc_run(engine, batch, inputs, outputs)) puts(hscc_error(engine));
 *     hscc_close(engine);
 *
 * Numbers are float32, arrays are contiguous, channels come first: (batch, channels[, depth[, rows]], columns), or
 * (batch, features) where there are no positions. No function throws, exits or prints.
 *
 * An engine may be used from several threads: a call waits until the one before is done. Different engines are
 * independent of each other. The same input, batch and number of threads give the same bits.
 *
 * Build, in src: c++ -std=c++17 -O3 -shared -fPIC -pthread -I../include *.cpp -o ../libhscc_engine.so
 */
#ifndef HSCC_ENGINE_H
#define HSCC_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define HSCC_API __declspec(dllexport)
#else
#define HSCC_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A network that is ready to run. */
typedef struct hscc_engine hscc_engine;

/* Version of the library, "major.minor.patch". */
HSCC_API const char* hscc_version(void);

/* Instruction set that the library uses on this processor: "avx512vnni", "avx512", "avx2" or "portable". The environment variable
 * HSCC_ENGINE_ISA, read once, forces one of them; "" if this processor does not have it, and hscc_open then fails. */
HSCC_API const char* hscc_isa(void);

/* Opens a file. `threads` is the number of threads that work on a call, the calling one included; 0 takes as many as
 * this process may use. The file is checked as a whole and is not needed afterwards.
 * Returns NULL on failure and writes one sentence into `error` (at most `error_bytes` bytes with the final zero;
 * `error` may be NULL). */
HSCC_API hscc_engine* hscc_open(const char* path, int threads, char* error, size_t error_bytes);

/* The same with the file's bytes in memory; they are not needed afterwards. */
HSCC_API hscc_engine* hscc_open_memory(const void* data, size_t bytes, int threads, char* error, size_t error_bytes);

/* Frees an engine. No other call may be under way. NULL is allowed. */
HSCC_API void hscc_close(hscc_engine* engine);

/* Numbers of inputs and outputs. */
HSCC_API int hscc_input_count(const hscc_engine* engine);
HSCC_API int hscc_output_count(const hscc_engine* engine);

/* Writes the sizes of an input or output and returns how many there are, 2 to 5. shape[0] is -1, the batch; then come
 * channels and positions without leading ones. Returns 0 if there is no such input or output. */
HSCC_API int hscc_input_shape(const hscc_engine* engine, int index, int64_t shape[5]);
HSCC_API int hscc_output_shape(const hscc_engine* engine, int index, int64_t shape[5]);

/* Text of the network's card, JSON in UTF-8: preprocessing, classes, where it comes from. Valid until hscc_close. */
HSCC_API const char* hscc_card(const hscc_engine* engine);

/* Runs `batch` images: one array per input, one array to write per output. The arrays must not overlap.
 * Returns 0, or another number on failure; hscc_error then says why. Memory is kept for the next call. */
HSCC_API int hscc_run(hscc_engine* engine, int64_t batch, const float* const* inputs, float* const* outputs);

/* One sentence about the last call of this thread that failed. Valid until this thread's next call. */
HSCC_API const char* hscc_error(const hscc_engine* engine);

/* Bytes of working memory, besides weights, that a call with so many images takes. */
HSCC_API size_t hscc_memory(const hscc_engine* engine, int64_t batch);

/* Bounds the working memory: a larger batch runs in parts, one image at least. 128 MiB at first. */
HSCC_API void hscc_limit_memory(hscc_engine* engine, size_t bytes);

/* Starts (on != 0) or ends measuring the time of each operation, and forgets what was measured. */
HSCC_API void hscc_profile(hscc_engine* engine, int on);

/* What was measured since: one line per operation, in order, with tabs between its name, the shape of its output
 * and its milliseconds per call of hscc_run. Valid until this thread's next call. */
HSCC_API const char* hscc_profile_text(hscc_engine* engine);

#ifdef __cplusplus
}
#endif
#endif
