// The result of a call that can fail: success, or an error message for the user.

#pragma once

#include <string>
#include <utility>

namespace vimdeploy {

class [[nodiscard]] Status {
 public:
  Status() = default;

  static Status error(std::string message) {
    Status status;
    status.is_ok_ = false;
    status.message_ = std::move(message);
    return status;
  }

  bool ok() const { return is_ok_; }
  const std::string& message() const { return message_; }

 private:
  bool is_ok_ = true;
  std::string message_;
};

}  // namespace vimdeploy
