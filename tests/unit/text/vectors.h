// Reads the tokenizer vectors of the shared test data.
// Owns nothing. Must not know how tokenizers work.
// Threads: n/a.
#pragma once

#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "penstock/types.h"

namespace penstock {

struct TokenizerVector {
  std::string text;
  std::vector<TokenId> ids;          // without special tokens
  std::vector<TokenId> ids_special;  // as a prompt
  std::string decoded;               // of ids
  std::string decoded_skip;          // of ids_special, special tokens skipped
};

inline std::string SharedTokenizerDir() {
  return std::string(PENSTOCK_SHARED_DATA) + "/tokenizers/";
}

inline bool FileExists(const std::string& path) { return std::ifstream(path).good(); }

/// Empty where the file is absent.
inline std::vector<TokenizerVector> ReadVectors(const std::string& name) {
  const std::string path = SharedTokenizerDir() + "vectors/" + name + ".jsonl.gz";
  std::vector<TokenizerVector> vectors;
  if (!FileExists(path)) return vectors;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(
      popen(("gzip -dc '" + path + "'").c_str(), "r"), pclose);
  std::string text;
  char buffer[1 << 16];
  for (size_t n; pipe && (n = std::fread(buffer, 1, sizeof(buffer), pipe.get())) > 0;)
    text.append(buffer, n);
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const nlohmann::json row = nlohmann::json::parse(text.substr(begin, end - begin));
    vectors.push_back(
        {row["text"], row["ids"], row["ids_special"], row["decoded"], row["decoded_skip"]});
  }
  return vectors;
}

}  // namespace penstock
