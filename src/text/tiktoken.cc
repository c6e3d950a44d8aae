#include "text/tiktoken.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/pipeline_tokenizer.h"
#include "text/split_patterns.h"
#include "text/vocabulary.h"

namespace penstock {
namespace {

struct TiktokenLine {
  std::string token;  // its bytes
  TokenId rank = 0;
};

std::optional<TiktokenLine> ParseTiktokenLine(std::string_view line) {
  const size_t blank = line.find(' ');
  TiktokenLine out;
  if (blank == std::string_view::npos || blank == 0 ||
      !absl::SimpleAtoi(ToAbsl(line.substr(blank + 1)), &out.rank) || out.rank < 0 ||
      !absl::Base64Unescape(ToAbsl(line.substr(0, blank)), &out.token) || out.token.empty()) {
    return std::nullopt;
  }
  return out;
}

// The line at `*pos`, without its end; moves behind it.
std::string_view NextLine(std::string_view text, size_t* pos) {
  const size_t end = std::min(text.find('\n', *pos), text.size());
  std::string_view line = text.substr(*pos, end - *pos);
  *pos = end + 1;
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

struct SpecialToken {
  std::string text;
  TokenId id;
};

// The 256 of Llama 3: those with a name, and reserved ones in all other places.
std::vector<SpecialToken> Llama3Specials(TokenId first) {
  std::vector<SpecialToken> out;
  const auto add = [&](std::string text) {
    out.push_back({std::move(text), first + static_cast<TokenId>(out.size())});
  };
  const auto reserved = [&](int number) {
    add(absl::StrCat("<|reserved_special_token_", number, "|>"));
  };
  add("<|begin_of_text|>");
  add("<|end_of_text|>");
  reserved(0);
  reserved(1);
  add("<|finetune_right_pad_id|>");
  reserved(2);
  add("<|start_header_id|>");
  add("<|end_header_id|>");
  add("<|eom_id|>");
  add("<|eot_id|>");
  add("<|python_tag|>");
  for (int number = 3; out.size() < 256; ++number) reserved(number);
  return out;
}

std::vector<SpecialToken> QwenSpecials(TokenId first) {
  std::vector<SpecialToken> out = {
      {"<|endoftext|>", first}, {"<|im_start|>", first + 1}, {"<|im_end|>", first + 2}};
  for (int i = 0; i < 205; ++i) out.push_back({absl::StrCat("<|extra_", i, "|>"), first + 3 + i});
  return out;
}

std::vector<SpecialToken> O200kSpecials(TokenId first) {
  return {{"<|startoftext|>", first},     {"<|endoftext|>", first + 1}, {"<|return|>", first + 4},
          {"<|constrain|>", first + 5},   {"<|channel|>", first + 7},   {"<|start|>", first + 8},
          {"<|end|>", first + 9},         {"<|message|>", first + 10},  {"<|call|>", first + 14},
          {"<|endofprompt|>", first + 20}};
}

std::vector<SpecialToken> SpecialsOf(TiktokenFamily family, TokenId first) {
  switch (family) {
    case TiktokenFamily::kGpt2:
      return {{"<|endoftext|>", 50256}};
    case TiktokenFamily::kCl100k:
      return {{"<|endoftext|>", first + 1},
              {"<|fim_prefix|>", first + 2},
              {"<|fim_middle|>", first + 3},
              {"<|fim_suffix|>", first + 4},
              {"<|endofprompt|>", first + 20}};
    case TiktokenFamily::kLlama3:
      return Llama3Specials(first);
    case TiktokenFamily::kQwen:
      return QwenSpecials(first);
    case TiktokenFamily::kO200k:
      return O200kSpecials(first);
    case TiktokenFamily::kKimi:
      return {{"[BOS]", first},
              {"[EOS]", first + 1},
              {"<|im_end|>", first + 2},
              {"<|im_user|>", first + 3},
              {"<|im_assistant|>", first + 4},
              {"<|im_system|>", first + 10},
              {"<|im_middle|>", first + 17}};
  }
  return {};
}

std::vector<std::string_view> PatternsOf(TiktokenFamily family) {
  switch (family) {
    case TiktokenFamily::kGpt2:
      return {split_patterns::kGpt2};
    case TiktokenFamily::kCl100k:
      return {split_patterns::kCl100k};
    case TiktokenFamily::kLlama3:
      return {split_patterns::kLlama3};
    case TiktokenFamily::kQwen:
      return {split_patterns::kQwen2};
    case TiktokenFamily::kO200k:
      return {split_patterns::kO200k};
    case TiktokenFamily::kKimi:
      return *split_patterns::FindByGgufName("kimi-k2");
  }
  return {};
}

absl::StatusOr<BpeConfig> ReadRanks(std::string_view text) {
  BpeConfig config;
  config.ignore_merges = true;  // a word that is a token is that token
  TokenId last = -1;
  size_t number = 0;
  for (size_t pos = 0; pos < text.size();) {
    const std::string_view line = NextLine(text, &pos);
    ++number;
    if (line.empty()) continue;
    const std::optional<TiktokenLine> parsed = ParseTiktokenLine(line);
    if (!parsed) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": expected a token in base64, a blank and a rank"));
    }
    config.vocab.emplace_back(byte_level::Encode(parsed->token), parsed->rank);
    last = std::max(last, parsed->rank);
  }
  const TokenId max_rank = Vocabulary::MaxId(config.vocab.size());
  if (last < 0) return absl::InvalidArgumentError("a tiktoken file without tokens");
  if (last > max_rank)
    return absl::InvalidArgumentError(absl::StrCat("rank ", last, ", expected at most ", max_rank));
  config.token_ranks.assign(static_cast<size_t>(last) + 1, -1);
  for (const auto& [token, rank] : config.vocab) config.token_ranks[rank] = rank;
  return config;
}

}  // namespace

