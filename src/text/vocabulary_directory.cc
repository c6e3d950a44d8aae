#include "text/vocabulary_directory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/json_fields.h"
#include "text/split_patterns.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr const char* kWords = "/vocab.txt";
constexpr const char* kVocabulary = "/vocab.json";
constexpr const char* kMerges = "/merges.txt";

absl::StatusOr<std::string> ReadUtf8(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  if (!IsValidUtf8(text)) return absl::InvalidArgumentError(absl::StrCat(path, ": is not UTF-8"));
  return text;
}

/// Calls fn(line) for each line without its end; the one behind the last line break is none.
template <class Fn>
void ForEachLine(std::string_view text, Fn fn) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    fn(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

/// What `config` says is the text of a token; `absent` where it does not.
std::string TokenOr(const Json& config, std::string_view key, std::string_view absent) {
  const Json* value = json_fields::Find(config, key);
  if (value == nullptr) return std::string(absent);
  if (value->is_string()) return value->get<std::string>();
  const absl::StatusOr<std::string> content = json_fields::String(*value, "content");
  return content.ok() ? *content : std::string(absent);
}

void AddSpecial(Json& tokenizer, const std::string& content) {
  if (content.empty()) return;
  for (const Json& known : tokenizer["added_tokens"]) {
    if (known["content"] == content) return;
  }
  tokenizer["added_tokens"].push_back(
      {{"content", content}, {"special", true}, {"normalized", false}});
}

absl::StatusOr<Json> BertTokenizer(const std::string& dir, const Json& config) {
  ASSIGN_OR_RETURN(const std::string text, ReadUtf8(dir + kWords));
  Json vocab = Json::object();
  int64_t id = 0;
  ForEachLine(text, [&](std::string_view line) { vocab[std::string(line)] = id++; });
  ASSIGN_OR_RETURN(const bool lower, json_fields::BoolOr(config, "do_lower_case", true));
  ASSIGN_OR_RETURN(const bool chinese, json_fields::BoolOr(config, "tokenize_chinese_chars", true));
  const Json* strip = json_fields::Find(config, "strip_accents");
  const std::string unk = TokenOr(config, "unk_token", "[UNK]");
  const std::string cls = TokenOr(config, "cls_token", "[CLS]");
  const std::string sep = TokenOr(config, "sep_token", "[SEP]");
  Json out = {{"added_tokens", Json::array()}};
  for (const std::string& token : {unk, sep, TokenOr(config, "pad_token", "[PAD]"), cls,
                                   TokenOr(config, "mask_token", "[MASK]")}) {
    if (vocab.contains(token)) AddSpecial(out, token);
  }
  for (const std::string& token : {unk, cls, sep}) {
    if (!vocab.contains(token)) {
      return absl::InvalidArgumentError(
          absl::StrCat(dir, kWords, ": the token \"", token, "\" is missing"));
    }
  }
  out["normalizer"] = {{"type", "BertNormalizer"},
                       {"clean_text", true},
                       {"handle_chinese_chars", chinese},
                       {"strip_accents", strip == nullptr ? Json() : *strip},
                       {"lowercase", lower}};
  out["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  out["post_processor"] = {
      {"type", "BertProcessing"}, {"sep", {sep, vocab[sep]}}, {"cls", {cls, vocab[cls]}}};
  out["decoder"] = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  out["model"] = {{"type", "WordPiece"}, {"unk_token", unk}, {"vocab", std::move(vocab)}};
  return out;
}

/// What sets the kin of GPT-2 apart.
enum class Kin { kGpt2, kRoberta, kQwen2 };

absl::StatusOr<Kin> KinOf(const std::string& dir, const Json& config) {
  std::string name = TokenOr(config, "tokenizer_class", "GPT2Tokenizer");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (name == "GPT2Tokenizer") return Kin::kGpt2;
  if (name == "RobertaTokenizer") return Kin::kRoberta;
  if (name == "Qwen2Tokenizer") return Kin::kQwen2;
  return absl::UnimplementedError(
      absl::StrCat(dir, kVocabulary, ": a vocabulary of \"", name,
                   "\" is not supported without a tokenizer.json; known are GPT2Tokenizer, "
                   "RobertaTokenizer, Qwen2Tokenizer"));
}

absl::StatusOr<Json> ReadBytePairs(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string vocab_text, ReadUtf8(dir + kVocabulary));
  Json vocab = Json::parse(vocab_text, nullptr, /*allow_exceptions=*/false);
  if (!vocab.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(dir, kVocabulary, ": expected a JSON object of tokens and ids"));
  }
  ASSIGN_OR_RETURN(const std::string merges_text, ReadUtf8(dir + kMerges));
  Json merges = Json::array();
  ForEachLine(merges_text, [&](std::string_view line) {
    const bool is_version = merges.empty() && line.starts_with("#version");
    if (!line.empty() && !is_version) merges.push_back(std::string(line));
  });
  return Json{{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", std::move(merges)}};
}

absl::StatusOr<Json> BytePairTokenizer(const std::string& dir, const Json& config) {
  ASSIGN_OR_RETURN(const Kin kin, KinOf(dir, config));
  ASSIGN_OR_RETURN(Json model, ReadBytePairs(dir));
  ASSIGN_OR_RETURN(const bool prefix, json_fields::BoolOr(config, "add_prefix_space", false));
  const Json& vocab = model["vocab"];
  Json out = {{"added_tokens", Json::array()}, {"decoder", {{"type", "ByteLevel"}}}};
  const bool roberta = kin == Kin::kRoberta;
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                          "cls_token", "mask_token"}) {
    const std::string token = TokenOr(config, key, "");
    if (vocab.contains(token)) AddSpecial(out, token);
  }
  const std::vector<std::string> usual =
      roberta ? std::vector<std::string>{"<s>", "</s>", "<unk>", "<pad>", "<mask>"}
              : std::vector<std::string>{"<|endoftext|>"};
  for (const std::string& token : usual) {
    if (vocab.contains(token)) AddSpecial(out, token);
  }
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"use_regex", kin != Kin::kQwen2}};
  out["pre_tokenizer"] = byte_level;
  if (kin == Kin::kQwen2) {
    out["normalizer"] = {{"type", "NFC"}};
    const Json split = {{"type", "Split"},
                        {"pattern", {{"Regex", std::string(split_patterns::kQwen2)}}},
                        {"behavior", "Isolated"}};
    out["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}};
  }
  if (roberta) {
    const std::string cls = TokenOr(config, "cls_token", "<s>");
    const std::string sep = TokenOr(config, "sep_token", "</s>");
    if (!vocab.contains(cls) || !vocab.contains(sep)) {
      return absl::InvalidArgumentError(
          absl::StrCat(dir, kVocabulary, ": the token \"", cls, "\" or \"", sep, "\" is missing"));
    }
    out["post_processor"] = {{"type", "RobertaProcessing"},
                             {"sep", {sep, vocab[sep]}},
                             {"cls", {cls, vocab[cls]}},
                             {"trim_offsets", true},
                             {"add_prefix_space", prefix}};
  }
  out["model"] = std::move(model);
  return out;
}

