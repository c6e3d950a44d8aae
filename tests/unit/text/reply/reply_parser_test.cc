// Replies of every format, whole and in every split: the pieces are the same.
#include "text/reply/reply_parser.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "reply_cases.h"
#include "test_seed.h"

namespace penstock {
namespace {

using namespace reply_cases;  // NOLINT: the names of one test in two files

std::string ParseIn(const Case& c, const std::vector<size_t>& cuts, int* failed) {
  ReplyParser parser({Calls(c.calls), Reasoning(c.reasoning)}, c.in_reasoning, KindsOfCases());
  std::vector<ReplyPiece> pieces;
  size_t begin = 0;
  for (const size_t end : cuts) {
    parser.Append(std::string_view(c.text).substr(begin, end - begin), pieces);
    begin = end;
  }
  parser.Append(std::string_view(c.text).substr(begin), pieces);
  parser.Finish(false, pieces);
  *failed = parser.num_failed();
  return Describe(pieces);
}

class ReplyCases : public ::testing::TestWithParam<size_t> {};

TEST_P(ReplyCases, GiveTheSamePiecesInEverySplit) {
  const Case& c = kCases[GetParam()];
  int failed = 0;
  EXPECT_EQ(ParseIn(c, {}, &failed), c.expected);
  EXPECT_EQ(failed, c.failed);
  std::vector<size_t> bytes;
  for (size_t i = 1; i < c.text.size(); ++i) bytes.push_back(i);
  EXPECT_EQ(ParseIn(c, bytes, &failed), c.expected);
  for (const size_t cut : bytes) EXPECT_EQ(ParseIn(c, {cut}, &failed), c.expected) << cut;
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  for (int round = 0; round < 50; ++round) {
    std::vector<size_t> cuts;
    for (const size_t cut : bytes) {
      if (random() % 5 == 0) cuts.push_back(cut);
    }
    EXPECT_EQ(ParseIn(c, cuts, &failed), c.expected);
    EXPECT_EQ(failed, c.failed);
  }
}

INSTANTIATE_TEST_SUITE_P(All, ReplyCases, ::testing::Range<size_t>(0, std::size(kCases)));

TEST(JsonScanner, AgreesWithAParserOnRandomMutations) {
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  const std::string seed =
      R"({"a": [1, -2.5e+3, true, false, null, "x\n\u00e4\\\""], "b": {"c": {}, "d": [[]]}, "e": 0})";
  const std::string alphabet = "{}[]\":,0123456789.eE+-tfn\\u \n\x01";
  int valid = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = seed;
    for (uint32_t i = random() % 4; i > 0; --i) {
      const size_t at = random() % text.size();
      if (random() % 3 == 0) {
        text.erase(at, 1);
      } else if (random() % 2 == 0) {
        text[at] = alphabet[random() % alphabet.size()];
      } else {
        text.insert(at, 1, alphabet[random() % alphabet.size()]);
      }
    }
    JsonScanner scanner;
    JsonScanner::Result result = JsonScanner::Result::kMore;
    size_t used = 0;
    while (used < text.size() && result == JsonScanner::Result::kMore)
      result = scanner.Next(text[used++]);
    const bool whole = result == JsonScanner::Result::kDone && used == text.size();
    const auto parsed = nlohmann::json::parse(text, nullptr, false);
    const bool container = parsed.is_structured() || parsed.is_string();
    const bool padded = !text.empty() && (text.back() == ' ' || text.back() == '\n');
    if (!padded) {
      EXPECT_EQ(whole, container) << text;
    }
    valid += whole ? 1 : 0;
  }
  EXPECT_GT(valid, 1000);
}

TEST(ReplyParser, IsOverBehindItsCallWhereItMayHaveOne) {
  const std::pair<const char*, const char*> cases[] = {
      {"hermes", "I ask. <tool_call>{\"name\":\"f\"}</tool_call><tool_call>{\"name\":\"g\"}"},
      {"granite", "I ask. <|tool_call|>[{\"name\": \"f\"}, {\"name\": \"g\"}]"},
      {"mistral", "I ask. [TOOL_CALLS]f{}[TOOL_CALLS]g{}"},
      {"qwen3_coder", "I ask. <tool_call><function=f></function></tool_call><tool_call>"},
      {"pythonic", "I ask. <|python_start|>[f(), g()]"},
      {"harmony",
       "<|channel|>final<|message|>I ask.<|end|><|start|>assistant to=functions.f"
       "<|channel|>commentary<|message|>{}<|end|><|start|>assistant"},
  };
  for (const auto& [format, text] : cases) {
    ReplyParser parser({Calls(format), nullptr}, false, nullptr, true);
    std::vector<ReplyPiece> pieces;
    for (const char c : std::string_view(text)) parser.Append(std::string(1, c), pieces);
    EXPECT_TRUE(parser.over()) << format;
    parser.Append("more", pieces);
    parser.Finish(false, pieces);
    EXPECT_EQ(Describe(pieces), "I ask.#0:f({})") << format;
    EXPECT_EQ(parser.num_failed(), 0) << format;
  }
}

