// The library as a host loads it.

#pragma once

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace vimdeploy::testing {

// Null where the library or the function is not there.
template <typename Function>
Function* entry_point(const char* name) {
#ifdef _WIN32
  return reinterpret_cast<Function*>(GetProcAddress(LoadLibraryA(VIMDEPLOY_LIBRARY), name));
#else
  void* library = dlopen(VIMDEPLOY_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  return library == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(library, name));
#endif
}

}  // namespace vimdeploy::testing
