// Grammars in all the forms that requests bring them, compiled for one tokenizer and kept.
// Owns the compiled ones (bounded in bytes), the tokenizer's masks and what matchers share. Must not
// know requests.
// Threads: thread-safe; Compile may take up to a second: not on the engine's thread.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "penstock/grammar.h"
#include "penstock/tokenizer.h"
#include "text/grammar/forced_text.h"
#include "text/grammar/grammar.h"
#include "text/grammar/limits.h"
#include "text/grammar/reply_grammar.h"
#include "text/grammar/token_masks.h"

namespace penstock {

/// Longer texts are refused.
inline constexpr size_t kMaxGrammarText = 1u << 20;

struct GrammarSpec {
  enum class Form : uint8_t { kJsonObject, kJsonSchema, kRegex, kChoice, kGbnf, kLark, kTag };
  Form form = Form::kJsonObject;
  std::string text;                  // the schema, the expression, the grammar, the structural tag
  std::vector<std::string> choices;  // kChoice
  bool strict = true;                // kJsonSchema: refuse what cannot be kept, else leave it out
};

/// Of a grammar whose notation is not said: its first statement tells, which in GBNF has an arrow.
GrammarSpec::Form FormOfGrammar(std::string_view text);

/// A reply as a whole: perhaps reasoning, then content or calls of functions.
struct ReplySpec {
  std::shared_ptr<const GrammarSpec> content;  // null, and no calls: any text
  const CallFormat* calls = nullptr;           // of `functions`, in place of content
  std::vector<FunctionSpec> functions;
  bool several = true;                         // calls
  bool behind_text = false;                    // calls need not come
  const ReasoningFormat* past = nullptr;       // that is over already: no text begins it anew
  const ReasoningFormat* reasoning = nullptr;  // goes before, or may
  bool in_reasoning = false;                   // it has begun already
  int32_t reasoning_limit = -1;                // tokens; -1: none
};

/// Without a tokenizer: the language itself.
absl::StatusOr<grammar::Grammar> CompileGrammar(const GrammarSpec& spec,
                                                std::vector<std::string>* loosened);

class GrammarCompiler {
 public:
  static constexpr size_t kDefaultCacheBytes = 128u << 20;
  /// What grammars, masks and matchers of a model come to at most, those of an output's first token
  /// included, which some tokenizers have apart. Of the host's memory, taken as requests need it.
  static constexpr int64_t kMostBytes =
      kDefaultCacheBytes + grammar::TokenMasks::kDefaultCacheBytes * 3 + grammar::WayMemory::kMost;

  /// `tokenizer` outlives it. `vocab_size` is the model's.
  GrammarCompiler(const Tokenizer* tokenizer, int32_t vocab_size,
                  size_t cache_bytes = kDefaultCacheBytes);
  ~GrammarCompiler();

  /// INVALID_ARGUMENT, RESOURCE_EXHAUSTED or UNIMPLEMENTED say what is wrong with the spec.
  /// `loosened`: takes what was left out.
  absl::StatusOr<std::shared_ptr<const TokenGrammar>> Compile(
      const ReplySpec& spec, std::vector<std::string>* loosened) const;

 private:
  class Made;
  struct Masks {
    std::shared_ptr<grammar::TokenMasks> all;
    std::shared_ptr<grammar::TokenMasks> first;  // of an output's first token
    std::shared_ptr<grammar::ForcedText> forced;
  };
  struct Entry {
    std::string key;
    std::shared_ptr<const grammar::Grammar> grammar;
    std::vector<std::string> loosened;
    size_t bytes = 0;
  };

  absl::StatusOr<grammar::Grammar> CompileSpec(const ReplySpec& spec,
                                               std::vector<std::string>* loosened) const;
  bool IsSpecialToken(std::string_view text) const;
  void MakeMasksLocked() const;

  const Tokenizer* tokenizer_;
  const int32_t vocab_size_;
  const size_t cache_bytes_;
  const std::shared_ptr<grammar::WayMemory> way_memory_ = std::make_shared<grammar::WayMemory>();
  mutable std::mutex mutex_;
  mutable Masks masks_;               // made at the first use
  mutable std::list<Entry> entries_;  // the last used first
  mutable absl::flat_hash_map<std::string, std::list<Entry>::iterator> by_key_;
  mutable size_t bytes_ = 0;
};

}  // namespace penstock
