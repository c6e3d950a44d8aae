// Server-sent events of an answer, and a chat template that shows what it was given.
// Owns nothing. Must not know the API.
// Threads: for one test.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "text/chat_template.h"

namespace penstock {

/// Events "event: <type>\ndata: <json>", whose data must name the same type.
inline std::vector<nlohmann::json> TypedEvents(const std::string& body) {
  std::vector<nlohmann::json> events;
  for (absl::string_view text : absl::StrSplit(body, "\n\n", absl::SkipEmpty())) {
    EXPECT_TRUE(absl::ConsumePrefix(&text, "event: ")) << text;
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(text, absl::MaxSplits("\ndata: ", 1));
    events.push_back(nlohmann::json::parse(parts.second, nullptr, false));
    EXPECT_EQ(events.back()["type"], parts.first) << text;
  }
  return events;
}

inline std::vector<std::string> TypesOf(const std::vector<nlohmann::json>& events) {
  std::vector<std::string> types;
  for (const auto& event : events) types.push_back(event["type"]);
  return types;
}

/// "role:content;" of each message, then "A:" where a turn is opened.
inline ChatTemplate PlainTemplate() {
  return ChatTemplate::Parse(
             "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{% if "
             "add_generation_prompt %}A:{% endif %}")
      .value();
}

}  // namespace penstock
