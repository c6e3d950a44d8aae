// The tokenizer that a SentencePiece model makes.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "text/bpe.h"
#include "text/pipeline_tokenizer.h"
#include "text/sentencepiece_model.h"
#include "text/sentencepiece_normalizer.h"
#include "text/unigram.h"

namespace penstock {
namespace {

using Type = SentencePiece::Type;

// A model around which certain strings are found first and are a token each.
class KeptPieceModel final : public TokenizerModel {
 public:
  KeptPieceModel(std::unique_ptr<TokenizerModel> inner, std::shared_ptr<const ByteTrie> kept)
      : inner_(std::move(inner)), kept_(std::move(kept)) {}

  void Tokenize(std::string_view word, std::vector<TokenId>* ids) const override {
    size_t done = 0;
    for (size_t pos = 0; pos < word.size();) {
      const ByteTrie::Match match = kept_->Longest(word, pos);
      if (match.length == 0) {
        pos += DecodeUtf8(word, pos).length;
        continue;
      }
      TokenizeBetween(word.substr(done, pos - done), ids);
      ids->push_back(match.value);
      pos += match.length;
      done = pos;
    }
    TokenizeBetween(word.substr(done), ids);
  }
  std::optional<TokenId> TokenToId(std::string_view token) const override {
    return inner_->TokenToId(token);
  }
  const std::string* IdToToken(TokenId id) const override { return inner_->IdToToken(id); }
  int32_t vocab_size() const override { return inner_->vocab_size(); }
  int32_t num_tokens() const override { return inner_->num_tokens(); }

 private:
  void TokenizeBetween(std::string_view text, std::vector<TokenId>* ids) const {
    while (!text.empty()) {
      const size_t length = inner_->IndependentPrefix(text);
      inner_->Tokenize(text.substr(0, length), ids);
      text.remove_prefix(length);
    }
  }

  std::unique_ptr<TokenizerModel> inner_;
  std::shared_ptr<const ByteTrie> kept_;
};

// Pieces by falling score; equal scores have one rank, so that the leftmost merge is first.
std::vector<int32_t> RanksOf(const std::vector<SentencePiece>& pieces) {
  std::vector<size_t> order;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].type == Type::kNormal) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return pieces[a].score > pieces[b].score; });
  std::vector<int32_t> ranks(pieces.size(), -1);
  int32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && pieces[order[i]].score < pieces[order[i - 1]].score) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

absl::StatusOr<std::unique_ptr<TokenizerModel>> MakePieceBpe(const SentencePieceModel& model,
                                                             std::optional<TokenId> unk,
                                                             std::shared_ptr<const ByteTrie> kept) {
  BpeConfig config;
  config.token_ranks = model.algorithm == SentencePieceModel::Algorithm::kBpe
                           ? RanksOf(model.pieces)
                           : std::vector<int32_t>(model.pieces.size(), -1);
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (model.pieces[i].type == Type::kUnused &&
        model.algorithm == SentencePieceModel::Algorithm::kBpe) {
      return absl::UnimplementedError(
          absl::StrCat("piece ", i, ": unused pieces of a BPE model are not supported"));
    }
    config.vocab.emplace_back(model.pieces[i].text, static_cast<TokenId>(i));
  }
  if (unk) config.unk_token = model.pieces[*unk].text;
  config.fuse_unk = true;
  config.byte_fallback = model.byte_fallback;
  ASSIGN_OR_RETURN(std::unique_ptr<TokenizerModel> bpe, Bpe::Make(std::move(config)));
  if (kept == nullptr) return bpe;
  return std::make_unique<KeptPieceModel>(std::move(bpe), std::move(kept));
}

absl::StatusOr<std::unique_ptr<TokenizerModel>> MakePieceUnigram(const SentencePieceModel& model,
                                                                 std::optional<TokenId> unk) {
  using Kind = UnigramConfig::Kind;
  UnigramConfig config;
  config.unk_id = unk;
  config.byte_fallback = model.byte_fallback;
  config.single_precision = true;
  for (const SentencePiece& piece : model.pieces) {
    config.pieces.emplace_back(piece.text, piece.score);
    config.kinds.push_back(piece.type == Type::kNormal        ? Kind::kNormal
                           : piece.type == Type::kUserDefined ? Kind::kAlwaysFound
                                                              : Kind::kNeverFound);
  }
  return Unigram::Make(std::move(config));
}

