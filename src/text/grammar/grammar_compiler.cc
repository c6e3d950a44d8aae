#include "text/grammar/grammar_compiler.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/matcher.h"
#include "text/grammar/pattern.h"

namespace penstock {
namespace {

using grammar::ByteAutomaton;
using grammar::Grammar;
using grammar::GrammarBuilder;

constexpr size_t kMaxGrammarText = 1u << 20;
constexpr size_t kMaxChoices = 10'000;

absl::StatusOr<Grammar> CompileChoice(const std::vector<std::string>& choices) {
  if (choices.empty()) return absl::InvalidArgumentError("expected at least one choice");
  if (choices.size() > kMaxChoices)
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxChoices, " choices"));
  std::vector<std::u32string> words;
  for (const std::string& choice : choices) {
    if (choice.empty()) return absl::InvalidArgumentError("a choice is empty");
    words.push_back(ToCodePoints(choice));
  }
  GrammarBuilder builder;
  return builder.Build(builder.Terminal(
      ByteAutomaton::Of(grammar::CharAutomaton::Words(words), grammar::TextEncoding::kUtf8)));
}

absl::StatusOr<Grammar> CompileRegex(const std::string& pattern) {
  ASSIGN_OR_RETURN(const grammar::CharAutomaton found,
                   grammar::CompilePattern(pattern, grammar::PatternUse::kWhole));
  if (found.empty()) return absl::InvalidArgumentError("nothing can match the pattern");
  GrammarBuilder builder;
  return builder.Build(builder.Terminal(ByteAutomaton::Of(found, grammar::TextEncoding::kUtf8)));
}

/// Over a matcher of bytes; shares what masks are made of.
class PieceMatcher final : public TokenMatcher {
 public:
  PieceMatcher(std::shared_ptr<const Grammar> grammar, std::shared_ptr<grammar::TokenMasks> masks,
               std::shared_ptr<grammar::TokenMasks> first_masks)
      : masks_(masks),
        first_masks_(first_masks),
        matcher_(std::move(grammar)),
        writer_(std::move(masks)),
        first_writer_(std::move(first_masks)) {}

  bool Accept(TokenId id) override {
    const grammar::TokenMasks& masks = matcher_.num_steps() == 0 ? *first_masks_ : *masks_;
    if (id < 0 || id >= masks.vocab_size() || masks.piece(id).empty()) return false;
    return matcher_.Accept(masks.piece(id));
  }
  void Rollback(int32_t num_tokens) override { matcher_.Rollback(num_tokens); }
  bool finished() const override { return matcher_.finished(); }
  bool ended() const override { return matcher_.ended(); }
  void FillMask(absl::Span<uint32_t> words) override {
    (matcher_.num_steps() == 0 ? first_writer_ : writer_).Write(matcher_, words);
  }

 private:
  const std::shared_ptr<grammar::TokenMasks> masks_, first_masks_;
  grammar::Matcher matcher_;
  grammar::MaskWriter writer_, first_writer_;
};

}  // namespace

class GrammarCompiler::Made final : public TokenGrammar {
 public:
  Made(std::shared_ptr<const Grammar> grammar, std::shared_ptr<grammar::TokenMasks> masks,
       std::shared_ptr<grammar::TokenMasks> first_masks)
      : grammar_(std::move(grammar)),
        masks_(std::move(masks)),
        first_masks_(std::move(first_masks)) {}
  std::unique_ptr<TokenMatcher> Start() const override {
    return std::make_unique<PieceMatcher>(grammar_, masks_, first_masks_);
  }
  const Grammar& grammar() const { return *grammar_; }

 private:
  const std::shared_ptr<const Grammar> grammar_;
  const std::shared_ptr<grammar::TokenMasks> masks_, first_masks_;
};

absl::StatusOr<Grammar> CompileGrammar(const GrammarSpec& spec,
                                       std::vector<std::string>* loosened) {
  if (spec.text.size() > kMaxGrammarText)
    return absl::InvalidArgumentError(absl::StrCat("#: longer than ", kMaxGrammarText, " bytes"));
  switch (spec.form) {
    case GrammarSpec::Form::kJsonObject:
      return grammar::CompileJsonObject();
    case GrammarSpec::Form::kJsonSchema: {
      const auto schema = nlohmann::ordered_json::parse(spec.text, nullptr, false);
      if (schema.is_discarded()) return absl::InvalidArgumentError("#: is not valid JSON");
      return grammar::CompileJsonSchema(schema, {spec.strict, loosened});
    }
    case GrammarSpec::Form::kRegex:
      return CompileRegex(spec.text);
    case GrammarSpec::Form::kChoice:
      return CompileChoice(spec.choices);
    case GrammarSpec::Form::kGbnf:
      return grammar::CompileGbnf(spec.text);
  }
  return absl::InvalidArgumentError("an unknown form of grammar");
}

GrammarCompiler::GrammarCompiler(const Tokenizer* tokenizer, int32_t vocab_size, size_t cache_bytes)
    : tokenizer_(tokenizer), vocab_size_(vocab_size), cache_bytes_(cache_bytes) {}

GrammarCompiler::~GrammarCompiler() = default;

absl::StatusOr<std::shared_ptr<const TokenGrammar>> GrammarCompiler::Compile(
    const GrammarSpec& spec) const {
  std::string key = absl::StrCat(static_cast<int>(spec.form), spec.strict ? "s" : "l", spec.text);
  for (const std::string& choice : spec.choices)
    absl::StrAppend(&key, "\n", choice.size(), ":", choice);
  std::shared_ptr<grammar::TokenMasks> masks, first_masks;
  {
    std::lock_guard lock(mutex_);
    const auto found = by_key_.find(key);
    if (found != by_key_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return found->second->grammar;
    }
    if (masks_ == nullptr) {
      std::vector<std::string> pieces(static_cast<size_t>(vocab_size_));
      std::vector<std::string> first;
      for (TokenId id = 0; id < std::min(vocab_size_, tokenizer_->vocab_size()); ++id) {
        if (!tokenizer_->is_special(id)) pieces[id] = tokenizer_->Piece(id);
      }
      if (tokenizer_->strips_first_space()) {
        first = pieces;
        for (std::string& piece : first) {
          if (piece.starts_with(' ')) piece.erase(0, 1);
        }
      }
      masks_ = std::make_shared<grammar::TokenMasks>(std::move(pieces));
      first_masks_ =
          first.empty() ? masks_ : std::make_shared<grammar::TokenMasks>(std::move(first));
    }
    masks = masks_;
    first_masks = first_masks_;
  }
  ASSIGN_OR_RETURN(Grammar compiled, CompileGrammar(spec, nullptr));
  auto made = std::make_shared<const Made>(std::make_shared<const Grammar>(std::move(compiled)),
                                           std::move(masks), std::move(first_masks));
  std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return made;
  const size_t bytes = made->grammar().bytes() + 2 * key.size();
  if (bytes > cache_bytes_) return made;
  entries_.push_front({key, made, bytes});
  by_key_.emplace(std::move(key), entries_.begin());
  for (bytes_ += bytes; bytes_ > cache_bytes_; entries_.pop_back()) {
    bytes_ -= entries_.back().bytes;
    by_key_.erase(entries_.back().key);
  }
  return made;
}

}  // namespace penstock
