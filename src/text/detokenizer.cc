#include "text/detokenizer.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace penstock {

Detokenizer::Detokenizer(const Tokenizer* tokenizer, bool skip_special, std::vector<TokenId> kept)
    : tokenizer_(tokenizer), skip_special_(skip_special), kept_(std::move(kept)) {}

std::string Detokenizer::Append(TokenId id) {
  if (skip_special_ && tokenizer_->is_special(id) &&
      std::find(kept_.begin(), kept_.end(), id) == kept_.end())
    return "";
  std::string piece = tokenizer_->Piece(id);
  if (piece.empty()) return "";
  if (first_ && tokenizer_->strips_first_space() && piece.front() == ' ') piece.erase(0, 1);
  first_ = false;
  pending_ += piece;
  const size_t held = IncompleteUtf8Suffix(pending_);
  std::string text = RepairUtf8(std::string_view(pending_).substr(0, pending_.size() - held));
  pending_.erase(0, pending_.size() - held);
  return text;
}

std::string Detokenizer::Finish() {
  std::string text = RepairUtf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace penstock
