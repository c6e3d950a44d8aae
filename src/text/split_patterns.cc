#include "text/split_patterns.h"

#include <map>
#include <nlohmann/json.hpp>

namespace penstock::split_patterns {
namespace {

using Patterns = std::vector<std::string_view>;

constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kDigits = R"(\p{N}+)";
constexpr std::string_view kBloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";
constexpr std::string_view kCjk = "[一-龥ࠀ-一가-퟿]+";
// Characters with numbers are those that normal forms write otherwise.
constexpr std::string_view kDeepSeekLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿ)"
    R"(ᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D})"
    R"(ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭ)"
    R"(ℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻)"
    R"(𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr std::string_view kDeepSeek3 =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"
    "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|)"
    R"(\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}|)"
    R"( ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kKimi =
    R"([\p{Han}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const std::map<std::string_view, Patterns>& GgufTable() {
  static const Patterns gpt2 = {kGpt2};
  static const Patterns llama3 = {kLlama3};
  static const Patterns qwen2 = {kQwen2};
  static const Patterns o200k = {kO200k};
  static const Patterns digits_apart = {kDigit, kGpt2};
  static const Patterns deepseek3 = {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+", kDeepSeek3};
  static const Patterns deepseek_llm = {
      R"([\r\n])", kDeepSeekLetters, R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)", R"(\s+$)", kCjk, kDigits};
  static const Patterns deepseek_coder = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kCjk,
                                          kDigit};
  static const Patterns falcon = {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2, "[0-9][0-9][0-9]"};
  static const std::map<std::string_view, Patterns> table = {
      {"a.x-4.0", gpt2},
      {"bailingmoe", {kBailing}},
      {"bailingmoe2", {kBailing}},
      {"bloom", {kBloom}},
      {"chatglm-bpe", llama3},
      {"codeshell", digits_apart},
      {"command-r", digits_apart},
      {"dbrx", llama3},
      {"deepseek-coder", deepseek_coder},
      {"deepseek-llm", deepseek_llm},
      {"deepseek-r1-qwen", qwen2},
      {"deepseek-v3", deepseek3},
      {"default", gpt2},
      {"exaone", digits_apart},
      {"exaone4", gpt2},
      {"f2llmv2", qwen2},
      {"falcon", falcon},
      {"falcon-h1", llama3},
      {"falcon3", llama3},
      {"gigachat", gpt2},
      {"glm4", llama3},
      {"glm5", llama3},
      {"gpt-2", gpt2},
      {"gpt-4o", o200k},
      {"gpt3-finnish", {kBloom}},
      {"granite-docling", gpt2},
      {"grok-2", qwen2},
      {"hunyuan", qwen2},
      {"hunyuan-dense", deepseek3},
      {"hy_v4", deepseek3},
      {"jais", gpt2},
      {"jina-de", gpt2},
      {"jina-es", gpt2},
      {"jina-v1-en", gpt2},
      {"jina-v2-code", gpt2},
      {"jina-v2-de", gpt2},
      {"jina-v2-es", gpt2},
      {"jina-v5-nano", llama3},
      {"joyai-llm", deepseek3},
      {"kanana2", o200k},
      {"kimi-k2", {kKimi}},
      {"kormo", qwen2},
      {"lfm2", llama3},
      {"llada-moe", {kBailing}},
      {"llama-bpe", llama3},
      {"llama-v3", llama3},
      {"llama3", llama3},
      {"llama4", o200k},
      {"megrez", qwen2},
      {"mellum", gpt2},
      {"mellum2", digits_apart},
      {"midm-2.0", llama3},
      {"minerva-7b", digits_apart},
      {"minicpm5", {R"(\p{N}{1,3})", kLlama3}},
      {"minimax-m2", o200k},
      {"modern-bert", gpt2},
      {"mpt", gpt2},
      {"olmo", gpt2},
      {"phi-2", gpt2},
      {"pixtral", llama3},
      {"poro-chat", {kBloom}},
      {"qwen2", qwen2},
      {"qwen35", {kQwen35}},
      {"refact", digits_apart},
      {"roberta-bpe", gpt2},
      {"seed-coder", {kSeedCoder}},
      {"smaug-bpe", llama3},
      {"smollm", digits_apart},
      {"solar-open", qwen2},
      {"stablelm2", qwen2},
      {"starcoder", digits_apart},
      {"talkie", o200k},
      {"tekken", {kTekken}},
      {"trillion", gpt2},
      {"viking", {kBloom, kDigit}},
  };
  return table;
}

}  // namespace

const std::vector<std::string_view>* FindByGgufName(std::string_view name) {
  const auto it = GgufTable().find(name);
  return it == GgufTable().end() ? nullptr : &it->second;
}

std::string GgufNames() {
  std::string names;
  for (const auto& [name, unused] : GgufTable()) {
    if (!names.empty()) names += ", ";
    names += name;
  }
  return names;
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> MakeByteLevelSplit(
    const std::vector<std::string_view>& patterns) {
  nlohmann::json steps = nlohmann::json::array();
  for (const std::string_view pattern : patterns) {
    if (pattern == kDigit) {
      steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
      continue;
    }
    steps.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}});
  }
  steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
  return MakePreTokenizer({{"type", "Sequence"}, {"pretokenizers", std::move(steps)}});
}

}  // namespace penstock::split_patterns
