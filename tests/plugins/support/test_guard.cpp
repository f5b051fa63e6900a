#include "support/guard.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace vimdeploy {
namespace {

TEST(Guard, PassesAStatusThrough) {
  EXPECT_TRUE(guard([] { return Status(); }).ok());
  EXPECT_EQ(guard([] { return Status::error("no"); }).message(), "no");
}

TEST(Guard, TurnsExceptionsIntoErrors) {
  EXPECT_EQ(guard([]() -> Status { throw std::runtime_error("broken"); }).message(), "broken");
  EXPECT_EQ(guard([]() -> Status { throw std::bad_alloc(); }).message(), "vimdeploy: out of memory");
  EXPECT_EQ(guard([]() -> Status { throw 7; }).message(), "vimdeploy: an exception of unknown type");
}

}  // namespace
}  // namespace vimdeploy
