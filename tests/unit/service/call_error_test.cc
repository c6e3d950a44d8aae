#include "service/call_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(CallErrors, AreCutToWhatFitsAMessage) {
  const std::string text(1 << 20, 'a');
  const CallError error = ToCallError(InvalidField("structured_outputs." + text, text + " is odd"));
  EXPECT_LT(error.param.size(), 300u);
  EXPECT_LT(error.message.size(), 5000u);
  EXPECT_LT(ToCallError(absl::NotFoundError(text)).message.size(), 5000u);
  EXPECT_LT(FieldOf(WithField(InvalidField("a", "a is odd"), text)).size(), 300u);
}

TEST(CallErrors, LogWhatIsOursAndNothingOfTheClients) {
  EXPECT_EQ(LoggedError(InvalidField("top_p", "top_p must be in (0, 1], got 7")),
            "top_p must be in (0, 1], got 7");
  EXPECT_EQ(LoggedError(absl::UnavailableError("the server is \"draining\"")),
            "the server is \"draining\"");
  EXPECT_EQ(LoggedError(InvalidField("bad_words", "bad_words: \"se\"cr\"et\" has no token")),
            "bad_words: \"...\" has no token");
  for (const absl::Status& status :
       {InvalidField("structured_outputs.secret", "structured_outputs.secret is not supported"),
        InvalidField("messages[0].content[1]", "messages[0].content[1] is secret"),
        WithClientsText(InvalidField("messages", "the template says secret")),
        WithField(WithClientsText(InvalidField("a", "a is secret")), "guided_regex"),
        InvalidField("tools", "tools: a \"secret\" and a \"secret\"")}) {
    EXPECT_THAT(LoggedError(status), Not(HasSubstr("secret"))) << status;
    EXPECT_THAT(LoggedError(status), HasSubstr(FieldOf(status).substr(0, 5))) << status;
  }
}

}  // namespace
}  // namespace penstock
