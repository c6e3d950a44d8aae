#include "service/sampling.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"

namespace penstock {
namespace {

constexpr size_t kMaxStops = 64;
constexpr size_t kMaxStopBytes = 4096;
constexpr size_t kMaxBadWords = 128;
constexpr size_t kMaxTokenText = 256;  // bytes of a bad word, and of a text that is biased
constexpr int64_t kCompletionTokens =
    16;  // max_tokens of /v1/completions where the client is silent

absl::Status CheckIdList(std::string_view field, const std::vector<TokenId>& ids,
                         const ServedModel& model) {
  for (TokenId id : ids) {
    if (id < 0 || id >= model.vocab_size) {
      return InvalidField(
          field, absl::StrCat(ToAbsl(field), ": token id ", id, " is not in the vocabulary [0, ",
                              model.vocab_size, ")"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStops(const GenerationCall& call, const ServedModel& model) {
  if (call.stop.size() > kMaxStops) {
    return InvalidField(
        "stop", absl::StrCat("stop has ", call.stop.size(), " strings, the most is ", kMaxStops));
  }
  for (const std::string& stop : call.stop) {
    if (stop.empty()) return InvalidField("stop", "stop must not hold an empty string");
    if (stop.size() > kMaxStopBytes) {
      return InvalidField("stop", absl::StrCat("a stop string has ", stop.size(),
                                               " bytes, the most is ", kMaxStopBytes));
    }
  }
  if (!call.stop.empty() && model.tokenizer == nullptr) {
    return InvalidField("stop", "this model has no tokenizer: use stop_token_ids");
  }
  return absl::OkStatus();
}

// The ids of a text that stands for tokens; `field` named it.
absl::StatusOr<std::vector<TokenId>> TokensOf(std::string_view field, const std::string& text,
                                              const ServedModel& model) {
  if (model.tokenizer == nullptr) {
    return InvalidField(field, absl::StrCat("this model has no tokenizer: ", ToAbsl(field),
                                            " cannot be given as text"));
  }
  if (text.empty() || text.size() > kMaxTokenText) {
    return InvalidField(field, absl::StrCat(ToAbsl(field), ": a text must have 1 to ",
                                            kMaxTokenText, " bytes, got ", text.size()));
  }
  std::vector<TokenId> ids = model.tokenizer->Encode(text, false);
  if (ids.empty())
    return InvalidField(field, absl::StrCat(ToAbsl(field), ": \"", text, "\" has no token"));
  return ids;
}

// Output tokens that the client asked for, or that it gets when silent.
absl::StatusOr<int64_t> MaxTokens(const GenerationCall& call, const ServedModel& model,
                                  int64_t prompt_tokens) {
  const int64_t room = model.max_context - prompt_tokens;
  if (room < 1) {
    const char* field = call.chat ? "messages" : "prompt";
    return InvalidField(
        field, absl::StrCat("the prompt has ", prompt_tokens, " tokens, the model's context is ",
                            model.max_context, " with at least one token of output"));
  }
  const auto& asked = call.max_completion_tokens ? call.max_completion_tokens : call.max_tokens;
  if (!asked) {
    const int64_t silent = call.chat ? room : kCompletionTokens;
    return std::min(room, call.chat ? model.defaults.max_tokens.value_or(silent) : silent);
  }
  if (*asked > room) {
    const char* field = call.max_completion_tokens ? "max_completion_tokens" : "max_tokens";
    return InvalidField(
        field,
        absl::StrCat(field, " is ", *asked, " and the prompt has ", prompt_tokens,
                     " tokens: together more than the model's context of ", model.max_context));
  }
  return *asked;
}

float Pick(const std::optional<double>& asked, const std::optional<double>& model,
           double otherwise) {
  return static_cast<float>(asked ? *asked : model.value_or(otherwise));
}

}  // namespace

absl::Status CheckFieldsTogether(const GenerationCall& call, const ServedModel& model,
                                 int64_t max_n) {
  if (call.n && *call.n > max_n) {
    return InvalidField("n",
                        absl::StrCat("n must be an integer in [1, ", max_n, "], got ", *call.n));
  }
  if (call.best_of && *call.best_of != call.n.value_or(1)) {
    if (*call.best_of > max_n) {
      return InvalidField("best_of", absl::StrCat("best_of must be an integer in [1, ", max_n,
                                                  "], got ", *call.best_of));
    }
    if (*call.best_of < call.n.value_or(1)) {
      return InvalidField("best_of", absl::StrCat("best_of must be at least n, which is ",
                                                  call.n.value_or(1), ", got ", *call.best_of));
    }
    if (call.stream.value_or(false)) {
      return InvalidField("best_of",
                          "best_of greater than n is only for answers that do not stream");
    }
  }
  if (call.max_tokens == 0 && (call.chat || !call.echo.value_or(false))) {
    return InvalidField("max_tokens",
                        "max_tokens must be at least 1 (0 only for completions with echo)");
  }
  if (call.top_logprobs && *call.top_logprobs > 0 && !call.want_logprobs.value_or(false)) {
    return InvalidField("top_logprobs", "top_logprobs needs logprobs: true");
  }
  const bool streams = call.stream.value_or(false);
  if (!streams && (call.include_usage || call.continuous_usage_stats)) {
    return InvalidField("stream_options", "stream_options is allowed only with stream: true");
  }
  if (streams && call.num_prompt_logprobs) {
    return InvalidField("prompt_logprobs",
                        "prompt_logprobs is only for answers that do not stream");
  }
  RETURN_IF_ERROR(CheckStops(call, model));
  RETURN_IF_ERROR(CheckIdList("stop_token_ids", call.stop_token_ids, model));
  RETURN_IF_ERROR(CheckIdList("allowed_token_ids", call.allowed_token_ids, model));
  RETURN_IF_ERROR(CheckIdList("logprob_token_ids", call.logprob_token_ids, model));
  for (const auto& [id, bias] : call.logit_bias)
    RETURN_IF_ERROR(CheckIdList("logit_bias", {id}, model));
  return absl::OkStatus();
}

absl::Status ResolveTexts(GenerationCall& call, const ServedModel& model) {
  for (const auto& [text, bias] : call.text_bias) {
    ASSIGN_OR_RETURN(const std::vector<TokenId> ids, TokensOf("logit_bias", text, model));
    for (const TokenId id : ids) call.logit_bias.emplace_back(id, bias);
  }
  call.text_bias.clear();
  if (call.bad_words.size() > kMaxBadWords) {
    return InvalidField("bad_words", absl::StrCat("bad_words has ", call.bad_words.size(),
                                                  " texts, the most is ", kMaxBadWords));
  }
  for (const std::string& word : call.bad_words) {
    ASSIGN_OR_RETURN(std::vector<TokenId> ids, TokensOf("bad_words", word, model));
    // Within a text a word has a space before it, which most vocabularies write as part of it.
    std::vector<TokenId> spaced = model.tokenizer->Encode(" " + word, false);
    if (!word.starts_with(' ') && !spaced.empty() && spaced != ids)
      call.bad_word_ids.push_back(std::move(spaced));
    call.bad_word_ids.push_back(std::move(ids));
  }
  return absl::OkStatus();
}

int32_t NumLogprobs(const GenerationCall& call) {
  if (call.num_logprobs) return static_cast<int32_t>(*call.num_logprobs);
  if (call.want_logprobs.value_or(false))
    return static_cast<int32_t>(call.top_logprobs.value_or(0));
  return call.logprob_token_ids.empty() ? -1 : 0;
}

int64_t NumCandidates(const GenerationCall& call) {
  return std::max(call.n.value_or(1), call.best_of.value_or(1));
}

int32_t NumPromptLogprobs(const GenerationCall& call) {
  const int32_t echoed = call.echo.value_or(false) ? NumLogprobs(call) : -1;
  return std::max(echoed, static_cast<int32_t>(call.num_prompt_logprobs.value_or(-1)));
}

absl::StatusOr<GenerateRequest> MakeRequest(const GenerationCall& call, const ServedModel& model,
                                            int64_t prompt_tokens) {
  GenerateRequest request;
  ASSIGN_OR_RETURN(const int64_t max_tokens, MaxTokens(call, model, prompt_tokens));
  if (call.min_tokens && *call.min_tokens > max_tokens) {
    return InvalidField("min_tokens", absl::StrCat("min_tokens is ", *call.min_tokens,
                                                   ", more than max_tokens, ", max_tokens));
  }
  request.max_tokens = static_cast<int32_t>(std::max<int64_t>(1, max_tokens));
  SamplingParams& sampling = request.sampling;
  const GenerationDefaults& defaults = model.defaults;
  sampling.temperature = Pick(call.temperature, defaults.temperature, 1.0);
  sampling.top_p = Pick(call.top_p, defaults.top_p, 1.0);
  sampling.min_p = Pick(call.min_p, defaults.min_p, 0.0);
  sampling.repetition_penalty = Pick(call.repetition_penalty, defaults.repetition_penalty, 1.0);
  sampling.presence_penalty = Pick(call.presence_penalty, std::nullopt, 0.0);
  sampling.frequency_penalty = Pick(call.frequency_penalty, std::nullopt, 0.0);
  const int64_t top_k = call.top_k ? *call.top_k : defaults.top_k.value_or(0);
  sampling.top_k = static_cast<int32_t>(std::clamp<int64_t>(top_k, 0, model.vocab_size));
  sampling.min_tokens = static_cast<int32_t>(call.min_tokens.value_or(0));
  sampling.num_logprobs = NumLogprobs(call);
  if (NumCandidates(call) > call.n.value_or(1))
    sampling.num_logprobs = std::max(0, sampling.num_logprobs);  // by which candidates are ranked
  sampling.logprob_token_ids = call.logprob_token_ids;
  sampling.allowed_token_ids = call.allowed_token_ids;
  sampling.bad_words = call.bad_word_ids;
  for (const auto& [id, bias] : call.logit_bias)
    sampling.logit_bias.emplace_back(id, static_cast<float>(bias));
  request.stop_token_ids = call.stop_token_ids;
  if (!call.ignore_eos.value_or(false)) {
    request.stop_token_ids.insert(request.stop_token_ids.end(), defaults.eos_token_ids.begin(),
                                  defaults.eos_token_ids.end());
  }
  request.priority = static_cast<int32_t>(call.priority.value_or(0));
  request.cache_salt = call.cache_salt.value_or("");
  request.adapter = model.adapter;
  return request;
}

}  // namespace penstock
