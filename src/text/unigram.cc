#include "text/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/utf8.h"

namespace penstock {

struct Unigram::Node {
  double sum = 0;
  int32_t begin = -1;  // where its last piece begins; -1: no path yet
  TokenId id = -1;     // of that piece; -1: a character that nothing stands for
};

absl::StatusOr<std::unique_ptr<Unigram>> Unigram::Make(UnigramConfig config) {
  const size_t count = config.pieces.size();
  if (config.unk_id && (*config.unk_id < 0 || static_cast<size_t>(*config.unk_id) >= count)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"unk_id\": ", *config.unk_id, " is not in the vocabulary of ", count));
  }
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(config.pieces[i].second)) {
      return absl::InvalidArgumentError(
          absl::StrCat("vocabulary: the score of \"", config.pieces[i].first, "\" is no number"));
    }
  }
  std::unique_ptr<Unigram> model(new Unigram());
  model->unk_ = config.unk_id;
  model->byte_fallback_ = config.byte_fallback;
  model->single_precision_ = config.single_precision;
  model->IndexScores(config);
  model->kinds_ = std::move(config.kinds);
  std::vector<std::pair<std::string, TokenId>> entries;
  entries.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    entries.emplace_back(std::move(config.pieces[i].first), static_cast<TokenId>(i));
  }
  ASSIGN_OR_RETURN(model->vocabulary_, Vocabulary::Build(std::move(entries)));
  // Where a piece is there twice, the last one counts.
  for (size_t i = count; i-- > 0;) {
    const bool found =
        model->kinds_.empty() || model->kinds_[i] != UnigramConfig::Kind::kNeverFound;
    const auto id = static_cast<TokenId>(i);
    if (found) model->trie_.Insert(*model->vocabulary_.Token(id), id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    model->byte_tokens_[byte] =
        model->vocabulary_.Find(absl::StrFormat("<0x%02X>", byte)).value_or(-1);
  }
  return model;
}

void Unigram::IndexScores(const UnigramConfig& config) {
  constexpr double kUnkPenalty = 10;
  double min = std::numeric_limits<float>::max();
  double max = std::numeric_limits<float>::min();
  for (size_t i = 0; i < config.pieces.size(); ++i) {
    const double score = config.pieces[i].second;
    scores_.push_back(score);
    if (!config.kinds.empty() && config.kinds[i] != UnigramConfig::Kind::kNormal) continue;
    min = std::min(min, score);
    max = std::max(max, score);
  }
  max_score_ = max;
  unk_score_ = min - kUnkPenalty;
  if (single_precision_) unk_score_ = static_cast<float>(unk_score_);
}

// A piece that is always to be found outweighs whatever its characters could be otherwise.
double Unigram::Score(TokenId id, size_t length) const {
  constexpr double kSlack = 0.1;
  const bool always = !kinds_.empty() && kinds_[id] == UnigramConfig::Kind::kAlwaysFound;
  return always ? static_cast<float>(length * static_cast<float>(max_score_)) - kSlack
                : scores_[id];
}

void Unigram::Extend(std::vector<Node>& nodes, size_t begin, size_t end, TokenId id,
                     double sum) const {
  Node& node = nodes[end];
  if (node.begin >= 0 && !(sum > node.sum)) return;
  node = {single_precision_ ? static_cast<float>(sum) : sum, static_cast<int32_t>(begin), id};
}

void Unigram::FindPaths(std::string_view word, std::vector<Node>& nodes) const {
  for (size_t begin = 0; begin < word.size();) {
    const double before = nodes[begin].sum;
    const size_t character = DecodeUtf8(word, begin).length;
    bool has_character = false;
    int32_t at = ByteTrie::kRoot;
    for (size_t i = begin; i < word.size(); ++i) {
      at = trie_.Step(at, static_cast<uint8_t>(word[i]));
      if (at == ByteTrie::kNone) break;
      const TokenId id = trie_.value(at);
      if (id == ByteTrie::kNone) continue;
      const size_t length = i + 1 - begin;
      Extend(nodes, begin, i + 1, id, Score(id, length) + before);
      has_character = has_character || length == character;
    }
    if (!has_character) {
      double sum = unk_score_ + before;
      if (single_precision_) sum = static_cast<float>(sum);
      Extend(nodes, begin, begin + character, unk_.value_or(-1), sum);
    }
    begin += character;
  }
}

// `piece` is a token's text, or what of the word no token stands for.
void Unigram::AppendPiece(std::string_view piece, std::vector<TokenId>* ids) const {
  if (byte_fallback_) {
    const auto byte_token = [&](char c) { return byte_tokens_[static_cast<uint8_t>(c)]; };
    if (std::all_of(piece.begin(), piece.end(), [&](char c) { return byte_token(c) >= 0; })) {
      for (const char c : piece) ids->push_back(byte_token(c));
      return;
    }
  }
  if (unk_) ids->push_back(*unk_);
}

void Unigram::Tokenize(std::string_view word, std::vector<TokenId>* ids) const {
  if (word.size() >= static_cast<size_t>(std::numeric_limits<int32_t>::max())) return;
  std::vector<Node> nodes(word.size() + 1);
  FindPaths(word, nodes);
  std::vector<std::pair<size_t, TokenId>> path;  // where pieces begin, last first
  for (size_t end = word.size(); end > 0;) {
    const Node& node = nodes[end];
    path.emplace_back(node.begin, node.id);
    end = node.begin;
  }
  const TokenId unk = unk_.value_or(-1);
  for (size_t i = path.size(); i-- > 0;) {
    if (path[i].second != unk) {
      ids->push_back(path[i].second);
      continue;
    }
    const size_t begin = path[i].first;
    while (i > 0 && path[i - 1].second == unk) --i;  // neighbours are one unknown piece
    const size_t end = i > 0 ? path[i - 1].first : word.size();
    const std::string_view piece = word.substr(begin, end - begin);
    const std::optional<TokenId> whole = kinds_.empty() ? vocabulary_.Find(piece) : std::nullopt;
    if (whole) {
      ids->push_back(*whole);
    } else {
      AppendPiece(piece, ids);
    }
  }
}

}  // namespace penstock
