#include "text/tokenizer_json.h"

#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

using nlohmann::json;

// Receives the parser's events. `false` from any of them ends the parse.
class Reader final : public nlohmann::json_sax<json> {
 public:
  explicit Reader(TokenizerJson* out) : out_(out) {}

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override {
    if (mode_ == Mode::kPiece) return AddScore(static_cast<double>(value));
    return Add(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (mode_ == Mode::kVocab) return AddToken(value);
    if (mode_ == Mode::kPiece) return AddScore(static_cast<double>(value));
    return Add(value);
  }
  bool number_float(number_float_t value, const string_t&) override {
    if (mode_ == Mode::kPiece) return AddScore(value);
    return Add(value);
  }
  bool string(string_t& value) override {
    if (mode_ == Mode::kMerges) return AddMerge(value);
    if (mode_ == Mode::kMergePair) return AddMergeHalf(value);
    if (mode_ == Mode::kPiece && halves_++ == 0) {
      out_->pieces.emplace_back(std::move(value), 0.0);
      return true;
    }
    return Add(std::move(value));
  }
  bool binary(binary_t&) override { return Fail("binary values have no place here"); }

  bool start_object(size_t) override {
    if (mode_ != Mode::kTree) return Fail("expected no object here");
    if (AtModelKey("vocab")) {
      mode_ = Mode::kVocab;
      return true;
    }
    return Open(json::object());
  }
  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }
  bool end_object() override {
    if (mode_ == Mode::kVocab) {
      mode_ = Mode::kTree;
      return true;
    }
    return Close();
  }
  bool start_array(size_t) override {
    if (mode_ == Mode::kMerges) {
      mode_ = Mode::kMergePair;
      halves_ = 0;
      return true;
    }
    if (mode_ == Mode::kPieces) {
      mode_ = Mode::kPiece;
      halves_ = 0;
      return true;
    }
    if (mode_ != Mode::kTree) return Fail("expected no array here");
    if (AtModelKey("vocab")) {
      mode_ = Mode::kPieces;
      return true;
    }
    if (AtModelKey("merges")) {
      mode_ = Mode::kMerges;
      return true;
    }
    return Open(json::array());
  }
  bool end_array() override {
    if (mode_ == Mode::kMerges || mode_ == Mode::kPieces) {
      mode_ = Mode::kTree;
      return true;
    }
    if (mode_ == Mode::kPiece) {
      mode_ = Mode::kPieces;
      return halves_ == 2 || Fail("\"vocab\": expected pairs of a token and a score");
    }
    if (mode_ == Mode::kMergePair) {
      mode_ = Mode::kMerges;
      return halves_ == 2 || Fail("\"merges\": expected pairs of two tokens");
    }
    return Close();
  }
  bool parse_error(size_t position, const std::string&, const json::exception& error) override {
    return Fail(absl::StrCat("not JSON at byte ", position, ": ", error.what()));
  }

  const std::string& error() const { return error_; }

 private:
  enum class Mode { kTree, kVocab, kPieces, kPiece, kMerges, kMergePair };
  struct Level {
    json value;
    std::string key;  // under which it will stand in its parent
  };

  bool Fail(std::string message) {
    if (error_.empty()) error_ = std::move(message);
    return false;
  }

  // Inside the top-level member "model", at its member `key`.
  bool AtModelKey(std::string_view key) const {
    return levels_.size() == 2 && levels_[1].key == "model" && levels_[1].value.is_object() &&
           key_ == key;
  }

  bool Open(json value) {
    constexpr size_t kMaxDepth = 64;
    if (levels_.size() >= kMaxDepth) return Fail("nested too deeply");
    levels_.push_back({std::move(value), std::move(key_)});
    return true;
  }

  bool Close() {
    Level level = std::move(levels_.back());
    levels_.pop_back();
    key_ = std::move(level.key);
    return Add(std::move(level.value));
  }

  bool Add(json value) {
    if (mode_ == Mode::kVocab)
      return Fail(absl::StrCat("\"vocab\": token \"", key_, "\": expected an id"));
    if (mode_ == Mode::kPieces || mode_ == Mode::kPiece)
      return Fail("\"vocab\": expected pairs of a token and a score");
    if (mode_ != Mode::kTree) return Fail("\"merges\": expected strings or pairs of strings");
    if (levels_.empty()) {
      out_->root = std::move(value);
    } else if (levels_.back().value.is_array()) {
      levels_.back().value.push_back(std::move(value));
    } else {
      levels_.back().value[std::move(key_)] = std::move(value);
    }
    return true;
  }

  bool AddToken(uint64_t id) {
    if (id > static_cast<uint64_t>(std::numeric_limits<TokenId>::max())) return Add(id);
    out_->vocab.emplace_back(std::move(key_), static_cast<TokenId>(id));
    return true;
  }

  bool AddScore(double score) {
    if (++halves_ != 2) return Fail("\"vocab\": expected pairs of a token and a score");
    out_->pieces.back().second = score;
    return true;
  }

  bool AddMerge(const std::string& pair) {
    const size_t blank = pair.find(' ');
    if (blank == std::string::npos || pair.find(' ', blank + 1) != std::string::npos) {
      return Fail(absl::StrCat("\"merges\"[", out_->merges.size(),
                               "]: expected two tokens with a blank between"));
    }
    out_->merges.emplace_back(pair.substr(0, blank), pair.substr(blank + 1));
    return true;
  }

  bool AddMergeHalf(std::string& token) {
    if (++halves_ == 1) {
      out_->merges.emplace_back(std::move(token), std::string());
    } else if (halves_ == 2) {
      out_->merges.back().second = std::move(token);
    }
    return halves_ <= 2 || Fail("\"merges\": expected pairs of two tokens");
  }

  TokenizerJson* out_;
  Mode mode_ = Mode::kTree;
  std::vector<Level> levels_;
  std::string key_;
  int halves_ = 0;
  std::string error_;
};

}  // namespace

absl::StatusOr<TokenizerJson> ParseTokenizerJson(std::string_view text) {
  TokenizerJson out;
  Reader reader(&out);
  if (!json::sax_parse(text, &reader)) return absl::InvalidArgumentError(reader.error());
  if (!out.root.is_object()) return absl::InvalidArgumentError("expected a JSON object");
  return out;
}

}  // namespace penstock
