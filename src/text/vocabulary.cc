#include "text/vocabulary.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace penstock {

TokenId Vocabulary::MaxId(size_t num_tokens) {
  constexpr size_t kMost = 1 << 24;
  return static_cast<TokenId>(std::min(kMost, (1 << 20) + 8 * num_tokens));
}

absl::StatusOr<Vocabulary> Vocabulary::Build(std::vector<std::pair<std::string, TokenId>> entries) {
  const TokenId max_id = MaxId(entries.size());
  TokenId last = -1;
  for (const auto& [token, id] : entries) {
    if (id < 0 || id > max_id) {
      return absl::InvalidArgumentError(absl::StrCat("vocabulary: token \"", token, "\" has id ",
                                                     id, ", expected one in [0, ", max_id, "]"));
    }
    last = std::max(last, id);
  }
  Vocabulary vocabulary;
  vocabulary.tokens_.resize(static_cast<size_t>(last) + 1);
  vocabulary.present_.resize(static_cast<size_t>(last) + 1);
  for (auto& [token, id] : entries) {
    if (vocabulary.present_[id]) {
      return absl::InvalidArgumentError(absl::StrCat("vocabulary: id ", id, " stands for \"",
                                                     vocabulary.tokens_[id], "\" and \"", token,
                                                     "\""));
    }
    vocabulary.tokens_[id] = std::move(token);
    vocabulary.present_[id] = true;
  }
  vocabulary.ids_.reserve(entries.size());
  for (TokenId id = 0; id <= last; ++id) {
    if (vocabulary.present_[id]) vocabulary.ids_[vocabulary.tokens_[id]] = id;
  }
  return vocabulary;
}

}  // namespace penstock
