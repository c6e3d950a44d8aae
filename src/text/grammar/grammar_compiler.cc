#include "text/grammar/grammar_compiler.h"

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/grammar/compile_time.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/lark.h"
#include "text/grammar/mask_writer.h"
#include "text/grammar/matcher.h"
#include "text/grammar/pattern.h"
#include "text/grammar/structural_tag.h"

namespace penstock {
namespace {

using grammar::ByteAutomaton;
using grammar::Grammar;
using grammar::GrammarBuilder;

constexpr size_t kMaxChoices = 10'000;
constexpr size_t kMaxNotation = 256u << 10;  // bytes of a grammar in writing
// Of the words that automata are made of: characters times different ones, as tables are so large.
constexpr size_t kMaxWordCells = 32u << 20;

/// Counts the characters of words.
class WordCounter {
 public:
  void Add(std::string_view word) {
    for (const char32_t c : ToCodePoints(word)) {
      ++num_;
      different_.insert(c);
    }
  }
  bool too_many() const { return num_ * different_.size() > kMaxWordCells; }

 private:
  size_t num_ = 0;
  absl::flat_hash_set<char32_t> different_;
};

/// The strings and names of a schema, but for what says nothing about instances.
void CountWords(const nlohmann::ordered_json& schema, WordCounter& words) {
  if (schema.is_string()) words.Add(schema.get_ref<const std::string&>());
  if (!schema.is_structured()) return;
  for (const auto& [name, value] : schema.items()) {
    if (schema.is_object()) words.Add(name);
    const bool other = schema.is_object() && value.is_string() &&
                       (name == "description" || name == "title" || name == "$comment" ||
                        name == "pattern");  // which has bounds of its own
    if (!other) CountWords(value, words);
  }
}

absl::StatusOr<Grammar> CompileChoice(const std::vector<std::string>& choices) {
  if (choices.empty()) return absl::InvalidArgumentError("expected at least one choice");
  if (choices.size() > kMaxChoices)
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxChoices, " choices"));
  std::vector<std::u32string> words;
  WordCounter counter;
  for (const std::string& choice : choices) counter.Add(choice);
  if (counter.too_many()) return absl::ResourceExhaustedError("the choices are too long together");
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
               std::shared_ptr<grammar::TokenMasks> first_masks,
               std::shared_ptr<grammar::ForcedText> forced_text,
               std::shared_ptr<grammar::WayMemory> memory, int32_t reasoning_limit)
      : masks_(masks),
        first_masks_(first_masks),
        forced_text_(std::move(forced_text)),
        matcher_(std::move(grammar), std::move(memory)),
        writer_(std::move(masks)),
        first_writer_(std::move(first_masks)),
        reasoning_limit_(reasoning_limit) {
    LimitReasoning();
  }

  bool Accept(TokenId id) override {
    const grammar::TokenMasks& masks = matcher_.num_steps() == 0 ? *first_masks_ : *masks_;
    if (id < 0 || id >= masks.vocab_size() || masks.piece(id).empty()) return false;
    if (!matcher_.Accept(masks.piece(id))) return false;
    limit_ = matcher_.state().cut;
    LimitReasoning();
    ids_.push_back(id);
    return true;
  }
  void Rollback(int32_t num_tokens) override {
    matcher_.Rollback(num_tokens);
    limit_ = matcher_.state().cut;
    ids_.resize(static_cast<size_t>(matcher_.num_steps()));
    if (ids_.size() < forced_begin_) forced_.clear();
  }
  absl::Span<const TokenId> Forced() override {
    // What was found at the begin of such a text holds up to its end, so that it does not matter who
    // asks where.
    const size_t num_taken = ids_.size() - std::min(forced_begin_, ids_.size());
    if (num_taken < forced_.size() &&
        std::equal(ids_.end() - static_cast<ptrdiff_t>(num_taken), ids_.end(), forced_.begin()))
      return absl::MakeConstSpan(forced_).subspan(num_taken);
    forced_ = forced_text_->Find(matcher_, ids_);
    forced_begin_ = ids_.size();
    return forced_;
  }
  bool finished() const override { return matcher_.finished() && limit_ == grammar::Limit::kNone; }
  absl::Status too_ambiguous() const override { return grammar::PastLimit(limit_); }
  bool ended() const override { return matcher_.ended(); }
  void FillMask(absl::Span<uint32_t> words) override {
    // Where not all ways are followed nothing is allowed, not even an end: no less than the grammar
    // says is passed off as all of it.
    limit_ = (matcher_.num_steps() == 0 ? first_writer_ : writer_).Write(matcher_, words);
  }

 private:
  void LimitReasoning() {
    if (reasoning_limit_ >= 0) matcher_.LimitReasoning(reasoning_limit_);
  }

  const std::shared_ptr<grammar::TokenMasks> masks_, first_masks_;
  const std::shared_ptr<grammar::ForcedText> forced_text_;
  std::vector<TokenId> ids_;     // accepted
  std::vector<TokenId> forced_;  // from the forced_begin_-th on
  size_t forced_begin_ = 0;
  grammar::Matcher matcher_;
  grammar::MaskWriter writer_, first_writer_;
  grammar::Limit limit_ = grammar::Limit::kNone;  // that is passed here, as far as is known
  const int32_t reasoning_limit_;
};

