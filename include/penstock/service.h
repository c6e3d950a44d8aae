// What a front end hands to the service and gets back: a parsed call, the sink of its answer, the
// models to choose from. Owns its strings and vectors. Must not know the wire, steps or blocks.
// Threads: values; a ResponseSink is called on one text worker at a time; ModelRegistry and
// RequestLog are thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "penstock/engine.h"
#include "penstock/tokenizer.h"

namespace penstock {

class ChatTemplate;
struct CallFormat;
class GrammarCompiler;
struct GrammarSpec;
struct Principal;
struct ReasoningFormat;
struct RequestMetrics;

/// Sampling values that apply where a request is silent: those of generation_config.json.
struct GenerationDefaults {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k, max_tokens;
  std::vector<TokenId> eos_token_ids;  // end a request unless it says ignore_eos
};

/// One model as clients see it. What it points to outlives it.
struct ServedModel {
  std::string name;  // the first served name: the label of its metrics
  std::vector<std::string> aliases;
  std::string fingerprint;         // equal where the same request gives the same answer; or empty
  std::string parent;              // of an adapter: the model that it adapts; empty: a model
  AdapterId adapter = kNoAdapter;  // that its requests name
  Engine* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;               // null: ids in, ids out
  const ChatTemplate* chat_template = nullptr;        // null: no chat
  const ChatTemplate* tool_template = nullptr;        // where there are tools; null: chat_template
  const CallFormat* call_format = nullptr;            // of functions; null: a chat's text has none
  const ReasoningFormat* reasoning_format = nullptr;  // null: a chat's text has none
  const RequestMetrics* metrics = nullptr;            // null: not counted
  const GrammarCompiler* grammars = nullptr;          // null: no structured output
  GenerationDefaults defaults;
  int32_t max_context = 0;  // prompt + output tokens
  int32_t vocab_size = 0;
  bool can_generate = true;          // a decoder
  bool can_embed = true;             // embeddings of embedding_size numbers
  bool can_rerank = false;           // one score for a pair of texts
  bool normalize = true;             // embeddings are of unit length
  bool lowercase = false;            // texts are embedded in lower case
  int32_t embedding_size = 0;        // 0: no embeddings
  int64_t created = 0;               // seconds since 1970
  std::string bos_token, eos_token;  // as text, for chat templates
};

class ModelRegistry {
 public:
  virtual ~ModelRegistry() = default;
  /// By name or alias; null where unknown.
  virtual std::shared_ptr<const ServedModel> Find(std::string_view name) const = 0;
  using Found = absl::StatusOr<std::shared_ptr<const ServedModel>>;
  /// As Find, of a model that requests can name at once: loads adapters, which takes long.
  virtual Found FindToServe(std::string_view name) const { return Find(name); }
  /// The model or adapter, there or not, that operators say `name` means; else `name`.
  virtual std::string Meaning(std::string_view name) const { return std::string(name); }
  virtual std::vector<std::shared_ptr<const ServedModel>> List() const = 0;
};

/// Which of a chat's functions the model may call, or must.
enum class ToolChoice : uint8_t { kNone, kAuto, kRequired, kNamed };

/// A prompt of a completion: text or ids.
struct PromptInput {
  std::string text;
  std::vector<TokenId> ids;
  bool is_ids = false;
};

/// A request as any front end understands it. An empty optional: the client was silent. Ranges are
/// checked by the service (service/call_fields.h), not by whoever fills this in.
struct GenerationCall {
  std::string request_id;                      // names the call in answers and logs
  std::string protocol;                        // "http" or "grpc"
  std::string trace_id, span_id, parent_id;    // W3C Trace Context; empty: none
  bool trace_sampled = false;                  // its spans are wanted
  absl::Time arrival;                          // engine clock
  std::shared_ptr<const Principal> principal;  // access/principal.h; null: nobody was asked for
  std::optional<std::string> model;
  // (name, what it meant when it was looked up): who judges the call judges what serves it.
  std::pair<std::optional<std::string>, std::shared_ptr<const ServedModel>> found;

  bool chat = false;
  std::vector<PromptInput> prompts;                         // not chat
  std::shared_ptr<const nlohmann::ordered_json> messages;   // chat: an array of objects
  std::shared_ptr<const nlohmann::ordered_json> tools;      // chat: an array or null
  std::shared_ptr<const nlohmann::ordered_json> documents;  // chat: an array or null
  std::shared_ptr<const nlohmann::ordered_json>
      template_arguments;     // chat_template_kwargs: an object or null
  bool splits_reply = false;  // reasoning and calls of functions go apart from the text
  ToolChoice tool_choice = ToolChoice::kAuto;
  std::string named_function;                  // kNamed: the one that must be called
  std::vector<std::string> allowed_functions;  // of tools: all that there are for it; empty: all
  std::optional<bool> parallel_tool_calls;     // false: one call at most
  std::optional<int64_t> reasoning_budget;     // thinking_token_budget
  std::shared_ptr<const GrammarSpec> grammar;  // what the answer must match
  std::string grammar_field;                   // the field that says so
  std::optional<std::string> chat_template, reasoning_effort;
  std::optional<bool> add_generation_prompt, continue_final_message, add_special_tokens;

