#include "text/pretokenizer.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "text/byte_level_pretokenizer.h"
#include "text/json_fields.h"
#include "text/split_patterns.h"
#include "text/unicode.h"

namespace penstock {
namespace {

using Result = absl::StatusOr<std::unique_ptr<PreTokenizer>>;

// Cuts at what `find` reports, without changing the text.
class SplitPreTokenizer final : public PreTokenizer {
 public:
  using Find = std::function<void(std::string_view text, size_t offset, std::vector<PatternSpan>*)>;
  SplitPreTokenizer(Find find, SplitBehavior behavior, bool invert)
      : find_(std::move(find)), behavior_(behavior), invert_(invert) {}

  void Apply(PreTokenized* input) const override {
    std::vector<TextRange> pieces;
    std::vector<PatternSpan> spans;
    for (const TextRange& piece : input->pieces) {
      spans.clear();
      find_(input->Piece(piece), piece.begin, &spans);
      if (invert_) {
        for (PatternSpan& span : spans) span.is_match = !span.is_match;
      }
      SplitSpans(spans, behavior_, &pieces);
    }
    input->pieces = std::move(pieces);
  }
  bool only_cuts() const override { return true; }

 private:
  Find find_;
  SplitBehavior behavior_;
  bool invert_;
};

class SequencePreTokenizer final : public PreTokenizer {
 public:
  explicit SequencePreTokenizer(std::vector<std::unique_ptr<PreTokenizer>> steps)
      : steps_(std::move(steps)) {}
  void Apply(PreTokenized* input) const override {
    for (const auto& step : steps_) step->Apply(input);
  }
  bool only_cuts() const override {
    return std::all_of(steps_.begin(), steps_.end(), [](const auto& s) { return s->only_cuts(); });
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

// Rewrites every piece by `append(piece, is_first, out)`.
template <class Append>
void RewritePieces(PreTokenized* input, Append append) {
  PreTokenized out;
  out.text.reserve(input->text.size() + input->text.size() / 4);
  out.pieces.reserve(input->pieces.size());
  for (const TextRange& piece : input->pieces) {
    const size_t begin = out.text.size();
    append(input->Piece(piece), input->starts_input && piece.begin == 0, &out.text);
    if (out.text.size() > begin) out.pieces.push_back({begin, out.text.size()});
  }
  input->text = std::move(out.text);
  input->pieces = std::move(out.pieces);
}

// Puts a blank in front of every piece that has none.
class PrefixSpacePreTokenizer final : public PreTokenizer {
 public:
  void Apply(PreTokenized* input) const override {
    RewritePieces(input, [](std::string_view piece, bool, std::string* out) {
      if (piece.front() != ' ') out->push_back(' ');
      out->append(piece);
    });
  }
};

class MetaspacePreTokenizer final : public PreTokenizer {
 public:
  enum class Prepend { kAlways, kFirst, kNever };
  MetaspacePreTokenizer(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}

  void Apply(PreTokenized* input) const override {
    RewritePieces(input, [this](std::string_view piece, bool is_first, std::string* out) {
      const bool wanted = prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && is_first);
      const bool there =
          piece.front() == ' ' || piece.substr(0, replacement_.size()) == replacement_;
      if (wanted && !there) out->append(replacement_);
      for (const char c : piece) {
        if (c == ' ') {
          out->append(replacement_);
        } else {
          out->push_back(c);
        }
      }
    });
    if (!split_) return;
    const Pattern pattern(replacement_);
    std::vector<TextRange> pieces;
    std::vector<PatternSpan> spans;
    for (const TextRange& piece : input->pieces) {
      spans.clear();
      pattern.Find(input->Piece(piece), piece.begin, &spans);
      SplitSpans(spans, SplitBehavior::kMergedWithNext, &pieces);
    }
    input->pieces = std::move(pieces);
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

// Every code point of `class_of` is a match of its own.
template <class Predicate>
SplitPreTokenizer::Find EachCodePoint(Predicate class_of) {
  return [class_of](std::string_view text, size_t offset, std::vector<PatternSpan>* spans) {
    size_t end = 0;
    for (size_t pos = 0; pos < text.size();) {
      const DecodedCodePoint c = DecodeUtf8(text, pos);
      if (class_of(c.value)) {
        if (end < pos) spans->push_back({{offset + end, offset + pos}, false});
        end = pos + c.length;
        spans->push_back({{offset + pos, offset + end}, true});
      }
      pos += c.length;
    }
    if (end < text.size()) spans->push_back({{offset + end, offset + text.size()}, false});
  };
}

// Runs of word characters and runs of anything else that is no white space are words.
void FindWords(std::string_view text, size_t offset, std::vector<PatternSpan>* spans) {
  enum class Kind { kSpace, kWord, kOther };
  Kind run = Kind::kSpace;
  size_t begin = 0;
  const auto flush = [&](size_t end) {
    if (begin < end) spans->push_back({{offset + begin, offset + end}, run == Kind::kSpace});
    begin = end;
  };
  for (size_t pos = 0; pos < text.size();) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    const Kind kind = unicode::IsWord(c.value)         ? Kind::kWord
                      : unicode::IsWhitespace(c.value) ? Kind::kSpace
                                                       : Kind::kOther;
    if (kind != run) flush(pos);
    run = kind;
    pos += c.length;
  }
  flush(text.size());
}

void CutAtLength(std::string_view text, size_t offset, size_t length,
                 std::vector<PatternSpan>* spans) {
  size_t begin = 0;
  size_t count = 0;
  for (size_t pos = 0; pos < text.size();) {
    pos += DecodeUtf8(text, pos).length;
    if (++count == length || pos == text.size()) {
      spans->push_back({{offset + begin, offset + pos}, true});
      begin = pos;
      count = 0;
    }
  }
}

Result MakeSplitAt(SplitPreTokenizer::Find find, SplitBehavior behavior, bool invert = false) {
  return std::make_unique<SplitPreTokenizer>(std::move(find), behavior, invert);
}

// The scanner of a "Split" at a well-known pattern; absent for any other step.
std::optional<WordScanner> ScannerOf(const nlohmann::json& step) {
  const auto is = [&](std::string_view key, std::string_view expected) {
    const absl::StatusOr<std::string> value = json_fields::String(step, key);
    return value.ok() && *value == expected;
  };
  const absl::StatusOr<bool> invert = json_fields::BoolOr(step, "invert", false);
  if (!is("type", "Split") || !is("behavior", "Isolated") || !invert.ok() || *invert)
    return std::nullopt;
  const nlohmann::json* pattern = json_fields::Find(step, "pattern");
  const nlohmann::json* regex = pattern == nullptr ? nullptr : json_fields::Find(*pattern, "Regex");
  if (regex == nullptr || !regex->is_string()) return std::nullopt;
  return WordScanner::Find(regex->get_ref<const std::string&>());
}

Result MakeSplit(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const Pattern pattern, MakePattern(config, "pattern"));
  ASSIGN_OR_RETURN(const std::string name, json_fields::String(config, "behavior"));
  ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(name));
  ASSIGN_OR_RETURN(const bool invert, json_fields::BoolOr(config, "invert", false));
  return MakeSplitAt(
      [pattern](std::string_view text, size_t offset, std::vector<PatternSpan>* spans) {
        pattern.Find(text, offset, spans);
      },
      behavior, invert);
}

Result MakeByteLevel(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const bool add_prefix_space,
                   json_fields::BoolOr(config, "add_prefix_space", true));
  ASSIGN_OR_RETURN(const bool use_regex, json_fields::BoolOr(config, "use_regex", true));
  ByteLevelSteps steps;
  if (use_regex) steps.words = WordScanner::Find(split_patterns::kGpt2);
  auto byte_level = std::make_unique<ByteLevelPreTokenizer>(std::move(steps));
  if (!add_prefix_space) return byte_level;
  std::vector<std::unique_ptr<PreTokenizer>> both;
  both.push_back(std::make_unique<PrefixSpacePreTokenizer>());
  both.push_back(std::move(byte_level));
  return std::make_unique<SequencePreTokenizer>(std::move(both));
}

Result MakeMetaspace(const nlohmann::json& config) {
  using Prepend = MetaspacePreTokenizer::Prepend;
  ASSIGN_OR_RETURN(const std::string replacement,
                   json_fields::StringOr(config, "replacement", "\u2581"));
  if (replacement.empty())
    return absl::InvalidArgumentError("\"replacement\": expected one character");
  ASSIGN_OR_RETURN(const bool add_prefix_space,
                   json_fields::BoolOr(config, "add_prefix_space", true));
  ASSIGN_OR_RETURN(
      const std::string scheme,
      json_fields::StringOr(config, "prepend_scheme", add_prefix_space ? "always" : "never"));
  ASSIGN_OR_RETURN(const bool split, json_fields::BoolOr(config, "split", true));
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return absl::InvalidArgumentError(
        absl::StrCat("\"prepend_scheme\": \"", scheme, "\" is unknown"));
  }
  const Prepend prepend = scheme == "always"  ? Prepend::kAlways
                          : scheme == "first" ? Prepend::kFirst
                                              : Prepend::kNever;
  return std::make_unique<MetaspacePreTokenizer>(replacement, prepend, split);
}

