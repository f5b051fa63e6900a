// The installed package: its library is linked and computes, its plugin loads.

#include <dlfcn.h>
#include <vimdeploy.h>

#include <cstdio>

int main() {
  const float u = 2, delta = 0.5f, A = -1, B = 3, C = 4, D = 5, bias = 0;
  const int64_t sizes[] = {1, 1, 1, 1, 1, 0}, reverse[] = {0};
  const void* const inputs[] = {&u, &delta, &A, &B, &C, &D, &bias, nullptr};
  float y = 0;
  const char* problem = VimdeploySelectiveScan(0, sizes, reverse, 0, inputs, &y, nullptr, 1);
  if (problem != nullptr || y != C * delta * B * u + D * u) {
    std::fprintf(stderr, "y is %f; %s\n", static_cast<double>(y), problem != nullptr ? problem : "wrong");
    return 1;
  }
#ifdef TENSORRT_PLUGIN
  if (dlopen(TENSORRT_PLUGIN, RTLD_LAZY) == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
#endif
  std::printf("y is %f\n", static_cast<double>(y));
  return 0;
}