  std::optional<int64_t> max_tokens, max_completion_tokens, min_tokens, n, best_of, seed, top_k,
      priority;
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<int64_t> num_logprobs;         // completions: logprobs
  std::optional<bool> want_logprobs;           // chat: logprobs
  std::optional<int64_t> top_logprobs;         // chat
  std::optional<int64_t> num_prompt_logprobs;  // prompt_logprobs
  std::optional<int64_t> truncate_prompt_tokens, timeout_ms, ttft_timeout_ms, stream_interval;
  std::optional<int64_t> dimensions;  // embeddings
  std::optional<bool> echo, ignore_eos, include_stop_str_in_output, skip_special_tokens,
      return_token_ids;
  std::optional<bool> stream, include_usage, continuous_usage_stats;
  std::optional<std::string> cache_salt, client_request_id, user;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_token_ids, allowed_token_ids, logprob_token_ids;
  std::vector<std::pair<TokenId, double>> logit_bias;
  std::vector<std::pair<std::string, double>> text_bias;  // logit_bias by text
  std::vector<std::string> bad_words;
  std::vector<std::vector<TokenId>> bad_word_ids;  // their tokens, by ResolveTexts
};

/// An error as the wire shows it; plain strings, so that it may cross threads.
struct CallError {
  absl::StatusCode code = absl::StatusCode::kInternal;
  std::string message;
  std::string param;                                  // the field at fault; empty: none
  std::optional<int64_t> retry_after = std::nullopt;  // seconds
};

struct UsageTotals {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  int64_t reasoning_tokens = 0;  // of completion_tokens
};

/// What is left of one of a tenant's limits.
struct LimitState {
  int64_t limit = 0;  // a minute; 0: there is none
  int64_t remaining = 0;
  absl::Duration reset;  // until it is whole again, if nothing more is taken
};

/// As x-ratelimit-* tell clients.
struct TenantState {
  LimitState requests, tokens;
};

/// What is known before the first token.
struct ResponseStart {
  std::shared_ptr<const ServedModel> model;
  std::string model_name;  // as the client asked
  std::string request_id;
  int64_t created = 0;  // seconds since 1970
  int32_t num_choices = 0;
  int64_t prompt_tokens = 0;                     // of all prompts
  std::vector<std::string> warnings;             // what of the request could not be kept
  std::vector<std::vector<TokenId>> prompt_ids;  // one per prompt
  TenantState limits;                            // after this call
  std::vector<std::pair<std::string, std::string>> headers;  // further ones of the answer
};

/// A piece of one call of a function.
struct CallDelta {
  int32_t index = 0;      // of the choice's calls
  std::string id, name;   // the call's first piece only
  std::string arguments;  // a part of a JSON object
};

/// A piece of one choice. Text is valid UTF-8 and free of stop strings.
struct Delta {
  int32_t index = 0;  // of the choice: prompt * n + copy
  std::string text;
  std::string reasoning;         // goes before the text
  std::vector<CallDelta> calls;  // go after it
  std::vector<SampledToken>
      tokens;  // only where log-probs or ids were asked for, or the model has no tokenizer
  std::vector<SampledToken>
      prompt_logprobs;  // where asked for: the prompt's, first delta only; [0] has none
  std::optional<FinishReason> finish;  // the choice's last delta: kStop or kLength
  TokenId stop_token = -1;             // kStop by one of stop_token_ids
  std::string stop_string;             // kStop by this one of `stop`
  int64_t completion_tokens = 0;       // of this choice so far
  int32_t num_calls = 0;               // likewise; those that broke off apart
  std::vector<std::string> warnings;   // the last delta's: what is not as it was asked for
};

struct ResponseEnd {
  std::optional<CallError> error;  // no choice was finished normally
  UsageTotals usage;
};

/// Takes one call's answer: OnStart once and first, then deltas, then OnEnd exactly once.
class ResponseSink {
 public:
  virtual ~ResponseSink() = default;
  virtual void OnStart(ResponseStart start) = 0;
  /// All that is ready now, in order.
  virtual void OnDeltas(absl::Span<Delta> deltas) = 0;
  virtual void OnEnd(const ResponseEnd& end) = 0;
  /// True while the client reads too slowly; deltas are then kept back until
  /// ResponseStream::Resume.
  virtual bool congested() const { return false; }
};

enum class CancelReason : uint8_t { kDisconnect, kSlowReader, kShutdown };

/// One finished request, for the log: no content.
struct RequestRecord {
  std::string request_id, model, protocol, trace_id, span_id, parent_id;
  std::string operation;  // chat, text_completion, embeddings, rerank
  bool trace_sampled = false;
  std::string tenant, key_id;  // of the principal; empty: none
  int code = 200;              // HTTP status; 499: the client went away
  std::string finish;          // stop, length, abort, error; of the last choice to finish
  std::string error;           // its message; empty: none
  int32_t num_choices = 0;
  bool stream = false;
  UsageTotals usage;
  absl::Duration queue_time, prefill_time, decode_time, first_token_time, total_time;
  absl::Duration chain_time;  // of the chain's links, before the call went to a model
  std::vector<std::pair<std::string, std::string>> tags;  // by links of the chain
};

class RequestLog {
 public:
  virtual ~RequestLog() = default;
  virtual void Record(const RequestRecord& record) = 0;
};

}  // namespace penstock
