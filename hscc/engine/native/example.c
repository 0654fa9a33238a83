/* Opens an engine file, prints what it says about itself, and runs one image that rises from 0 to 1.
 *
 *     cc example.c -Iinclude -L. -lhscc_engine -Wl,-rpath,. -o example && ./example small.hscc
 */
#include <stdio.h>
#include <stdlib.h>

#include "hscc_engine.h"

typedef int (*shape_function)(const hscc_engine*, int, int64_t[5]);

/* Prints a shape and returns an array for one image, rising from 0 to 1. */
static float* array(const hscc_engine* engine, shape_function shape_of, int index, const char* name, size_t* count) {
    int64_t shape[5];
    const int rank = shape_of(engine, index, shape);
    *count = 1;
    printf("%s %d: N", name, index);
    for (int i = 1; i < rank; i++) *count *= (size_t)shape[i], printf(" x %lld", (long long)shape[i]);
    printf("\n");
    float* numbers = malloc(*count * sizeof *numbers);
    for (size_t i = 0; numbers && i < *count; i++) numbers[i] = (float)i / (float)*count;
    return numbers;
}

int main(int argc, char** argv) {
    char error[500];
    hscc_engine* engine = argc == 2 ? hscc_open(argv[1], 0, error, sizeof error) : NULL;
    if (!engine) return fprintf(stderr, "%s\n", argc == 2 ? error : "usage: example FILE"), 1;
    printf("card: %s\ninstructions: %s\n", hscc_card(engine), hscc_isa());

    const int inputs = hscc_input_count(engine), outputs = hscc_output_count(engine);
    float** in = calloc((size_t)inputs, sizeof *in);
    float** out = calloc((size_t)outputs, sizeof *out);
    size_t* counts = calloc((size_t)outputs, sizeof *counts);
    size_t unused;
    for (int i = 0; i < inputs; i++) in[i] = array(engine, hscc_input_shape, i, "input", &unused);
    for (int i = 0; i < outputs; i++) out[i] = array(engine, hscc_output_shape, i, "output", &counts[i]);

    const int failed = hscc_run(engine, 1, (const float* const*)in, out);
    if (failed) fprintf(stderr, "%s\n", hscc_error(engine));
    for (int i = 0; !failed && i < outputs; i++)
        for (size_t k = 0; k < counts[i] && k < 10; k++) printf("%d[%zu] = %.6f\n", i, k, out[i][k]);

    for (int i = 0; i < inputs; i++) free(in[i]);
    for (int i = 0; i < outputs; i++) free(out[i]);
    free(in), free(out), free(counts);
    hscc_close(engine);
    return failed;
}
