// Loads the library as a host does.

#pragma once

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace vimdeploy::testing {

inline void* load(const char* library) {
#ifdef _WIN32
  return LoadLibraryA(library);
#else
  return dlopen(library, RTLD_NOW | RTLD_LOCAL);
#endif
}

// Null if the library or the function does not exist.
template <typename Function>
Function* entry_point(const char* name) {
  void* library = load(VIMDEPLOY_LIBRARY);
  if (library == nullptr) return nullptr;
#ifdef _WIN32
  return reinterpret_cast<Function*>(GetProcAddress(static_cast<HMODULE>(library), name));
#else
  return reinterpret_cast<Function*>(dlsym(library, name));
#endif
}

}  // namespace vimdeploy::testing
