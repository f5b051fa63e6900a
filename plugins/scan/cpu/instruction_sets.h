// The instruction sets that the CPU kernels are compiled for, and which of them this machine has (Highway's dynamic
// dispatch, for exactly these sets).
//
// A kernel file includes this first, then foreach_target.h, which compiles the file once for each set, in a namespace
// of its own; VIMDEPLOY_KERNELS(run) then lists `run` of all those namespaces, best first. Only sets whose vectors have
// a size known at compile time are possible: states are kept in arrays of vectors.

#pragma once

// GCC and Clang compile for many x86 sets in one file; elsewhere the compiler's own target is the only one.
#if !(defined(__x86_64__) && defined(__GNUC__))
#define HWY_COMPILE_ONLY_STATIC
#endif
// The x86 sets between and above these three have nothing that the kernels use.
#define HWY_DISABLED_TARGETS                                                                                        \
  (~(HWY_AVX3 | HWY_AVX2 | HWY_SSE2 | HWY_NEON | HWY_NEON_WITHOUT_AES | HWY_PPC8 | HWY_PPC9 | HWY_PPC10 | HWY_Z14 | \
     HWY_Z15 | HWY_WASM | HWY_EMU128 | HWY_SCALAR))
#define HWY_DISABLE_PCLMUL_AES

#include <cstdint>
#include <initializer_list>
#include <vector>

#include <hwy/detect_targets.h>

namespace vimdeploy {

template <typename Function>
struct Kernel {
  int64_t target;  // one of Highway's HWY_* bits
  Function* run;
};

const char* name_of_instruction_set(int64_t target);

// Whether the processor and the operating system support it; true for the set that the whole library is compiled for.
bool runs_here(int64_t target);

template <typename Function>
std::vector<Kernel<Function>> kernels_that_run_here(std::initializer_list<Kernel<Function>> compiled) {
  std::vector<Kernel<Function>> here;
  for (const Kernel<Function>& kernel : compiled) {
    if (runs_here(kernel.target)) here.push_back(kernel);
  }
  return here;
}

}  // namespace vimdeploy

#if HWY_TARGETS & ~HWY_STATIC_TARGET & HWY_AVX3
#define VIMDEPLOY_KERNEL_AVX3(run) {HWY_AVX3, &N_AVX3::run},
#else
#define VIMDEPLOY_KERNEL_AVX3(run)
#endif
#if HWY_TARGETS & ~HWY_STATIC_TARGET & HWY_AVX2
#define VIMDEPLOY_KERNEL_AVX2(run) {HWY_AVX2, &N_AVX2::run},
#else
#define VIMDEPLOY_KERNEL_AVX2(run)
#endif
#define VIMDEPLOY_KERNELS(run)                                                                       \
  {                                                                                                  \
    VIMDEPLOY_KERNEL_AVX3(run) VIMDEPLOY_KERNEL_AVX2(run) { HWY_STATIC_TARGET, &HWY_NAMESPACE::run } \
  }
