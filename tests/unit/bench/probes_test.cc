// Golden probes: what a file may say, and what each check makes of an answer.
#include "bench/probes.h"

#include <string>
#include <vector>

#include "fakes/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::vector<Probe>> ProbesOf(const std::string& text) {
  const TempDir dir;
  return ReadProbes(dir.Write("probes.jsonl", text));
}

/// Why the answer fails, by a probe of one line.
std::string Judge(const std::string& line, std::string_view answer) {
  const auto probes = ProbesOf(line);
  if (!probes.ok()) return std::string(probes.status().message());
  return JudgeAnswer(probes->front(), answer);
}

TEST(Probes, AnswersAreHeldToTheirCheck) {
  EXPECT_EQ(Judge(R"({"prompt":"p","answer":"ab"})", "ab"), "");
  EXPECT_THAT(Judge(R"({"prompt":"p","answer":"ab"})", "abc"), HasSubstr("byte 2"));
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"exact","answer":"abc"})", "ab"),
              HasSubstr("byte 2: kept \"c\", now \"\""));
  // No character is cut in two.
  EXPECT_THAT(Judge(R"({"prompt":"p","answer":"caf\u00e9"})", "caf\u00e8"),
              HasSubstr("byte 4: kept \"\u00e9\", now \"\u00e8\""));
  EXPECT_EQ(Judge(R"({"prompt":"p","check":"regex","answer":"^\\d+ m$"})", "12 m"), "");
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"regex","answer":"^\\d+ m$"})", "12 ms"),
              HasSubstr("no match"));
  EXPECT_EQ(Judge(R"({"prompt":"p","check":"json"})", " {\"a\": [1]} "), "");
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"json"})", "{\"a\": [1}"), HasSubstr("expected JSON"));
  const char* equal = R"({"prompt":"p","check":"json","answer":"{\"a\":1,\"b\":2}"})";
  EXPECT_EQ(Judge(equal, "{\"b\":2, \"a\":1.0}"), "");
  EXPECT_THAT(Judge(equal, "{\"a\":1}"), HasSubstr("expected the JSON"));
}

TEST(Probes, TheFirstChoiceThatIsAWordCounts) {
  const char* line =
      R"({"prompt":"p","check":"choice","choices":["no","not sure","yes"],"answer":"yes"})";
  EXPECT_EQ(Judge(line, "Yes, and no."), "");
  EXPECT_EQ(Judge(line, "I know: yes"), "");  // "know" is not "no"
  EXPECT_THAT(Judge(line, "No. Yes"), HasSubstr("chosen was \"no\""));
  EXPECT_THAT(Judge(line, "Not sure"), HasSubstr("chosen was \"not sure\""));
  EXPECT_THAT(Judge(line, "perhaps"), HasSubstr("none of the choices"));
}

TEST(Probes, FilesNameLineAndKey) {
  EXPECT_THAT(Judge(R"({"prompt":3})", ""), HasSubstr("probes.jsonl:1: prompt: expected a string"));
  EXPECT_THAT(Judge("{\"prompt\":\"p\"}\n[]", ""),
              HasSubstr("probes.jsonl:2: expected a JSON object"));
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"like"})", ""), HasSubstr("check: expected exact"));
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"nll<=x","answer":"a"})", ""), HasSubstr("nll<="));
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"nll<=2"})", ""),
              HasSubstr("answer: expected the text"));
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"regex","answer":"("})", ""), HasSubstr("answer: "));
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"regex"})", ""), HasSubstr("regular expression"));
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"json","answer":"{"})", ""),
              HasSubstr("that is JSON"));
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"choice","choices":["a"],"answer":"a"})", ""),
              HasSubstr("at least two"));
  EXPECT_THAT(Judge(R"({"prompt":"p","check":"choice","choices":["a","b"],"answer":"c"})", ""),
              HasSubstr("one of choices"));
  EXPECT_THAT(Judge(R"({"prompt":"p","max_tokens":0})", ""), HasSubstr("max_tokens"));
  EXPECT_THAT(Judge("\n \n", ""), HasSubstr("no probe"));
}

TEST(Probes, AreWrittenWithWhatTheyHad) {
  const TempDir dir;
  const std::string first = dir.Write(
      "a",
      "{\"prompt\":\"p\",\"note\":7}\n{\"prompt\":\"q\",\"check\":\"nll<=2\",\"answer\":\"a\"}");
  auto probes = ReadProbes(first);
  ASSERT_TRUE(probes.ok());
  (*probes)[0].answer = "new";
  ASSERT_TRUE(WriteProbes(dir.path() + "/b", *probes).ok());
  const auto again = ReadProbes(dir.path() + "/b");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ((*again)[0].line, "{\"prompt\":\"p\",\"note\":7,\"answer\":\"new\"}");
  EXPECT_EQ((*again)[1].most_nll, 2);
  EXPECT_EQ((*again)[1].answer, "a");
}

}  // namespace
}  // namespace penstock
