// Where the operators run: one file a device, each of which adds both operators, of every type, to the domain.

#pragma once

#include <onnxruntime_cxx_api.h>

namespace vimdeploy::onnxruntime {

void add_cpu_operators(Ort::CustomOpDomain& domain);

// Adds nothing where the library was built without a CUDA compiler.
void add_cuda_operators(Ort::CustomOpDomain& domain);

}  // namespace vimdeploy::onnxruntime
