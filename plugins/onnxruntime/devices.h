// The devices that the operators run on: one file for each adds every operator, for every type, to the domain.

#pragma once

#include <onnxruntime_cxx_api.h>

namespace vimdeploy::onnxruntime {

void add_cpu_operators(Ort::CustomOpDomain& domain);

// Adds nothing if the library was built without a CUDA compiler.
void add_cuda_operators(Ort::CustomOpDomain& domain);

}  // namespace vimdeploy::onnxruntime