/// What it takes to compile `spec` again, but for the limit of its reasoning.
std::string KeyOf(const ReplySpec& spec) {
  std::string key;
  if (spec.reasoning != nullptr)
    absl::StrAppend(&key, ToAbsl(spec.reasoning->name), spec.in_reasoning ? "+" : "-");
  if (spec.calls != nullptr)
    absl::StrAppend(&key, "\t", ToAbsl(spec.calls->name), spec.several ? "n" : "1",
                    spec.behind_text ? "t" : "",
                    spec.past != nullptr ? ToAbsl(spec.past->name) : "");
  key += '\n';
  for (const FunctionSpec& function : spec.functions) {
    absl::StrAppend(&key, function.at, function.strict ? "s" : "l", function.name, "\n",
                    function.schema.size(), ":", function.schema);
  }
  if (spec.content == nullptr) return key;
  const GrammarSpec& content = *spec.content;
  absl::StrAppend(&key, static_cast<int>(content.form), content.strict ? "s" : "l", content.text);
  for (const std::string& choice : content.choices)
    absl::StrAppend(&key, "\n", choice.size(), ":", choice);
  return key;
}

}  // namespace

class GrammarCompiler::Made final : public TokenGrammar {
 public:
  Made(std::shared_ptr<const Grammar> grammar, Masks masks,
       std::shared_ptr<grammar::WayMemory> memory, int32_t reasoning_limit)
      : grammar_(std::move(grammar)),
        masks_(std::move(masks)),
        memory_(std::move(memory)),
        reasoning_limit_(reasoning_limit) {}
  std::unique_ptr<TokenMatcher> Start() const override {
    return std::make_unique<PieceMatcher>(grammar_, masks_.all, masks_.first, masks_.forced,
                                          memory_, reasoning_limit_);
  }

 private:
  const std::shared_ptr<const Grammar> grammar_;
  const Masks masks_;
  const std::shared_ptr<grammar::WayMemory> memory_;
  const int32_t reasoning_limit_;
};

GrammarSpec::Form FormOfGrammar(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string_view rest = text.substr(i);
    if (rest.starts_with('#') || rest.starts_with("//")) {  // a comment
      i = std::min(text.find('\n', i), text.size());
    } else if (rest.starts_with("::=")) {
      return GrammarSpec::Form::kGbnf;
    } else if (rest.starts_with(':') || rest.starts_with('%')) {  // of a rule, of a directive
      break;
    }
  }
  return GrammarSpec::Form::kLark;
}

absl::StatusOr<Grammar> CompileGrammar(const GrammarSpec& spec,
                                       std::vector<std::string>* loosened) {
  if (spec.text.size() > kMaxGrammarText) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec.form == GrammarSpec::Form::kTag ? "format" : "#", ": longer than ",
                     kMaxGrammarText, " bytes"));
  }
  const bool notation =
      spec.form == GrammarSpec::Form::kGbnf || spec.form == GrammarSpec::Form::kLark;
  if (notation && spec.text.size() > kMaxNotation) {
    return absl::InvalidArgumentError(
        absl::StrCat("the grammar is longer than ", kMaxNotation, " bytes"));
  }
  switch (spec.form) {
    case GrammarSpec::Form::kJsonObject:
      return grammar::CompileJsonObject();
    case GrammarSpec::Form::kJsonSchema: {
      const auto schema = nlohmann::ordered_json::parse(spec.text, nullptr, false);
      if (schema.is_discarded()) return absl::InvalidArgumentError("#: is not valid JSON");
      WordCounter words;
      CountWords(schema, words);
      if (words.too_many())
        return absl::ResourceExhaustedError("#: too many different characters in too long texts");
      return grammar::CompileJsonSchema(schema, {spec.strict, loosened});
    }
    case GrammarSpec::Form::kRegex:
      return CompileRegex(spec.text);
    case GrammarSpec::Form::kChoice:
      return CompileChoice(spec.choices);
    case GrammarSpec::Form::kGbnf:
      return grammar::CompileGbnf(spec.text);
    case GrammarSpec::Form::kLark:
      return grammar::CompileLark(spec.text);
    case GrammarSpec::Form::kTag:
      return grammar::CompileStructuralTag(nlohmann::ordered_json::parse(spec.text, nullptr, false),
                                           loosened);
  }
  return absl::InvalidArgumentError("an unknown form of grammar");
}

GrammarCompiler::GrammarCompiler(const Tokenizer* tokenizer, int32_t vocab_size, size_t cache_bytes)
    : tokenizer_(tokenizer), vocab_size_(vocab_size), cache_bytes_(cache_bytes) {}

GrammarCompiler::~GrammarCompiler() = default;

bool GrammarCompiler::IsSpecialToken(std::string_view text) const {
  const std::optional<TokenId> id = tokenizer_->TokenToId(text);
  return id && tokenizer_->is_special(*id);
}

