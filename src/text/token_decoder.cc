#include "text/token_decoder.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/pattern.h"

namespace penstock {
namespace {

using Result = absl::StatusOr<std::unique_ptr<TokenDecoder>>;

std::string Joined(const std::vector<std::string>& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

class ByteLevelDecoder final : public TokenDecoder {
 public:
  void Apply(std::vector<std::string>* tokens) const override {
    std::string bytes;
    for (const std::string& token : *tokens) bytes += byte_level::Decode(token);
    *tokens = {RepairUtf8(bytes)};
  }
  std::string Piece(std::string token) const override { return byte_level::Decode(token); }
};

// The byte of a token such as <0x0A>.
std::optional<char> ByteOf(const std::string& token) {
  if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : {token[3], token[4]}) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<char>(value);
}

// Runs of byte tokens become their text; a run that is no UTF-8 becomes one U+FFFD per byte.
class ByteFallbackDecoder final : public TokenDecoder {
 public:
  void Apply(std::vector<std::string>* tokens) const override {
    std::vector<std::string> out;
    std::string bytes;
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (IsValidUtf8(bytes)) {
        out.push_back(bytes);
      } else {
        out.insert(out.end(), bytes.size(), std::string(kReplacementUtf8));
      }
      bytes.clear();
    };
    for (std::string& token : *tokens) {
      if (const std::optional<char> byte = ByteOf(token)) {
        bytes.push_back(*byte);
        continue;
      }
      flush();
      out.push_back(std::move(token));
    }
    flush();
    *tokens = std::move(out);
  }
  std::string Piece(std::string token) const override {
    const std::optional<char> byte = ByteOf(token);
    return byte ? std::string(1, *byte) : token;
  }
};

class FuseDecoder final : public TokenDecoder {
 public:
  void Apply(std::vector<std::string>* tokens) const override { *tokens = {Joined(*tokens)}; }
  std::string Piece(std::string token) const override { return token; }
};

class ReplaceDecoder final : public TokenDecoder {
 public:
  ReplaceDecoder(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void Apply(std::vector<std::string>* tokens) const override {
    for (std::string& token : *tokens) token = pattern_.ReplaceAll(token, content_);
  }
  std::string Piece(std::string token) const override {
    return pattern_.ReplaceAll(token, content_);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

// Takes up to `start` and `stop` copies of a character off the ends of every token. After a step
// that joins all tokens it works on the whole text, and so not on a piece in the middle.
class StripDecoder final : public TokenDecoder {
 public:
  StripDecoder(std::string content, int64_t start, int64_t stop, bool whole_text)
      : content_(std::move(content)), start_(start), stop_(stop), whole_text_(whole_text) {}
  void Apply(std::vector<std::string>* tokens) const override {
    for (std::string& token : *tokens) token = Strip(token);
  }
  std::string Piece(std::string token) const override { return whole_text_ ? token : Strip(token); }
  bool strips_first_space() const override { return whole_text_ && content_ == " " && start_ > 0; }

 private:
  std::string Strip(std::string_view token) const {
    const size_t n = content_.size();
    for (int64_t i = 0; i < start_ && token.substr(0, n) == content_; ++i) token.remove_prefix(n);
    for (int64_t i = 0;
         i < stop_ && token.size() >= n && token.substr(token.size() - n) == content_; ++i) {
      token.remove_suffix(n);
    }
    return std::string(token);
  }

  std::string content_;
  int64_t start_;
  int64_t stop_;
  bool whole_text_;
};

class MetaspaceDecoder final : public TokenDecoder {
 public:
  MetaspaceDecoder(std::string replacement, bool prepends)
      : replacement_(std::move(replacement)), prepends_(prepends) {}
  void Apply(std::vector<std::string>* tokens) const override {
    for (size_t i = 0; i < tokens->size(); ++i) {
      (*tokens)[i] =
          absl::StrReplaceAll((*tokens)[i], {{replacement_, i == 0 && prepends_ ? "" : " "}});
    }
  }
  std::string Piece(std::string token) const override {
    return absl::StrReplaceAll(token, {{replacement_, " "}});
  }
  bool strips_first_space() const override { return prepends_; }

 private:
  std::string replacement_;
  bool prepends_;
};

class WordPieceDecoder final : public TokenDecoder {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup)
      : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void Apply(std::vector<std::string>* tokens) const override {
    for (size_t i = 0; i < tokens->size(); ++i) {
      std::string& token = (*tokens)[i];
      token = i == 0 ? CleanUp(std::move(token)) : Piece(std::move(token));
    }
  }
  std::string Piece(std::string token) const override {
    const bool continues = token.compare(0, prefix_.size(), prefix_) == 0;
    return CleanUp(continues ? token.substr(prefix_.size()) : absl::StrCat(" ", token));
  }
  bool strips_first_space() const override { return true; }

 private:
  // One rule after the other, since a rule sees what the one before has made.
  std::string CleanUp(std::string token) const {
    static constexpr std::pair<const char*, const char*> kRules[] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    if (!cleanup_) return token;
    for (const auto& [from, to] : kRules) token = absl::StrReplaceAll(token, {{from, to}});
    return token;
  }

  std::string prefix_;
  bool cleanup_;
};

// Words end in a suffix, which becomes the blank between them.
class SuffixDecoder final : public TokenDecoder {
 public:
  explicit SuffixDecoder(std::string suffix) : suffix_(std::move(suffix)) {}
  void Apply(std::vector<std::string>* tokens) const override {
    for (size_t i = 0; i < tokens->size(); ++i) {
      const bool last = i + 1 == tokens->size();
      (*tokens)[i] = absl::StrReplaceAll((*tokens)[i], {{suffix_, last ? "" : " "}});
    }
  }
  std::string Piece(std::string token) const override {
    return absl::StrReplaceAll(token, {{suffix_, " "}});
  }

 private:
  std::string suffix_;
};

class SpacedDecoder final : public TokenDecoder {
 public:
  void Apply(std::vector<std::string>* tokens) const override {
    for (size_t i = 1; i < tokens->size(); ++i) (*tokens)[i].insert(0, 1, ' ');
  }
  std::string Piece(std::string token) const override { return absl::StrCat(" ", token); }
  bool strips_first_space() const override { return true; }
};

class SequenceDecoder final : public TokenDecoder {
 public:
  explicit SequenceDecoder(std::vector<std::unique_ptr<TokenDecoder>> steps)
      : steps_(std::move(steps)) {}
  void Apply(std::vector<std::string>* tokens) const override {
    for (const auto& step : steps_) step->Apply(tokens);
  }
  std::string Piece(std::string token) const override {
    for (const auto& step : steps_) token = step->Piece(std::move(token));
    return token;
  }
  bool strips_first_space() const override {
    for (const auto& step : steps_) {
      if (step->strips_first_space()) return true;
    }
    return false;
  }

 private:
  std::vector<std::unique_ptr<TokenDecoder>> steps_;
};

Result MakeReplace(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(Pattern pattern, MakePattern(config, "pattern"));
  ASSIGN_OR_RETURN(std::string content, json_fields::String(config, "content"));
  return std::make_unique<ReplaceDecoder>(std::move(pattern), std::move(content));
}

Result MakeStrip(const nlohmann::json& config, bool whole_text) {
  ASSIGN_OR_RETURN(const std::string content, json_fields::String(config, "content"));
  if (content.empty()) return absl::InvalidArgumentError("\"content\": expected one character");
  ASSIGN_OR_RETURN(const int64_t start, json_fields::Count(config, "start", 1 << 20));
  ASSIGN_OR_RETURN(const int64_t stop, json_fields::Count(config, "stop", 1 << 20));
  return std::make_unique<StripDecoder>(content, start, stop, whole_text);
}

Result MakeMetaspace(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string replacement,
                   json_fields::StringOr(config, "replacement", "\u2581"));
  if (replacement.empty())
    return absl::InvalidArgumentError("\"replacement\": expected one character");
  ASSIGN_OR_RETURN(const bool add_prefix_space,
                   json_fields::BoolOr(config, "add_prefix_space", true));
  ASSIGN_OR_RETURN(
      const std::string scheme,
      json_fields::StringOr(config, "prepend_scheme", add_prefix_space ? "always" : "never"));
  return std::make_unique<MetaspaceDecoder>(replacement, scheme != "never");
}

Result MakeWordPiece(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string prefix, json_fields::StringOr(config, "prefix", "##"));
  ASSIGN_OR_RETURN(const bool cleanup, json_fields::BoolOr(config, "cleanup", true));
  return std::make_unique<WordPieceDecoder>(prefix, cleanup);
}

Result MakeSuffix(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string suffix, json_fields::StringOr(config, "suffix", "</w>"));
  if (suffix.empty()) return absl::InvalidArgumentError("\"suffix\": expected text");
  return std::make_unique<SuffixDecoder>(suffix);
}

