#include "text/gguf_vocabulary.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "text/bpe.h"
#include "text/pipeline_tokenizer.h"
#include "text/sentencepiece_model.h"
#include "text/split_patterns.h"
#include "text/word_piece.h"

namespace penstock {
namespace {

using Type = SentencePiece::Type;
using GgufResult = absl::StatusOr<std::unique_ptr<Tokenizer>>;

Type TypeOf(const GgufVocabulary& v, size_t i) {
  return v.token_types.empty() ? Type::kNormal : static_cast<Type>(v.token_types[i]);
}

absl::Status CheckTables(const GgufVocabulary& v) {
  const size_t count = v.tokens.size();
  if (count == 0) return absl::InvalidArgumentError("tokenizer.ggml.tokens is missing or empty");
  if ((!v.scores.empty() && v.scores.size() != count) ||
      (!v.token_types.empty() && v.token_types.size() != count)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml: ", count, " tokens, ", v.scores.size(), " scores and ",
                     v.token_types.size(), " types, expected as many of each"));
  }
  for (size_t i = 0; i < v.token_types.size(); ++i) {
    if (v.token_types[i] < 1 || v.token_types[i] > 6) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tokenizer.ggml.token_type[", i, "]: ", v.token_types[i], ", expected one of 1 to 6"));
    }
  }
  for (const std::optional<TokenId>& id : {v.bos_id, v.eos_id, v.unk_id, v.sep_id}) {
    if (id && (*id < 0 || static_cast<size_t>(*id) >= count)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml: special token id ", *id, " of ", count, " tokens"));
    }
  }
  return absl::OkStatus();
}

std::vector<AddedToken> AddedTokensOf(const GgufVocabulary& v) {
  std::vector<AddedToken> added;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const Type type = TypeOf(v, i);
    const bool special = type == Type::kControl || type == Type::kUnknown;
    if ((!special && type != Type::kUserDefined) || v.tokens[i].empty()) continue;
    AddedToken token;
    token.id = static_cast<TokenId>(i);
    token.content = v.tokens[i];
    token.normalized = false;
    token.special = special;
    added.push_back(std::move(token));
  }
  return added;
}

PostProcessor Around(const GgufVocabulary& v, bool add_bos, bool add_eos) {
  std::vector<TokenId> before;
  std::vector<TokenId> after;
  if (v.bos_id && v.add_bos.value_or(add_bos)) before.push_back(*v.bos_id);
  if (v.eos_id && v.add_eos.value_or(add_eos)) after.push_back(*v.eos_id);
  return PostProcessor(std::move(before), std::move(after));
}