TEST(ReplyFormat, IsKnownByTheTemplate) {
  EXPECT_EQ(CallFormatOf("{{ '<tool_call>' }}{{ '</tool_call>' }}")->name, "hermes");
  EXPECT_EQ(CallFormatOf("[TOOL_CALLS]")->name, "mistral");
  EXPECT_EQ(CallFormatOf("<tool_call><function=f><parameter=p>")->name, "qwen3_coder");
  EXPECT_EQ(CallFormatOf("<seed:tool_call><function=f><parameter=p>"), nullptr);
  EXPECT_EQ(CallFormatOf("'<function=' + name + '>' + arguments + '</function>'")->name,
            "functionary_v31");
  EXPECT_EQ(CallFormatOf("'\\nAction:\\n```json\\n['")->name, "command_r_plus");
  EXPECT_EQ(CallFormatOf("<tool_call>f<arg_key>")->name, "glm45");
  EXPECT_EQ(CallFormatOf("{{ messages }}"), nullptr);
  EXPECT_EQ(CallFormatOf("'<｜tool▁call▁begin｜>' '```json'")->name, "deepseek_v3");
  EXPECT_EQ(CallFormatOf("'<｜tool▁call▁begin｜>'")->name, "deepseek_v31");
  EXPECT_EQ(CallFormatOf("{{- tool_call.name + '(' -}}")->name, "pythonic");
  EXPECT_EQ(CallFormatOf("<|START_ACTION|>[")->name, "command_r");
  EXPECT_EQ(CallFormatOf("'<｜tool▁call▁begin｜>function<｜tool▁sep｜>' '\\n```' + 'json'")->name,
            "deepseek_v3");
  EXPECT_EQ(CallFormatOf("<|header_start|>assistant<|header_end|>{\"name\": \"parameters\"")->name,
            "llama3_json");
  for (const char* other :
       {"<tool_calls>[", "<use_mcp_tool>", "<invoke name=\"f\">", "<|tool_call_start|>"}) {
    EXPECT_EQ(CallFormatOf(absl::StrCat("<tool_call></tool_call>", other)), nullptr) << other;
    EXPECT_EQ(CallFormatOf(absl::StrCat("{{ call.name + '(' }}", other)), nullptr) << other;
  }
  EXPECT_EQ(CallFormatOf("format:\n>>>${recipient}\n${content}")->name, "functionary");
  EXPECT_EQ(CallFormatOf("<|start|>assistant<|channel|>final")->name, "harmony");
  EXPECT_EQ(ReasoningFormatOf("<|start|>assistant<|channel|>analysis<|message|>")->name, "harmony");
  EXPECT_EQ(ReasoningFormatOf("<|user|>Hi<|end|>"), nullptr);
  EXPECT_EQ(ReasoningFormatOf("<|END_THINKING|>")->name, "command_r");
  EXPECT_EQ(ReasoningFormatOf("x.split('</think>')")->name, "think");
  EXPECT_EQ(ReasoningFormatOf("between <think></think> and <response></response>")->name,
            "granite");
  EXPECT_EQ(ReasoningFormatOf("<think></think><tool_response></tool_response>")->name, "think");
  EXPECT_EQ(ReasoningFormatOf("<think></think>'<response>' ~ result ~ '</response>'")->name,
            "think");
  EXPECT_EQ(ReasoningFormatOf("your response after 'Here is my response:'")->name, "granite_prose");
  EXPECT_EQ(ReasoningFormatOf("x"), nullptr);
  EXPECT_TRUE(EndsInReasoning(*Reasoning("think"), "<|assistant|><think>\n"));
  EXPECT_FALSE(EndsInReasoning(*Reasoning("think"), "<think>\n\n</think>\n\n"));
  EXPECT_FALSE(EndsInReasoning(*Reasoning("think"), "<|assistant|>"));
}

