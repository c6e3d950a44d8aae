#include "text/tokenizer_loader.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/bpe.h"
#include "text/json_fields.h"
#include "text/pipeline_tokenizer.h"
#include "text/sentencepiece_model.h"
#include "text/tiktoken.h"
#include "text/tokenizer_json.h"
#include "text/unigram.h"
#include "text/word_piece.h"

namespace penstock {
namespace {

constexpr int64_t kMaxTokenId = 1 << 24;

absl::StatusOr<std::unique_ptr<TokenizerModel>> MakeBpe(TokenizerJson& file,
                                                        const nlohmann::json& model) {
  BpeConfig config;
  config.vocab = std::move(file.vocab);
  config.merges = std::move(file.merges);
  if (json_fields::Find(model, "unk_token") != nullptr) {
    ASSIGN_OR_RETURN(config.unk_token, json_fields::String(model, "unk_token"));
  }
  ASSIGN_OR_RETURN(config.continuing_subword_prefix,
                   json_fields::StringOr(model, "continuing_subword_prefix", ""));
  ASSIGN_OR_RETURN(config.end_of_word_suffix,
                   json_fields::StringOr(model, "end_of_word_suffix", ""));
  ASSIGN_OR_RETURN(config.fuse_unk, json_fields::BoolOr(model, "fuse_unk", false));
  ASSIGN_OR_RETURN(config.byte_fallback, json_fields::BoolOr(model, "byte_fallback", false));
  ASSIGN_OR_RETURN(config.ignore_merges, json_fields::BoolOr(model, "ignore_merges", false));
  return Bpe::Make(std::move(config));
}

absl::StatusOr<std::unique_ptr<TokenizerModel>> MakeUnigram(TokenizerJson& file,
                                                            const nlohmann::json& model) {
  UnigramConfig config;
  config.pieces = std::move(file.pieces);
  if (json_fields::Find(model, "unk_id") != nullptr) {
    ASSIGN_OR_RETURN(const int64_t id, json_fields::Count(model, "unk_id", kMaxTokenId));
    config.unk_id = static_cast<TokenId>(id);
  }
  ASSIGN_OR_RETURN(config.byte_fallback, json_fields::BoolOr(model, "byte_fallback", false));
  return Unigram::Make(std::move(config));
}

absl::StatusOr<std::unique_ptr<TokenizerModel>> MakeWordPiece(TokenizerJson& file,
                                                              const nlohmann::json& model,
                                                              bool whole_words) {
  WordPieceConfig config;
  config.vocab = std::move(file.vocab);
  config.whole_words = whole_words;
  ASSIGN_OR_RETURN(config.unk_token,
                   json_fields::StringOr(model, "unk_token", whole_words ? "<unk>" : "[UNK]"));
  ASSIGN_OR_RETURN(config.continuing_subword_prefix,
                   json_fields::StringOr(model, "continuing_subword_prefix", "##"));
  if (json_fields::Find(model, "max_input_chars_per_word") != nullptr) {
    ASSIGN_OR_RETURN(config.max_input_chars_per_word,
                     json_fields::Count(model, "max_input_chars_per_word", int64_t{1} << 40));
  }
  return WordPiece::Make(std::move(config));
}

// Old files leave "type" out.
std::string_view GuessType(const TokenizerJson& file, const nlohmann::json& model) {
  if (!file.merges.empty()) return "BPE";
  if (!file.pieces.empty()) return "Unigram";
  if (json_fields::Find(model, "continuing_subword_prefix") != nullptr) return "WordPiece";
  return file.vocab.empty() ? "none" : "WordLevel";
}

absl::StatusOr<std::unique_ptr<TokenizerModel>> MakeModel(TokenizerJson& file) {
  const nlohmann::json* model = json_fields::Find(file.root, "model");
  if (model == nullptr) return absl::InvalidArgumentError("\"model\" is missing");
  ASSIGN_OR_RETURN(const std::string type,
                   json_fields::StringOr(*model, "type", GuessType(file, *model)));
  if (type == "BPE") return MakeBpe(file, *model);
  if (type == "Unigram") return MakeUnigram(file, *model);
  if (type == "WordPiece") return MakeWordPiece(file, *model, /*whole_words=*/false);
  if (type == "WordLevel") return MakeWordPiece(file, *model, /*whole_words=*/true);
  return absl::UnimplementedError(absl::StrCat("model type \"", type, "\" is not supported"));
}

absl::StatusOr<AddedToken> MakeAddedToken(const nlohmann::json& entry) {
  AddedToken token;
  ASSIGN_OR_RETURN(token.content, json_fields::String(entry, "content"));
  ASSIGN_OR_RETURN(token.special, json_fields::BoolOr(entry, "special", false));
  ASSIGN_OR_RETURN(token.normalized, json_fields::BoolOr(entry, "normalized", !token.special));
  ASSIGN_OR_RETURN(token.single_word, json_fields::BoolOr(entry, "single_word", false));
  ASSIGN_OR_RETURN(token.lstrip, json_fields::BoolOr(entry, "lstrip", false));
  ASSIGN_OR_RETURN(token.rstrip, json_fields::BoolOr(entry, "rstrip", false));
  return token;
}

absl::StatusOr<std::vector<AddedToken>> MakeAddedTokens(const nlohmann::json& root) {
  std::vector<AddedToken> tokens;
  if (json_fields::Find(root, "added_tokens") == nullptr) return tokens;
  ASSIGN_OR_RETURN(const nlohmann::json* list, json_fields::Array(root, "added_tokens"));
  for (size_t i = 0; i < list->size(); ++i) {
    absl::StatusOr<AddedToken> token = MakeAddedToken((*list)[i]);
    if (!token.ok()) return Annotate(token.status(), absl::StrCat("\"added_tokens\"[", i, "]"));
    if (!token->content.empty()) tokens.push_back(*std::move(token));
  }
  return tokens;
}

// The reference does not read the ids of added tokens: one that the model has keeps the model's id,
// the others count on from the size of the model's vocabulary in the order of the file.
void NumberAddedTokens(const TokenizerModel& model, std::vector<AddedToken>* tokens) {
  absl::flat_hash_map<std::string, TokenId> known;
  TokenId next = model.num_tokens();
  for (AddedToken& token : *tokens) {
    const auto [it, is_new] = known.try_emplace(token.content, 0);
    if (is_new) {
      const std::optional<TokenId> id = model.TokenToId(token.content);
      it->second = id ? *id : next;
      next = std::max(next, it->second + 1);
    }
    token.id = it->second;
  }
}

absl::StatusOr<TokenizerParts> MakeParts(TokenizerJson& file) {
  TokenizerParts parts;
  ASSIGN_OR_RETURN(parts.added_tokens, MakeAddedTokens(file.root));
  if (const nlohmann::json* config = json_fields::Find(file.root, "normalizer")) {
    ASSIGN_OR_RETURN(parts.normalizer, MakeNormalizer(*config));
  }
  if (const nlohmann::json* config = json_fields::Find(file.root, "pre_tokenizer")) {
    ASSIGN_OR_RETURN(parts.pre_tokenizer, MakePreTokenizer(*config));
  }
  if (const nlohmann::json* config = json_fields::Find(file.root, "post_processor")) {
    ASSIGN_OR_RETURN(parts.post_processor, MakePostProcessor(*config));
  }
  parts.decoder = MakeSpacedDecoder();
  if (const nlohmann::json* config = json_fields::Find(file.root, "decoder")) {
    ASSIGN_OR_RETURN(parts.decoder, MakeTokenDecoder(*config));
  }
  ASSIGN_OR_RETURN(parts.model, MakeModel(file));
  NumberAddedTokens(*parts.model, &parts.added_tokens);
  return parts;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizer(std::string_view json_text) {
  ASSIGN_OR_RETURN(TokenizerJson file, ParseTokenizerJson(json_text));
  ASSIGN_OR_RETURN(TokenizerParts parts, MakeParts(file));
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

namespace {

// The kind of a file is told by how it starts.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseAnyTokenizer(const std::string& path,
                                                             std::string_view text,
                                                             const TokenizerOptions& options) {
  const size_t start = text.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (start != std::string_view::npos && text[start] == '{') return ParseTokenizer(text);
  if (LooksLikeTiktoken(text)) {
    const std::string name = path.substr(path.rfind('/') + 1);
    const std::optional<TiktokenFamily> family = GuessTiktokenFamily(name, text);
    if (!family) {
      return absl::UnimplementedError(
          "a tiktoken file whose name and number of tokens are not those of a known family");
    }
    return ParseTiktoken(text, *family, options.added_tokens);
  }
  ASSIGN_OR_RETURN(SentencePieceModel model, ParseSentencePieceModel(text));
  SentencePieceOptions piece_options;
  piece_options.added_tokens = options.added_tokens;
  piece_options.add_bos = options.add_bos;
  piece_options.add_eos = options.add_eos;
  piece_options.prefix_every_part = options.legacy.value_or(true);
  return MakeSentencePieceTokenizer(std::move(model), piece_options);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path,
                                                         const TokenizerOptions& options) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is a folder; name the tokenizer.json in it"));
  }
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = ParseAnyTokenizer(path, text, options);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), path);
  return tokenizer;
}

}  // namespace penstock
