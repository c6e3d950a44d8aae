#include "text/word_piece.h"

#include "base/status_macros.h"
#include "base/utf8.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<WordPiece>> WordPiece::Make(WordPieceConfig config) {
  std::unique_ptr<WordPiece> model(new WordPiece());
  model->max_characters_ = config.max_input_chars_per_word;
  model->whole_words_ = config.whole_words;
  if (!config.whole_words) {
    for (const auto& [token, id] : config.vocab) {
      if (id >= 0) model->trie_.Insert(token, id);
    }
    int32_t node = ByteTrie::kRoot;
    for (const char c : config.continuing_subword_prefix) {
      if (node != ByteTrie::kNone) node = model->trie_.Step(node, static_cast<uint8_t>(c));
    }
    model->continuing_ = node;
  }
  ASSIGN_OR_RETURN(model->vocabulary_, Vocabulary::Build(std::move(config.vocab)));
  model->unk_ = model->vocabulary_.Find(config.unk_token);
  return model;
}

void WordPiece::Tokenize(std::string_view word, std::vector<TokenId>* ids) const {
  const size_t kept = ids->size();
  size_t pos = 0;
  if (whole_words_) {
    if (const std::optional<TokenId> id = vocabulary_.Find(word)) {
      ids->push_back(*id);
      pos = word.size();
    }
  } else if (word.size() <= static_cast<size_t>(max_characters_) ||
             CountCodePoints(word) <= static_cast<size_t>(max_characters_)) {
    while (pos < word.size()) {
      const int32_t start = pos == 0 ? ByteTrie::kRoot : continuing_;
      if (start == ByteTrie::kNone) break;
      const ByteTrie::Match match = trie_.Longest(word, pos, start);
      if (match.value == ByteTrie::kNone) break;
      ids->push_back(match.value);
      pos += match.length;
    }
  }
  if (pos == word.size()) return;
  ids->resize(kept);
  if (unk_) ids->push_back(*unk_);
}

}  // namespace penstock
