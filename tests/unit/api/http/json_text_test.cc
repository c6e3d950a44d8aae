#include "api/http/json_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "api/http/response_head.h"

namespace penstock {
namespace {

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

std::string Number(float value) {
  std::string out;
  AppendJsonNumber(out, value);
  return out;
}

TEST(JsonText, EscapesWhatJsonAsksFor) {
  EXPECT_EQ(Quoted("a\"b\\c\n\r\t\x01/"), R"("a\"b\\c\n\r\t\u0001/")");
  EXPECT_EQ(Quoted("\xE2\x82\xAC\xF0\x9F\x98\x80"), "\"\xE2\x82\xAC\xF0\x9F\x98\x80\"");
}

TEST(JsonText, ReplacesEveryByteThatIsNoUtf8) {
  EXPECT_EQ(Quoted("a\xFF"
                   "b"),
            "\"a\xEF\xBF\xBD"
            "b\"");
  for (const char* bad : {"\xC0\x80", "\xED\xA0\x80", "\xE2\x82", "\xF5\x80\x80\x80", "\x80",
                          "\xE0\x80\x80", "\xF4\x90\x80\x80"}) {
    EXPECT_NE(Quoted(bad).find("\xEF\xBF\xBD"), std::string::npos) << Quoted(bad);
  }
}

TEST(JsonText, NumbersReadBackAsTheyWere) {
  EXPECT_EQ(Number(-0.5f), "-0.5");
  EXPECT_EQ(std::stof(Number(0.1f)), 0.1f);
  EXPECT_EQ(Number(std::numeric_limits<float>::infinity()), "null");
  EXPECT_EQ(Number(std::nanf("")), "null");
}

TEST(JsonText, ErrorsHaveTheFormOfTheApi) {
  EXPECT_EQ(
      ErrorBody(400, "n is bad", "n"),
      R"({"error":{"message":"n is bad","type":"invalid_request_error","param":"n","code":400}})");
  EXPECT_EQ(
      ErrorBody(503, "later", ""),
      R"({"error":{"message":"later","type":"service_unavailable_error","param":null,"code":503}})");
}

TEST(ResponseHead, ChunksAndPercentCodes) {
  std::string out;
  AppendChunk(out, std::string(26, 'x'));
  EXPECT_EQ(out, "1a\r\n" + std::string(26, 'x') + "\r\n");
  EXPECT_EQ(PercentDecode("a%2Fb%zz%4"), "a/b%zz%4");
}

}  // namespace
}  // namespace penstock