/// Special tokens are no text: they have a byte in front that no text has. Nor does a token that is
/// no text have a place in a grammar otherwise.
void GrammarCompiler::MakeMasksLocked() const {
  std::vector<std::string> pieces(static_cast<size_t>(vocab_size_));
  for (TokenId id = 0; id < std::min(vocab_size_, tokenizer_->vocab_size()); ++id) {
    std::string piece = tokenizer_->Piece(id);
    if (piece.empty() || piece.find(grammar::kSpecialMark) != std::string::npos) continue;
    if (tokenizer_->is_special(id)) piece.insert(0, 1, grammar::kSpecialMark);
    pieces[id] = std::move(piece);
  }
  std::vector<std::string> first;
  if (tokenizer_->strips_first_space()) {
    first = pieces;
    for (std::string& piece : first) {
      if (piece.starts_with(' ')) piece.erase(0, 1);
    }
  }
  masks_.all = std::make_shared<grammar::TokenMasks>(std::move(pieces));
  masks_.first =
      first.empty() ? masks_.all : std::make_shared<grammar::TokenMasks>(std::move(first));
  masks_.forced = std::make_shared<grammar::ForcedText>(tokenizer_, masks_.all, masks_.first);
}

absl::StatusOr<Grammar> GrammarCompiler::CompileSpec(const ReplySpec& spec,
                                                     std::vector<std::string>* loosened) const {
  const grammar::CompileTime time;
  const auto is_special = [this](std::string_view text) { return IsSpecialToken(text); };
  using After = grammar::AfterReasoning;
  After after = After::kForm;
  if (spec.content == nullptr && spec.calls == nullptr) after = After::kAnything;
  if (spec.behind_text) after = After::kText;
  Grammar made = grammar::AnyReply();
  if (spec.content != nullptr) {
    ASSIGN_OR_RETURN(made, CompileGrammar(*spec.content, loosened));
    if (spec.reasoning != nullptr) made = grammar::BehindMarkers(made, *spec.reasoning, is_special);
  }
  if (spec.calls != nullptr) {
    size_t text = 0;
    for (const FunctionSpec& function : spec.functions) {
      text += function.schema.size();
      if (text > kMaxGrammarText)
        return absl::InvalidArgumentError(absl::StrCat(
            function.at, ": the schemas are longer than ", kMaxGrammarText, " bytes together"));
    }
    grammar::TextBefore before;
    before.behind_reasoning = spec.reasoning != nullptr;
    // Reasoning is no text, or a call could be hidden in it.
    const ReasoningFormat* reasoning = spec.reasoning != nullptr ? spec.reasoning : spec.past;
    if (reasoning != nullptr && !IsHarmony({spec.calls, nullptr})) {
      if (!spec.in_reasoning) before.without.emplace_back(reasoning->begin);
      if (spec.calls->bare) before.without.emplace_back(reasoning->answer_begin);
    }
    absl::StatusOr<Grammar> calls =
        grammar::CompileCalls(*spec.calls, spec.functions, spec.several,
                              spec.behind_text ? &before : nullptr, is_special, loosened);
    if (!calls.ok()) return calls;
    made = spec.content == nullptr
               ? *std::move(calls)
               : grammar::Either(*calls, grammar::BehindRecipient(made, *spec.calls));
  }
  if (spec.reasoning == nullptr) return made;
  return grammar::BehindReasoning(made, *spec.reasoning, spec.in_reasoning, after, is_special);
}

absl::StatusOr<std::shared_ptr<const TokenGrammar>> GrammarCompiler::Compile(
    const ReplySpec& spec, std::vector<std::string>* loosened) const {
  std::string key = KeyOf(spec);
  Masks masks;
  {
    std::lock_guard lock(mutex_);
    if (masks_.all == nullptr) MakeMasksLocked();
    masks = masks_;
    const auto found = by_key_.find(key);
    if (found != by_key_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      const Entry& entry = *found->second;
      if (loosened != nullptr)
        loosened->insert(loosened->end(), entry.loosened.begin(), entry.loosened.end());
      return std::make_shared<const Made>(entry.grammar, std::move(masks), way_memory_,
                                          spec.reasoning_limit);
    }
  }
  std::vector<std::string> left_out;
  ASSIGN_OR_RETURN(Grammar compiled, CompileSpec(spec, &left_out));
  static std::atomic<uint64_t> last_id{0};
  compiled.id = ++last_id;
  const auto grammar = std::make_shared<const Grammar>(std::move(compiled));
  masks.all->Prepare(*grammar);
  const auto made =
      std::make_shared<const Made>(grammar, std::move(masks), way_memory_, spec.reasoning_limit);
  if (loosened != nullptr) loosened->insert(loosened->end(), left_out.begin(), left_out.end());
  std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return made;
  const size_t bytes = grammar->bytes() + 2 * key.size();
  if (bytes > cache_bytes_) return made;
  entries_.push_front({key, grammar, std::move(left_out), bytes});
  by_key_.emplace(std::move(key), entries_.begin());
  for (bytes_ += bytes; bytes_ > cache_bytes_; entries_.pop_back()) {
    bytes_ -= entries_.back().bytes;
    by_key_.erase(entries_.back().key);
  }
  return made;
}

}  // namespace penstock
