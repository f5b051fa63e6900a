#include "scan/cpu/instruction_sets.h"

#include <hwy/targets.h>
#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif

namespace vimdeploy {
namespace {

#if defined(__x86_64__) && defined(__GNUC__)
// Not every compiler's __builtin_cpu_supports knows f16c.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && has_f16c();
}

bool has_avx3() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}
#else
bool has_avx2() { return false; }
bool has_avx3() { return false; }
#endif

}  // namespace

const char* name_of_instruction_set(int64_t target) { return hwy::TargetName(target); }

bool runs_here(int64_t target) {
  if (target == HWY_STATIC_TARGET) return true;
  if (target == HWY_AVX3) return has_avx3();
  if (target == HWY_AVX2) return has_avx2();
  return false;
}

}  // namespace vimdeploy
