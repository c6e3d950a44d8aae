#include "server/otlp_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace penstock {
namespace {

using Json = nlohmann::json;

TracedRequest Answered() {
  TracedRequest out;
  out.record.request_id = "r1";
  out.record.model = "demo";
  out.record.operation = "chat";
  out.record.trace_id = std::string(32, 'a');
  out.record.span_id = std::string(16, 'b');
  out.record.num_choices = 1;
  out.record.finish = "stop";
  out.record.queue_time = absl::Milliseconds(10);
  out.record.prefill_time = absl::Milliseconds(20);
  out.record.decode_time = absl::Milliseconds(30);
  out.record.first_token_time = absl::Milliseconds(40);
  out.record.total_time = absl::Milliseconds(100);
  out.end = absl::FromUnixMillis(1'700'000'000'000);
  return out;
}

Json SpansOf(const TracedRequest& request) {
  const Json body = Json::parse(OtlpBody({"1", "i", "h", 7}, {request}));
  return body["resourceSpans"][0]["scopeSpans"][0]["spans"];
}

int64_t Nanos(const Json& span, const char* field) {
  return std::stoll(span[field].get<std::string>());
}

TEST(OtlpJson, LaysPartsOutAroundTheFirstToken) {
  const Json spans = SpansOf(Answered());
  ASSERT_EQ(spans.size(), 4);
  EXPECT_EQ(NumSpans(Answered().record), 4);
  const int64_t begin = Nanos(spans[0], "startTimeUnixNano");
  EXPECT_EQ(begin, 1'699'999'999'900'000'000);
  EXPECT_FALSE(spans[0].contains("parentSpanId"));
  const int64_t expected[][2] = {{10, 20}, {20, 40}, {40, 70}};  // ms after the beginning
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Nanos(spans[i + 1], "startTimeUnixNano") - begin, expected[i][0] * 1'000'000);
    EXPECT_EQ(Nanos(spans[i + 1], "endTimeUnixNano") - begin, expected[i][1] * 1'000'000);
    EXPECT_EQ(spans[i + 1]["parentSpanId"], std::string(16, 'b'));
  }
}

TEST(OtlpJson, TheChainIsAPartAtTheBeginning) {
  TracedRequest request = Answered();
  request.record.chain_time = absl::Milliseconds(5);
  const Json spans = SpansOf(request);
  ASSERT_EQ(spans.size(), 5);
  EXPECT_EQ(NumSpans(request.record), 5);
  EXPECT_EQ(spans[1]["name"], "guard");
  EXPECT_EQ(spans[1]["startTimeUnixNano"], spans[0]["startTimeUnixNano"]);
  EXPECT_EQ(Nanos(spans[1], "endTimeUnixNano") - Nanos(spans[1], "startTimeUnixNano"), 5'000'000);
}

TEST(OtlpJson, PartsThatMeasureMoreThanTheWholeStayInIt) {
  TracedRequest request = Answered();
  request.record.prefill_time = request.record.decode_time = absl::Hours(1);
  for (const Json& span : SpansOf(request)) {
    EXPECT_LE(Nanos(span, "startTimeUnixNano"), Nanos(span, "endTimeUnixNano"));
    EXPECT_GE(Nanos(span, "startTimeUnixNano"), 1'699'999'999'900'000'000);
    EXPECT_LE(Nanos(span, "endTimeUnixNano"), 1'700'000'000'000'000'000);
  }
}

TEST(OtlpJson, WhatNeverRanIsOneSpanWithoutTheClientsWordsInItsName) {
  TracedRequest request = Answered();
  request.record.num_choices = 0;
  request.record.prefill_time = request.record.decode_time = absl::ZeroDuration();
  request.record.model = "x\xc3\xa4" + std::string(100'000, 'y') + "\xff";
  request.record.code = 503;
  request.record.error = "no \"room\"\n";
  const Json spans = SpansOf(request);
  ASSERT_EQ(spans.size(), 1);
  EXPECT_EQ(spans[0]["name"], "chat");
  EXPECT_EQ(spans[0]["status"], (Json{{"code", 2}, {"message", "no \"room\"\n"}}));
  EXPECT_LT(spans.dump().size(), 4000);
}

TEST(OtlpJson, ReadsWhatACollectorRejects) {
  EXPECT_EQ(RejectedSpans("{}", 9), 0);
  EXPECT_EQ(RejectedSpans("", 9), 0);
  EXPECT_EQ(RejectedSpans("[1]", 9), 0);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":"3"}})", 9), 3);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":3}})", 9), 3);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":"99"}})", 9), 9);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":-1}})", 9), 0);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":1e30}})", 9), 0);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":[]})", 9), 0);
}

}  // namespace
}  // namespace penstock
