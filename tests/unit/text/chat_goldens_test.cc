// Real chat templates against Jinja2's output.
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "text/chat_template.h"

namespace penstock {
namespace {

TEST(ChatGoldens, RealTemplatesRenderByteForByteOrRaiseWhereTheReferenceDoes) {
  const std::string path = std::string(PENSTOCK_SHARED_DATA) + "/chat/chat_goldens.json";
  std::ifstream in(path);
  if (!in) GTEST_SKIP() << "no shared data at " << path;
  const auto goldens = nlohmann::ordered_json::parse(in);
  absl::Time now;
  std::string error;
  ASSERT_TRUE(absl::ParseTime("%Y-%m-%dT%H:%M:%S", goldens["strftime_now"].get<std::string>(), &now,
                              &error))
      << error;
  std::map<std::string, absl::StatusOr<ChatTemplate>> templates;
  for (const auto& [name, source] : goldens["templates"].items()) {
    templates.emplace(name, ChatTemplate::Parse(source.get<std::string>()));
  }
  size_t num_passed = 0;
  for (const auto& c : goldens["cases"]) {
    const auto& compiled = templates.at(c["template"].get<std::string>());
    const absl::StatusOr<std::string> text = compiled.ok()
                                                 ? compiled->Render(c["context"], now)
                                                 : absl::StatusOr<std::string>(compiled.status());
    const bool raises = c.contains("error");
    const bool passed =
        raises ? !text.ok() : text.ok() && *text == c["expected"].get<std::string>();
    num_passed += passed ? 1 : 0;
    EXPECT_TRUE(passed) << c["template"] << " / " << c["case"] << "\nexpected "
                        << c[raises ? "error" : "expected"] << "\ngot "
                        << (text.ok() ? *text : text.status().ToString());
  }
  EXPECT_EQ(num_passed, goldens["cases"].size());
  EXPECT_EQ(goldens["cases"].size(), 2440u);
}

}  // namespace
}  // namespace penstock