TEST(ReplyFormat, IsKnownByRealTemplates) {
  std::ifstream file(PENSTOCK_SHARED_DATA "/chat/chat_goldens.json");
  if (!file) GTEST_SKIP() << "the shared data is not there";
  const auto templates = nlohmann::json::parse(file)["templates"];
  const std::map<std::string, std::pair<std::string, std::string>> expected = {
      {"llama.cpp/Qwen-Qwen3-0.6B.jinja", {"hermes", "think"}},
      {"llama.cpp/GLM-4.6.jinja", {"glm45", "think"}},
      {"llama.cpp/Kimi-K2-Thinking.jinja", {"kimi_k2", "think"}},
      {"llama.cpp/Cohere2MoE.jinja", {"command_r", "command_r"}},
      {"llama.cpp/CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja", {"command_r", "command_r"}},
      {"llama.cpp/CohereForAI-c4ai-command-r-plus-tool_use.jinja", {"command_r_plus", ""}},
      {"llama.cpp/meetkai-functionary-medium-v3.2.jinja", {"functionary", ""}},
      {"llama.cpp/mistralai-Ministral-3-14B-Reasoning-2512.jinja", {"mistral", "magistral"}},
      {"llama.cpp/meta-llama-Llama-3.2-3B-Instruct.jinja", {"llama3_json", ""}},
      {"tokjinja/onnxruntime-extensions/gpt-oss", {"harmony", "harmony"}},
      {"vllm/tool_chat_template_deepseekr1.jinja", {"deepseek_v3", "think"}},
      {"vllm/tool_chat_template_deepseekv31.jinja", {"deepseek_v31", "think"}},
      {"vllm/tool_chat_template_granite.jinja", {"granite", ""}},
      {"vllm/tool_chat_template_granite_20b_fc.jinja", {"", ""}},
      {"vllm/tool_chat_template_llama3.2_json.jinja", {"llama3_json", ""}},
      {"vllm/tool_chat_template_llama3.2_pythonic.jinja", {"pythonic", ""}},
      {"vllm/tool_chat_template_llama4_pythonic.jinja", {"pythonic", ""}},
      {"vllm/tool_chat_template_qwen3coder.jinja", {"qwen3_coder", ""}},
      {"vllm/tool_chat_template_toolace.jinja", {"pythonic", ""}},
      {"tokcfg/onnxruntime-extensions/phi-3", {"", ""}},
      {"llama.cpp/ByteDance-Seed-OSS.jinja", {"", ""}},
      {"llama.cpp/NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja", {"hermes", ""}},
      {"llama.cpp/Qwen-Qwen2.5-7B-Instruct.jinja", {"hermes", ""}},
      {"llama.cpp/deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja", {"deepseek_v3", "think"}},
      {"llama.cpp/ibm-granite-granite-3.3-2B-Instruct.jinja", {"granite", "granite"}},
      {"llama.cpp/mistralai-Mistral-Nemo-Instruct-2407.jinja", {"mistral", ""}},
      {"llama.cpp/moonshotai-Kimi-K2.jinja", {"kimi_k2", ""}},
      {"llama.cpp/unsloth-mistral-Devstral-Small-2507.jinja", {"mistral", ""}},
      {"mistral-common/v3_image.jinja", {"mistral", ""}},
      {"mistral-common/v7.jinja", {"mistral", ""}},
      {"mistral-common/v13_image_think.jinja", {"mistral", "magistral"}},
      {"tokcfg/onnxruntime-extensions/phi-4-mini", {"phi4_mini", ""}},
      {"vllm/tool_chat_template_deepseekv3.jinja", {"deepseek_v3", ""}},
      {"vllm/tool_chat_template_hermes.jinja", {"hermes", ""}},
      {"vllm/tool_chat_template_mistral3.jinja", {"mistral", ""}},
      {"llama.cpp/unsloth-Apriel-1.5.jinja", {"", ""}},
      {"llama.cpp/LFM2.5-Instruct.jinja", {"", "think"}},
      {"llama.cpp/ibm-granite-granite-4.1.jinja", {"hermes", ""}},
  };
  for (const auto& [name, formats] : expected) {
    ASSERT_TRUE(templates.contains(name)) << name;
    const auto source = templates[name].get<std::string>();
    const CallFormat* calls = CallFormatOf(source);
    const ReasoningFormat* reasoning = ReasoningFormatOf(source);
    EXPECT_EQ(calls == nullptr ? "" : calls->name, formats.first) << name;
    EXPECT_EQ(reasoning == nullptr ? "" : reasoning->name, formats.second) << name;
  }
}

}  // namespace
}  // namespace penstock