bool LooksLikeTiktoken(std::string_view text) {
  size_t pos = 0;
  return ParseTiktokenLine(NextLine(text, &pos)).has_value();
}

std::optional<TiktokenFamily> GuessTiktokenFamily(std::string_view file_name,
                                                  std::string_view text) {
  static constexpr std::pair<std::string_view, TiktokenFamily> kByName[] = {
      {"r50k_base", TiktokenFamily::kGpt2},   {"p50k_base", TiktokenFamily::kGpt2},
      {"gpt2", TiktokenFamily::kGpt2},        {"cl100k_base", TiktokenFamily::kCl100k},
      {"o200k_base", TiktokenFamily::kO200k}, {"o200k_harmony", TiktokenFamily::kO200k},
      {"qwen", TiktokenFamily::kQwen}};
  static constexpr std::pair<size_t, TiktokenFamily> kBySize[] = {
      {50256, TiktokenFamily::kGpt2},    {50280, TiktokenFamily::kGpt2},
      {100256, TiktokenFamily::kCl100k}, {128000, TiktokenFamily::kLlama3},
      {151643, TiktokenFamily::kQwen},   {199998, TiktokenFamily::kO200k},
      {163584, TiktokenFamily::kKimi}};
  for (const auto& [name, family] : kByName) {
    if (file_name.substr(0, name.size()) == name) return family;
  }
  const auto num_lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) +
                         (!text.empty() && text.back() != '\n' ? 1 : 0);
  for (const auto& [size, family] : kBySize) {
    if (num_lines == size) return family;
  }
  return std::nullopt;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTiktoken(
    std::string_view text, TiktokenFamily family, const std::vector<AddedToken>& added_tokens) {
  ASSIGN_OR_RETURN(BpeConfig config, ReadRanks(text));
  TokenizerParts parts;
  const auto first = static_cast<TokenId>(config.token_ranks.size());
  for (SpecialToken& special : SpecialsOf(family, first)) {
    AddedToken token;
    token.content = std::move(special.text);
    token.id = special.id;
    token.normalized = false;
    token.special = true;
    parts.added_tokens.push_back(std::move(token));
  }
  OverrideAddedTokens(added_tokens, &parts.added_tokens);
  if (family == TiktokenFamily::kQwen) {
    ASSIGN_OR_RETURN(parts.normalizer, MakeNormalizerNamed("NFC"));
  }
  ASSIGN_OR_RETURN(parts.pre_tokenizer, split_patterns::MakeByteLevelSplit(PatternsOf(family)));
  ASSIGN_OR_RETURN(parts.model, Bpe::Make(std::move(config)));
  parts.decoder = MakeByteLevelDecoder();
  const bool starts_with_first =
      family == TiktokenFamily::kLlama3 || family == TiktokenFamily::kKimi;
  if (starts_with_first) parts.post_processor = PostProcessor({first}, {});
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

}  // namespace penstock
