// The guard at every C interface: no exception may leave the library, because its host may not be C++.

#pragma once

#include <exception>
#include <new>
#include <utility>

#include "support/status.h"

namespace vimdeploy {

// Calls `body`, which returns a Status, and turns exceptions into one.
template <typename Body>
[[nodiscard]] Status guard(Body&& body) noexcept {
  try {
    return std::forward<Body>(body)();
  } catch (const std::bad_alloc&) {
    return Status::error("vimdeploy: out of memory");
  } catch (const std::exception& problem) {
    return Status::error(problem.what());
  } catch (...) {
    return Status::error("vimdeploy: an exception of unknown type");
  }
}

}  // namespace vimdeploy
