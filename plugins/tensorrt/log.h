// Error messages: to the logger of the TensorRT that called the library, else to standard error.

#pragma once

#include <NvInferRuntime.h>

#include <utility>

#include "support/guard.h"

namespace vimdeploy::tensorrt {

// TensorRT keeps `finder` alive as long as the library is loaded.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

void log_error(const std::string& sentence) noexcept;

// The guard for TensorRT's methods: returns 0, or logs the error and returns 1.
template <typename Body>
int32_t logged(Body&& body) noexcept {
  const Status status = guard(std::forward<Body>(body));
  if (status.ok()) return 0;
  log_error(status.message());
  return 1;
}

}  // namespace vimdeploy::tensorrt