absl::Status AddDecoder(const SentencePieceModel& model, TokenizerParts* parts) {
  nlohmann::json steps = nlohmann::json::array();
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}});
  steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  if (model.add_dummy_prefix || model.remove_extra_whitespaces) {
    constexpr unsigned kAll = 1 << 20;
    const unsigned start = model.remove_extra_whitespaces ? kAll : 1;
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", start}, {"stop", 0u}});
  }
  ASSIGN_OR_RETURN(parts->decoder,
                   MakeTokenDecoder({{"type", "Sequence"}, {"decoders", std::move(steps)}}));
  return absl::OkStatus();
}

absl::Status AddNormalizer(const SentencePieceModel& model, const SentencePieceOptions& options,
                           std::shared_ptr<const ByteTrie> kept, TokenizerParts* parts) {
  SentencePieceNormalizerConfig config;
  if (!model.charsmap.empty()) {
    ASSIGN_OR_RETURN(config.charsmap, Charsmap::Parse(model.charsmap));
  }
  config.kept = std::move(kept);
  config.add_dummy_prefix = model.add_dummy_prefix;
  config.remove_extra_whitespaces = model.remove_extra_whitespaces;
  config.escape_whitespaces = model.escape_whitespaces;
  config.whitespace_as_suffix = model.whitespace_as_suffix;
  if (!options.prefix_every_part && model.add_dummy_prefix && !model.whitespace_as_suffix) {
    config.add_dummy_prefix = false;
    ASSIGN_OR_RETURN(parts->pre_tokenizer, MakePreTokenizer({{"type", "Metaspace"},
                                                             {"replacement", "\u2581"},
                                                             {"prepend_scheme", "first"},
                                                             {"split", false}}));
  }
  parts->normalizer = MakeSentencePieceNormalizer(std::move(config));
  return absl::OkStatus();
}

absl::Status AddPostProcessor(const SentencePieceModel& model, const SentencePieceOptions& options,
                              TokenizerParts* parts) {
  std::vector<TokenId> before;
  std::vector<TokenId> after;
  const auto count = static_cast<TokenId>(model.pieces.size());
  for (const std::optional<TokenId>& id : {model.bos_id, model.eos_id}) {
    if (id && (*id < 0 || *id >= count)) {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", *id, " (bos or eos) is not in the vocabulary of ", count));
    }
  }
  if (model.bos_id && options.add_bos.value_or(true)) before.push_back(*model.bos_id);
  if (model.eos_id && options.add_eos.value_or(false)) after.push_back(*model.eos_id);
  parts->post_processor = PostProcessor(std::move(before), std::move(after));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePieceTokenizer(
    SentencePieceModel model, const SentencePieceOptions& options) {
  if (model.algorithm == SentencePieceModel::Algorithm::kWord) {
    return absl::UnimplementedError("SentencePiece models of type \"word\" are not supported");
  }
  TokenizerParts parts;
  std::optional<TokenId> unk;
  std::shared_ptr<ByteTrie> kept;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const SentencePiece& piece = model.pieces[i];
    const auto id = static_cast<TokenId>(i);
    if (piece.type == Type::kUserDefined) {
      if (kept == nullptr) kept = std::make_shared<ByteTrie>();
      kept->Insert(piece.text, id);
    } else if (piece.type == Type::kControl || piece.type == Type::kUnknown) {
      if (piece.type == Type::kUnknown && !unk) unk = id;
      AddedToken token;
      token.id = id;
      token.content = piece.text;
      token.normalized = false;
      token.special = true;
      parts.added_tokens.push_back(std::move(token));
    }
  }
  OverrideAddedTokens(options.added_tokens, &parts.added_tokens);
  if (model.algorithm == SentencePieceModel::Algorithm::kUnigram) {
    ASSIGN_OR_RETURN(parts.model, MakePieceUnigram(model, unk));
  } else {
    ASSIGN_OR_RETURN(parts.model, MakePieceBpe(model, unk, kept));
  }
  RETURN_IF_ERROR(AddNormalizer(model, options, kept, &parts));
  RETURN_IF_ERROR(AddPostProcessor(model, options, &parts));
  RETURN_IF_ERROR(AddDecoder(model, &parts));
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

}  // namespace penstock
