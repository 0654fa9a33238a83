// Chooses the kernels once, by what the processor can do.
#include "kernels.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "op.h"

namespace hscc {
namespace {

bool runs_here(const Kernels* k) {
    if (!k) return false;
#if defined(__x86_64__)
    if (!std::strncmp(k->name, "avx512", 6))
        return (!std::strcmp(k->name, "avx512") || __builtin_cpu_supports("avx512vnni")) &&
               __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
    if (!std::strcmp(k->name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return true;
}

const Kernels& choose() {
    const char* wanted = std::getenv("HSCC_ENGINE_ISA");
    for (const Kernels* k : {kernels_vnni(), kernels_avx512(), kernels_avx2(), kernels_portable()})
        if (runs_here(k) && (!wanted || !*wanted || !std::strcmp(wanted, k->name))) return *k;
    throw Error("HSCC_ENGINE_ISA is " + std::string(wanted) +
                ", which this machine cannot run; set it to avx512vnni, avx512, avx2 or portable, or unset it.");
}

}  // namespace

const Kernels& kernels() {
    static const Kernels& chosen = choose();
    return chosen;
}

}  // namespace hscc
