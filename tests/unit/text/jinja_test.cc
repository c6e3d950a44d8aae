// The template engine against Jinja2 3.1.2: every feature by small templates, and the limits of our
// own.
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "text/chat_template.h"
#include "text/jinja/template.h"

namespace penstock {
namespace {

using testing::HasSubstr;

absl::StatusOr<std::string> Render(std::string_view source, const nlohmann::ordered_json& context,
                                   absl::Time now) {
  absl::StatusOr<ChatTemplate> compiled = ChatTemplate::Parse(source);
  if (!compiled.ok()) return compiled.status();
  return compiled->Render(context, now);
}

absl::Status Fails(std::string_view source) {
  return Render(source, nlohmann::ordered_json::object(), absl::UnixEpoch()).status();
}

TEST(Jinja, RendersEveryFeatureAsTheReferenceOrRaisesWhereItDoes) {
  std::ifstream in(std::string(PENSTOCK_SOURCE_DIR) + "/tests/unit/text/jinja_cases.json");
  const auto file = nlohmann::ordered_json::parse(in);
  absl::Time now;
  std::string error;
  ASSERT_TRUE(absl::ParseTime("%Y-%m-%dT%H:%M:%S", file["now"].get<std::string>(), &now, &error))
      << error;
  ASSERT_GE(file["cases"].size(), 250u);
  for (const auto& c : file["cases"]) {
    const std::string source = c["template"];
    const absl::StatusOr<std::string> text = Render(source, file["context"], now);
    if (c.contains("error")) {
      EXPECT_FALSE(text.ok()) << source << "\nshould raise " << c["error"] << "\ngot " << *text;
    } else {
      ASSERT_TRUE(text.ok()) << source << "\n" << text.status();
      EXPECT_EQ(*text, c["expected"].get<std::string>()) << source;
    }
  }
}

TEST(Jinja, ErrorsSayLineAndColumn) {
  EXPECT_THAT(std::string(Fails("a\n  {{ 1 / 0 }}").message()), HasSubstr("line 2, column 8"));
  EXPECT_THAT(std::string(Fails("a\n{% if %}").message()), HasSubstr("line 2, column 7"));
  EXPECT_THAT(std::string(Fails("{{ raise_exception('why') }}").message()), HasSubstr("why"));
  EXPECT_THAT(std::string(Fails("{{ {'a onclick': 1}|xmlattr }}").message()),
              HasSubstr("a onclick"));
  EXPECT_THAT(std::string(Fails("{{ [1, 2]|random }}").message()),
              HasSubstr("No filter named 'random'"));
}

TEST(Jinja, StopsTemplatesThatTakeTooMuch) {
  const auto exhausted = absl::StatusCode::kResourceExhausted;
  EXPECT_EQ(Fails("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
                .code(),
            exhausted);
  EXPECT_EQ(Fails("{{ 'x' * 999999999999 }}").code(), exhausted);
  EXPECT_EQ(Fails("{{ [1] * 999999999999 }}").code(), exhausted);
  EXPECT_EQ(Fails("{{ [[1] * 10000] * 10000 }}").code(), exhausted);
  EXPECT_EQ(Fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").code(), exhausted);
  EXPECT_EQ(
      Fails(
          "{% set n = namespace(l=[]) %}{% for i in range(999) %}{% set n.l = [n.l] %}{% endfor %}")
          .code(),
      exhausted);
  EXPECT_EQ(Fails("{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s "
                  "%}{% endfor %}")
                .code(),
            exhausted);
  EXPECT_EQ(Fails("{{ '%99999999999d' % 1 }}").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Fails(std::string(2 << 20, 'x')).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(Fails("{{ " + std::string(100'000, '(') + "1").ok());
  EXPECT_FALSE(Fails("{{ 1" + std::string(100'000, '+') + "1 }}").ok());
  EXPECT_FALSE(Fails("{{ range(1000000) }}").ok());
}

TEST(Jinja, ANamespaceMayHoldItself) {
  EXPECT_TRUE(Fails("{% set n = namespace() %}{% set n.n = n %}{% macro m() %}{{ n }}{% endmacro "
                    "%}{% set n.m = m %}")
                  .ok());
}

}  // namespace
}  // namespace penstock