// One ByteLevelPreTokenizer of a byte-level step and the steps around it, where those only cut;
// else nullptr, and `steps` is as it was. `scanner`: of the step before the byte-level one.
std::unique_ptr<PreTokenizer> JoinByteLevel(
    std::vector<std::unique_ptr<PreTokenizer>>* steps,
    const std::vector<std::optional<WordScanner>>& scanners) {
  const auto only_cuts = [](const auto& step) { return step->only_cuts(); };
  const auto at = std::find_if_not(steps->begin(), steps->end(), only_cuts);
  if (at == steps->end() || !std::all_of(at + 1, steps->end(), only_cuts)) return nullptr;
  auto* byte_level = dynamic_cast<ByteLevelPreTokenizer*>(at->get());
  if (byte_level == nullptr) return nullptr;
  ByteLevelSteps joined = byte_level->TakeSteps();
  joined.before.assign(std::make_move_iterator(steps->begin()), std::make_move_iterator(at));
  joined.after.assign(std::make_move_iterator(at + 1), std::make_move_iterator(steps->end()));
  const size_t index = joined.before.size();
  if (index > 0 && !joined.words && scanners[index - 1]) {
    joined.words = scanners[index - 1];
    joined.before.pop_back();
  }
  return std::make_unique<ByteLevelPreTokenizer>(std::move(joined));
}