Result MakeStep(const nlohmann::json& config, bool whole_text, int depth);

Result MakeSequence(const nlohmann::json& config, int depth) {
  constexpr int kMaxDepth = 8;
  if (depth >= kMaxDepth)
    return absl::InvalidArgumentError("decoder: sequences are nested too deeply");
  ASSIGN_OR_RETURN(const nlohmann::json* list, json_fields::Array(config, "decoders"));
  std::vector<std::unique_ptr<TokenDecoder>> steps;
  bool whole_text = false;
  for (const nlohmann::json& step : *list) {
    ASSIGN_OR_RETURN(auto made, MakeStep(step, whole_text, depth + 1));
    steps.push_back(std::move(made));
    const std::string type = step.value("type", "");
    whole_text = whole_text || type == "Fuse" || type == "ByteLevel";
  }
  return std::make_unique<SequenceDecoder>(std::move(steps));
}

Result MakeStep(const nlohmann::json& config, bool whole_text, int depth) {
  ASSIGN_OR_RETURN(const std::string type, json_fields::String(config, "type"));
  if (type == "Sequence") return MakeSequence(config, depth);
  if (type == "ByteLevel") return std::make_unique<ByteLevelDecoder>();
  if (type == "ByteFallback") return std::make_unique<ByteFallbackDecoder>();
  if (type == "Fuse") return std::make_unique<FuseDecoder>();
  if (type == "Replace") return MakeReplace(config);
  if (type == "Strip") return MakeStrip(config, whole_text);
  if (type == "Metaspace") return MakeMetaspace(config);
  if (type == "WordPiece") return MakeWordPiece(config);
  if (type == "BPEDecoder") return MakeSuffix(config);
  return absl::UnimplementedError(absl::StrCat("decoder type \"", type, "\" is not supported"));
}

}  // namespace

Result MakeTokenDecoder(const nlohmann::json& config) { return MakeStep(config, false, 0); }

std::unique_ptr<TokenDecoder> MakeByteLevelDecoder() {
  return std::make_unique<ByteLevelDecoder>();
}

std::unique_ptr<TokenDecoder> MakeSpacedDecoder() { return std::make_unique<SpacedDecoder>(); }

}  // namespace penstock