/// The added tokens of the configuration, which know more than the vocabulary.
void AddTokensOf(const TokenizerOptions& options, Json& tokenizer) {
  for (const AddedToken& token : options.added_tokens) {
    Json& list = tokenizer["added_tokens"];
    std::erase_if(list.get_ref<Json::array_t&>(),
                  [&](const Json& known) { return known["content"] == token.content; });
    list.push_back({{"content", token.content},
                    {"special", token.special},
                    {"normalized", token.normalized},
                    {"single_word", token.single_word},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip}});
  }
}

}  // namespace

bool HasVocabularyFiles(const std::string& dir) {
  const auto exists = [&](const char* name) { return std::filesystem::exists(dir + name); };
  return exists(kWords) || (exists(kVocabulary) && exists(kMerges));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadVocabularyFiles(const std::string& dir,
                                                               const Json& config,
                                                               const TokenizerOptions& options) {
  const bool words = std::filesystem::exists(dir + kWords);
  ASSIGN_OR_RETURN(Json json, words ? BertTokenizer(dir, config) : BytePairTokenizer(dir, config));
  AddTokensOf(options, json);
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = ParseTokenizer(text);
  const std::string path = dir + (words ? kWords : kVocabulary);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), path);
  for (const AddedToken& token : options.added_tokens) {
    if ((*tokenizer)->TokenToId(token.content) != token.id) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": added token \"", token.content, "\" has id ", token.id,
                       ", expected that of the vocabulary or the next"));
    }
  }
  return tokenizer;
}

}  // namespace penstock
