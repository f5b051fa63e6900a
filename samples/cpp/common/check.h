// Every failure is a std::runtime_error. The program puts the name of the file before its message.

#pragma once

#include <stdexcept>
#include <string>

namespace classify {

inline void check(bool is_good, const std::string& reason) {
  if (!is_good) throw std::runtime_error(reason);
}

}  // namespace classify