// The blank between the two tokens is the first one behind the start, since a token may start with
// one.
absl::Status SplitMerges(const std::vector<std::string>& merges, BpeConfig* config) {
  for (size_t i = 0; i < merges.size(); ++i) {
    const size_t blank = merges[i].find(' ', 1);
    if (merges[i].empty() || blank == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.merges[", i, "]: expected two tokens with a blank between"));
    }
    config->merges.emplace_back(merges[i].substr(0, blank), merges[i].substr(blank + 1));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> MakeGgufPreTokenizer(
    const std::string& pre, const std::vector<std::string_view>& patterns) {
  if (pre != "falcon") return split_patterns::MakeByteLevelSplit(patterns);
  // Its last steps see the byte-level alphabet, in which a few bytes are digits.
  return MakePreTokenizer(nlohmann::json::parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Punctuation", "behavior": "Contiguous"},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
      {"type": "Digits", "individual_digits": false},
      {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated"}]})"));
}

/// Pre-tokenizers whose families compose characters first (NFC).
constexpr std::string_view kComposed[] = {"qwen2", "qwen35", "deepseek-r1-qwen", "f2llmv2"};
/// Whose texts start with the token where the file does not say.
constexpr std::string_view kStartsWithBos[] = {"llama-bpe", "llama-v3",  "llama3",      "falcon3",
                                               "falcon-h1", "pixtral",   "lfm2",        "midm-2.0",
                                               "tekken",    "smaug-bpe", "jina-v5-nano"};
/// Beside those, whose words that are a token are that token.
constexpr std::string_view kIgnoresMerges[] = {"gpt-4o", "llama4",      "kanana2",  "glm4",
                                               "glm5",   "chatglm-bpe", "minicpm5", "dbrx"};

template <class List>
bool Named(const List& list, std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

/// Gemma 4: merges run over a text whose blanks are U+2581, without bytes' own alphabet.
GgufResult MakeGgufBlankBpe(GgufVocabulary v) {
  TokenizerParts parts;
  parts.added_tokens = AddedTokensOf(v);
  parts.post_processor = Around(v, true, false);
  BpeConfig config;
  RETURN_IF_ERROR(SplitMerges(v.merges, &config));
  config.byte_fallback = true;
  config.fuse_unk = true;
  if (v.unk_id) config.unk_token = v.tokens[*v.unk_id];
  for (size_t i = 0; i < v.tokens.size(); ++i)
    config.vocab.emplace_back(std::move(v.tokens[i]), static_cast<TokenId>(i));
  ASSIGN_OR_RETURN(parts.model, Bpe::Make(std::move(config)));
  ASSIGN_OR_RETURN(
      parts.normalizer,
      MakeNormalizer({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}));
  ASSIGN_OR_RETURN(parts.decoder, MakeTokenDecoder(nlohmann::json::parse(R"({"type": "Sequence",
      "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                   {"type": "ByteFallback"}, {"type": "Fuse"}]})")));
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

GgufResult MakeGgufBpe(GgufVocabulary v) {
  const std::string pre = v.pre.empty() ? "default" : v.pre;
  const std::vector<std::string_view>* patterns = split_patterns::FindByGgufName(pre);
  if (patterns == nullptr) {
    return absl::UnimplementedError(absl::StrCat("tokenizer.ggml.pre \"", pre,
                                                 "\" is not supported; known are ",
                                                 split_patterns::GgufNames()));
  }
  TokenizerParts parts;
  parts.added_tokens = AddedTokensOf(v);
  if (Named(kComposed, pre)) {
    ASSIGN_OR_RETURN(parts.normalizer, MakeNormalizerNamed("NFC"));
  }
  ASSIGN_OR_RETURN(parts.pre_tokenizer, MakeGgufPreTokenizer(pre, *patterns));
  parts.post_processor = Around(v, Named(kStartsWithBos, pre), false);
  BpeConfig config;
  RETURN_IF_ERROR(SplitMerges(v.merges, &config));
  config.ignore_merges = Named(kIgnoresMerges, pre) || Named(kStartsWithBos, pre);
  for (size_t i = 0; i < v.tokens.size(); ++i)
    config.vocab.emplace_back(std::move(v.tokens[i]), static_cast<TokenId>(i));
  ASSIGN_OR_RETURN(parts.model, Bpe::Make(std::move(config)));
  parts.decoder = MakeByteLevelDecoder();
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

GgufResult MakeGgufPieces(GgufVocabulary v, SentencePieceModel::Algorithm algorithm) {
  const bool is_bpe = algorithm == SentencePieceModel::Algorithm::kBpe;
  SentencePieceModel model;
  model.algorithm = algorithm;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    Type type = TypeOf(v, i);
    if (v.unk_id && static_cast<size_t>(*v.unk_id) == i) type = Type::kUnknown;
    model.byte_fallback = model.byte_fallback || type == Type::kByte;
    model.pieces.push_back({std::move(v.tokens[i]), v.scores.empty() ? 0 : v.scores[i], type});
  }
  model.bos_id = v.bos_id;
  model.eos_id = v.eos_id;
  model.charsmap = std::move(v.precompiled_charsmap);
  model.add_dummy_prefix = v.add_space_prefix.value_or(true);
  model.remove_extra_whitespaces = v.remove_extra_whitespaces.value_or(!is_bpe);
  SentencePieceOptions options;
  options.add_bos = v.add_bos.value_or(is_bpe);
  options.add_eos = v.add_eos.value_or(!is_bpe);
  return MakeSentencePieceTokenizer(std::move(model), options);
}

// The file writes a word's first token with U+2581 in front and the others bare.
GgufResult MakeGgufWordPiece(GgufVocabulary v) {
  constexpr std::string_view kFirst = "\u2581";
  WordPieceConfig config;
  TokenizerParts parts;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    std::string& token = v.tokens[i];
    const bool named = token.size() > 2 && token.front() == '[' && token.back() == ']';
    if (token.compare(0, kFirst.size(), kFirst) == 0) {
      token.erase(0, kFirst.size());
    } else if (!named) {
      token.insert(0, "##");
    }
    config.vocab.emplace_back(token, static_cast<TokenId>(i));
    if (!named || TypeOf(v, i) == Type::kNormal) continue;
    AddedToken added;
    added.id = static_cast<TokenId>(i);
    added.content = token;
    added.normalized = false;
    added.special = true;
    parts.added_tokens.push_back(std::move(added));
  }
  if (v.unk_id) config.unk_token = v.tokens[*v.unk_id];
  if (!v.eos_id) v.eos_id = v.sep_id;
  parts.post_processor = Around(v, true, true);
  ASSIGN_OR_RETURN(parts.model, WordPiece::Make(std::move(config)));
  ASSIGN_OR_RETURN(parts.normalizer, MakeNormalizer({{"type", "BertNormalizer"}}));
  ASSIGN_OR_RETURN(parts.pre_tokenizer, MakePreTokenizer({{"type", "BertPreTokenizer"}}));
  ASSIGN_OR_RETURN(parts.decoder, MakeTokenDecoder({{"type", "WordPiece"}}));
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

}  // namespace

GgufResult MakeGgufTokenizer(GgufVocabulary vocabulary) {
  RETURN_IF_ERROR(CheckTables(vocabulary));
  const std::string model = vocabulary.model;
  if (model == "gemma4" || (model == "gpt2" && vocabulary.pre == "gemma4"))
    return MakeGgufBlankBpe(std::move(vocabulary));
  if (model == "gpt2") return MakeGgufBpe(std::move(vocabulary));
  if (model == "llama") {
    return MakeGgufPieces(std::move(vocabulary), SentencePieceModel::Algorithm::kBpe);
  }
  if (model == "t5") {
    return MakeGgufPieces(std::move(vocabulary), SentencePieceModel::Algorithm::kUnigram);
  }
  if (model == "bert") return MakeGgufWordPiece(std::move(vocabulary));
  return absl::UnimplementedError(absl::StrCat("tokenizer.ggml.model \"", model,
                                               "\" is not supported; known are gpt2, llama, t5, "
                                               "bert, gemma4"));
}

}  // namespace penstock
