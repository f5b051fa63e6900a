#include "support/status.h"

#include <gtest/gtest.h>

namespace vimdeploy {
namespace {

TEST(Status, IsGoodWithoutAMessage) {
  EXPECT_TRUE(Status().ok());
  EXPECT_EQ(Status().message(), "");
}

TEST(Status, CarriesTheMessageOfAnError) {
  const Status status = Status::error("wanted 2, found 3");
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.message(), "wanted 2, found 3");
}

TEST(Status, AnErrorWithoutWordsIsAnError) { EXPECT_FALSE(Status::error("").ok()); }

}  // namespace
}  // namespace vimdeploy
