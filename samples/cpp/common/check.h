// Every failure of the programs is a std::runtime_error that says what was wanted and what was found.

#pragma once

#include <stdexcept>
#include <string>

namespace classify {

inline void check(bool is_good, const std::string& sentence) {
  if (!is_good) throw std::runtime_error(sentence);
}

}  // namespace classify
