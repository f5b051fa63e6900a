// A library that registers the plugins when it is loaded, for programs that load plugin libraries and no more: Triton
// (--backend-config=tensorrt,plugins=...), DeepStream (custom-lib-path), trtexec --staticPlugins, polygraphy --plugins.
//
// It is not linked with TensorRT, of which there are three libraries (libnvinfer, and the lean and the dispatch
// runtime), and whose headers are all that a build needs. It looks for those that the process has loaded; symbols in
// the process's global scope would not do, because Triton loads TensorRT into a scope of its own.

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <string>

namespace {

// `flags` say whether a library that is not there yet may be loaded. Handles are kept: the registry needs the library.
bool register_in(const std::string& tensorrt, int flags, const std::string& plugins) {
  void* library = dlopen(tensorrt.c_str(), RTLD_LAZY | flags);
  if (library == nullptr) return false;
  auto* registry_of = reinterpret_cast<nvinfer1::IPluginRegistry* (*)()>(dlsym(library, "getPluginRegistry"));
  nvinfer1::IPluginRegistry* registry = registry_of == nullptr ? nullptr : registry_of();
  if (registry == nullptr || registry->loadLibrary(plugins.c_str()) == nullptr) {
    std::fprintf(stderr, "[vimdeploy] %s does not take the plugins in %s\n", tensorrt.c_str(), plugins.c_str());
  }
  return true;
}

// The library with the plugins, which lies beside this one.
std::string plugin_library() {
  Dl_info here;
  if (dladdr(reinterpret_cast<void*>(&plugin_library), &here) == 0) return VIMDEPLOY_PLUGIN_LIBRARY;
  const std::string path = here.dli_fname;
  return path.substr(0, path.rfind('/') + 1) + VIMDEPLOY_PLUGIN_LIBRARY;
}

const bool registered = [] {
  const std::string major = std::to_string(NV_TENSORRT_MAJOR), plugins = plugin_library();
  bool found = false;
  for (const char* name : {"libnvinfer.so.", "libnvinfer_lean.so.", "libnvinfer_dispatch.so."}) {
    found = register_in(name + major, RTLD_NOLOAD, plugins) || found;
  }
  found = found || register_in("libnvinfer.so." + major, 0, plugins);
  if (!found) {
    std::fprintf(stderr,
                 "[vimdeploy] The plugins are not registered: this process has not loaded TensorRT %s, and the folders "
                 "of the system's libraries and LD_LIBRARY_PATH do not have libnvinfer.so.%s\n",
                 major.c_str(), major.c_str());
  }
  return found;
}();

}  // namespace
