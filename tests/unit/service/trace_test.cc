// W3C Trace Context: what is continued, and what begins a trace of its own.
#include "service/trace.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace penstock {
namespace {

constexpr const char* kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr const char* kSpan = "00f067aa0ba902b7";

bool IsHex(std::string_view text, size_t size) {
  return text.size() == size && text.find_first_not_of("0123456789abcdef") == text.npos &&
         text.find_first_not_of('0') != text.npos;
}

TEST(Trace, IsContinuedInASpanOfItsOwn) {
  const std::string head = std::string("00-") + kTrace + "-" + kSpan + "-01";
  for (const std::string& header :
       {head, "cc" + head.substr(2), "cc" + head.substr(2) + "-what-comes-later"}) {
    const TraceIds trace = ContinueTrace(header);
    EXPECT_EQ(trace.trace_id, kTrace) << header;
    EXPECT_EQ(trace.parent_id, kSpan);
    EXPECT_EQ(trace.flags, "01");
    EXPECT_TRUE(IsHex(trace.span_id, 16));
    EXPECT_NE(trace.span_id, kSpan);
    EXPECT_EQ(Traceparent(trace), std::string("00-") + kTrace + "-" + trace.span_id + "-01");
  }
}

TEST(Trace, BeginsWhereNothingSensibleCame) {
  const std::string trace = kTrace, span = kSpan;
  for (const std::string& header :
       {std::string(), std::string("00"), "ff-" + trace + "-" + span + "-01",
        "00-" + std::string(32, '0') + "-" + span + "-01",
        "00-" + trace + "-" + std::string(16, '0') + "-01", "00-" + trace + "-" + span + "-01-more",
        "00-" + trace + "-" + span + "-0", "00-" + trace + "-" + span + "-0g",
        "00_" + trace + "-" + span + "-01", "0A-" + trace + "-" + span + "-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" + span + "-01",
        "cc-" + trace + "-" + span + "-01more"}) {
    const TraceIds made = ContinueTrace(header);
    EXPECT_TRUE(IsHex(made.trace_id, 32)) << header;
    EXPECT_TRUE(IsHex(made.span_id, 16));
    EXPECT_NE(made.trace_id, kTrace) << header;
    EXPECT_TRUE(made.parent_id.empty());
    EXPECT_EQ(made.flags, "00");
  }
  EXPECT_NE(ContinueTrace("").trace_id, ContinueTrace("").trace_id);
}

TEST(Trace, MarksAPartOfThoseThatBeginHere) {
  const std::string head = std::string("00-") + kTrace + "-" + kSpan + "-";
  EXPECT_FALSE(ContinueTrace(head + "00", 1).sampled());  // its caller has decided
  EXPECT_TRUE(ContinueTrace(head + "01", 0).sampled());
  EXPECT_TRUE(ContinueTrace(head + "03", 0).sampled());
  EXPECT_FALSE(ContinueTrace(head + "02", 0).sampled());
  int sampled = 0;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(ContinueTrace("", 0).sampled());
    EXPECT_TRUE(ContinueTrace("", 1).sampled());
    sampled += ContinueTrace("", 0.25).sampled() ? 1 : 0;
  }
  EXPECT_GT(sampled, 150);
  EXPECT_LT(sampled, 350);
}

}  // namespace
}  // namespace penstock
