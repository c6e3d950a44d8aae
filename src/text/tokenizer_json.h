// Reads a tokenizer.json: the large tables of its model straight into vectors, the rest as JSON.
// Owns what it has read. Must not know what the parts mean.
// Threads: value.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/types.h"

namespace penstock {

struct TokenizerJson {
  nlohmann::json root;                                      // without the three below
  std::vector<std::pair<std::string, TokenId>> vocab;       // model.vocab, where it is an object
  std::vector<std::pair<std::string, double>> pieces;       // model.vocab, where it is an array
  std::vector<std::pair<std::string, std::string>> merges;  // model.merges
};

/// INVALID_ARGUMENT with the byte offset where `text` is no JSON, is nested deeper than 64 levels,
/// or has a vocabulary or merges of another form than {"token": id}, ["token", score], "a b" and
/// ["a", "b"].
absl::StatusOr<TokenizerJson> ParseTokenizerJson(std::string_view text);

}  // namespace penstock
