// Calls for embeddings and scores: what the model can do, texts -> tokens, one request per input.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "service/call_error.h"
#include "service/call_fields.h"
#include "service/chain_call.h"
#include "service/generation_service.h"
#include "service/pooling_chain.h"
#include "service/prompt.h"
#include "text/unicode.h"

namespace penstock {
namespace {

constexpr size_t kMaxInputs = 2048;

std::string InputName(const EmbeddingCall& call, size_t index) {
  if (call.rerank) return absl::StrCat("documents[", index, "]");
  return call.base.prompts.size() == 1 ? "input" : absl::StrCat("input[", index, "]");
}

absl::Status CheckAbility(const EmbeddingCall& call, const ServedModel& model) {
  if (call.rerank && !model.can_rerank) {
    return InvalidField("model",
                        absl::StrCat("the model \"", model.name,
                                     "\" is no classifier with one label: it cannot rerank"));
  }
  if (!call.rerank && !model.can_embed) {
    return InvalidField("model", absl::StrCat("the model \"", model.name, "\" gives no embeddings",
                                              model.can_rerank ? ": use /v1/rerank" : ""));
  }
  if (call.rerank && model.tokenizer == nullptr)
    return InvalidField("query", "this model has no tokenizer: it cannot rerank texts");
  if (call.base.dimensions && *call.base.dimensions > model.embedding_size) {
    return InvalidField("dimensions",
                        absl::StrCat("dimensions must be an integer in [1, ", model.embedding_size,
                                     "], got ", *call.base.dimensions));
  }
  const size_t count = call.base.prompts.size();
  if (count <= kMaxInputs) return absl::OkStatus();
  return InvalidField(call.rerank ? "documents" : "input",
                      absl::StrCat(call.rerank ? "documents" : "input", " has ", count,
                                   " entries, the most is ", kMaxInputs));
}

// Tokens that an input may have, special ones included.
absl::StatusOr<int64_t> MaxInputTokens(const EmbeddingCall& call, const ServedModel& model) {
  const int64_t keep = call.base.truncate_prompt_tokens.value_or(-1);
  if (keep == -1) return model.max_context;
  if (keep >= 1 && keep <= model.max_context) return keep;
  return InvalidField("truncate_prompt_tokens",
                      absl::StrCat("truncate_prompt_tokens must be -1 or in [1, ",
                                   model.max_context, "], the model's context, got ", keep));
}

// Cutting leaves at least one token of the text.
absl::Status CheckSpecialRoom(int64_t num_special, int64_t limit) {
  if (num_special < limit) return absl::OkStatus();
  return InvalidField("truncate_prompt_tokens",
                      absl::StrCat("truncate_prompt_tokens: ", limit,
                                   " tokens leave no room beside ", num_special, " special ones"));
}

std::vector<TokenId> Tokens(const ServedModel& model, const std::string& text) {
  return model.tokenizer->Encode(model.lowercase ? unicode::ToLower(text) : text, false);
}

absl::StatusOr<std::vector<TokenId>> InputTokens(const EmbeddingCall& call,
                                                 const ServedModel& model, size_t index,
                                                 int64_t limit) {
  const PromptInput& input = call.base.prompts[index];
  const bool cut = call.base.truncate_prompt_tokens.has_value();
  if (input.is_ids) {
    std::vector<TokenId> ids = input.ids;
    if (cut && static_cast<int64_t>(ids.size()) > limit) ids.resize(limit);
    return ids;
  }
  const std::string name = InputName(call, index);
  if (model.tokenizer == nullptr) {
    return InvalidField(name, absl::StrCat("this model has no tokenizer: ", name,
                                           " must be an array of token ids"));
  }
  std::vector<TokenId> ids = Tokens(model, input.text);
  if (!call.base.add_special_tokens.value_or(true)) {
    if (cut && static_cast<int64_t>(ids.size()) > limit) ids.resize(limit);
    return ids;
  }
  if (cut) {
    std::vector<TokenId> special;
    model.tokenizer->AddSpecial(&special);
    const auto num_special = static_cast<int64_t>(special.size());
    RETURN_IF_ERROR(CheckSpecialRoom(num_special, limit));
    if (static_cast<int64_t>(ids.size()) > limit - num_special) ids.resize(limit - num_special);
  }
  model.tokenizer->AddSpecial(&ids);
  return ids;
}

/// Shortens the longer of two texts first, so that both have `room` tokens together.
void CutLongestFirst(int64_t room, int64_t& first, int64_t& second) {
  if (first + second <= room) return;
  int64_t& shorter = first > second ? second : first;
  int64_t& longer = first > second ? first : second;
  shorter = std::min(shorter, room / 2);
  longer = room - shorter;
}

/// The query beside one document. `query`: its ids without special tokens.
absl::StatusOr<GenerateRequest> PairRequest(const EmbeddingCall& call, const ServedModel& model,
                                            absl::Span<const TokenId> query, size_t index,
                                            int64_t limit) {
  const Tokenizer& tokenizer = *model.tokenizer;
  const std::vector<TokenId> document = Tokens(model, call.base.prompts[index].text);
  auto num_query = static_cast<int64_t>(query.size());
  auto num_document = static_cast<int64_t>(document.size());
  GenerateRequest request;
  if (call.base.truncate_prompt_tokens) {
    ASSIGN_OR_RETURN(const std::vector<TokenId> special,
                     tokenizer.JoinPair({}, {}, &request.second_segment));
    const auto num_special = static_cast<int64_t>(special.size());
    RETURN_IF_ERROR(CheckSpecialRoom(num_special, limit));
    CutLongestFirst(limit - num_special, num_query, num_document);
  }
  ASSIGN_OR_RETURN(
      request.prompt,
      tokenizer.JoinPair(query.first(num_query), absl::MakeConstSpan(document).first(num_document),
                         &request.second_segment));
  return request;
}

absl::StatusOr<std::vector<GenerateRequest>> BuildRequests(const EmbeddingCall& call,
                                                           const ServedModel& model) {
  ASSIGN_OR_RETURN(const int64_t limit, MaxInputTokens(call, model));
  std::vector<TokenId> query;
  if (call.rerank) query = Tokens(model, call.query);
  std::vector<GenerateRequest> requests;
  for (size_t i = 0; i < call.base.prompts.size(); ++i) {
    GenerateRequest request;
    if (call.rerank) {
      ASSIGN_OR_RETURN(request, PairRequest(call, model, query, i, limit));
    } else {
      ASSIGN_OR_RETURN(request.prompt, InputTokens(call, model, i, limit));
    }
    const std::string name = InputName(call, i);
    RETURN_IF_ERROR(CheckIds(request.prompt, model, name));
    if (request.prompt.size() > static_cast<size_t>(model.max_context)) {
      return InvalidField(
          name, absl::StrCat(name, " has ", request.prompt.size(), " tokens",
                             call.rerank ? " with the query" : "", ", the model's context is ",
                             model.max_context, " (truncate_prompt_tokens cuts)"));
    }
    request.max_tokens = 0;
    request.output = OutputKind::kHidden;
    request.priority = static_cast<int32_t>(call.base.priority.value_or(0));
    request.cache_salt = call.base.cache_salt.value_or("");
    request.adapter = model.adapter;
    if (call.base.timeout_ms)
      request.deadline = call.base.arrival + absl::Milliseconds(*call.base.timeout_ms);
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace

absl::StatusOr<std::shared_ptr<EmbeddingStream>> GenerationService::StartEmbedding(
    EmbeddingCall call, EmbeddingDone done) {
  RETURN_IF_ERROR(CheckOpen());
  std::shared_ptr<ChainCall> chain;
  if (const ChainSetPtr chains = parts_.chains == nullptr ? nullptr : *parts_.chains->Get()) {
    chain = std::make_shared<ChainCall>(call.base, chains, parts_.loop, parts_.log);
    if (chain->links().empty()) chain = nullptr;
  }
  if (chain != nullptr) RETURN_IF_ERROR(PassPoolingLinks(*this, *chain, call));
  ASSIGN_OR_RETURN(std::shared_ptr<const ServedModel> model, FindToServe(call.base));
  RETURN_IF_ERROR(CheckFieldRanges(call.base));
  RETURN_IF_ERROR(CheckAbility(call, *model));
  const TenantPolicy tenant(parts_.config->Get(), call.base.principal);
  RETURN_IF_ERROR(CheckPatience(call.base, tenant, *model->engine));
  EmbeddingSetup setup;
  ASSIGN_OR_RETURN(setup.requests, BuildRequests(call, *model));
  setup.record = NewRecord(call.base);
  setup.record.model = model->name;
  setup.record.operation = call.rerank ? "rerank" : "embeddings";
  for (GenerateRequest& request : setup.requests) {
    tenant.Apply(call.base.priority, call.base.request_id, request);
    setup.record.usage.prompt_tokens += static_cast<int64_t>(request.prompt.size());
  }
  ASSIGN_OR_RETURN(setup.reservation, tenant.Reserve(*limits_, setup.record.usage.prompt_tokens));
  setup.usage = tenant.Meter(parts_.usage);
  setup.loop = parts_.loop;
  setup.clock = parts_.clock;
  setup.chain = chain;
  setup.log = chain == nullptr ? parts_.log : chain.get();
  setup.next_id = &next_id_;
  setup.arrival = call.base.arrival;
  setup.scores = call.rerank;
  setup.size =
      call.rerank ? 1 : static_cast<int32_t>(call.base.dimensions.value_or(model->embedding_size));
  setup.result.model_name = call.base.model.value_or(model->name);
  setup.result.request_id = call.base.request_id;
  setup.result.created = absl::ToUnixSeconds(absl::Now());
  setup.model = std::move(model);
  setup.done = std::move(done);
  auto stream = std::make_shared<EmbeddingStream>(std::move(setup));
  stream->Begin();
  return stream;
}

}  // namespace penstock