Result MakeSequence(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const nlohmann::json* list, json_fields::Array(config, "pretokenizers"));
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  std::vector<std::optional<WordScanner>> scanners;
  for (const nlohmann::json& step : *list) {
    ASSIGN_OR_RETURN(auto made, MakePreTokenizer(step));
    steps.push_back(std::move(made));
    scanners.push_back(ScannerOf(step));
  }
  if (auto joined = JoinByteLevel(&steps, scanners)) return joined;
  return std::make_unique<SequencePreTokenizer>(std::move(steps));
}

Result MakeBert() {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  steps.push_back(std::make_unique<SplitPreTokenizer>(EachCodePoint(unicode::IsWhitespace),
                                                      SplitBehavior::kRemoved, false));
  steps.push_back(std::make_unique<SplitPreTokenizer>(EachCodePoint(unicode::IsPunctuation),
                                                      SplitBehavior::kIsolated, false));
  return std::make_unique<SequencePreTokenizer>(std::move(steps));
}

Result MakePunctuation(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string name, json_fields::StringOr(config, "behavior", "Isolated"));
  ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(name));
  return MakeSplitAt(EachCodePoint(unicode::IsPunctuation), behavior);
}

Result MakeDigits(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const bool individual, json_fields::BoolOr(config, "individual_digits", false));
  return MakeSplitAt(EachCodePoint(unicode::IsNumeric),
                     individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

Result MakeDelimiter(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string delimiter, json_fields::String(config, "delimiter"));
  return MakeSplitAt([pattern = Pattern(delimiter)](
                         std::string_view text, size_t offset,
                         std::vector<PatternSpan>* spans) { pattern.Find(text, offset, spans); },
                     SplitBehavior::kRemoved);
}

Result MakeFixedLength(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const int64_t length, json_fields::Count(config, "length", 1 << 20));
  if (length == 0) return absl::InvalidArgumentError("\"length\": expected at least 1");
  return MakeSplitAt(
      [length](std::string_view text, size_t offset, std::vector<PatternSpan>* spans) {
        CutAtLength(text, offset, static_cast<size_t>(length), spans);
      },
      SplitBehavior::kIsolated);
}

}  // namespace

Result MakePreTokenizer(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string type, json_fields::String(config, "type"));
  if (type == "Sequence") return MakeSequence(config);
  if (type == "ByteLevel") return MakeByteLevel(config);
  if (type == "Split") return MakeSplit(config);
  if (type == "Metaspace") return MakeMetaspace(config);
  if (type == "Digits") return MakeDigits(config);
  if (type == "Punctuation") return MakePunctuation(config);
  if (type == "Whitespace") return MakeSplitAt(FindWords, SplitBehavior::kRemoved);
  if (type == "WhitespaceSplit") {
    return MakeSplitAt(EachCodePoint(unicode::IsWhitespace), SplitBehavior::kRemoved);
  }
  if (type == "BertPreTokenizer") return MakeBert();
  if (type == "CharDelimiterSplit") return MakeDelimiter(config);
  if (type == "FixedLength") return MakeFixedLength(config);
  return absl::UnimplementedError(
      absl::StrCat("pre-tokenizer type \"", type, "\" is not supported"));
}

}  // namespace penstock
