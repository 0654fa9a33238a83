#include "kernels.h"

#define WIDTH 4
#if defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif

namespace hscc {
#include "vectors.inc"
#include "kernels.inc"
#include "kernels8.inc"

const Kernels* kernels_portable() {
    static const Kernels table = {"portable", WIDTH, multiply, depthwise, mix, multiply_bytes, quantise};
    return &table;
}
}  // namespace hscc
