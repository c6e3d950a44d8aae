#include "service/generation_service.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/cpu_parts.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/best_of_sink.h"
#include "service/call_error.h"
#include "service/call_fields.h"
#include "service/ids.h"
#include "service/predicted_wait.h"
#include "service/prompt.h"
#include "service/reply_setup.h"
#include "service/sampling.h"
#include "service/tool_choice.h"

namespace penstock {
namespace {

constexpr size_t kMaxChoices = 1024;  // prompts x n of one call
constexpr size_t kPendingTokenBytes =
    64;  // about what a token takes while it waits for a slow reader

bool StreamsOut(const GenerationCall& call) { return call.stream.value_or(false); }

bool NamesNoTokens(const GenerationCall& call) {
  return !call.max_tokens && !call.max_completion_tokens;
}

/// An answer takes no more than its tenant's limits have given for it, also where its call names no
/// number of tokens.
void BoundUnnamed(const GenerationCall& call, const TenantPolicy& tenant, size_t num_prompts,
                  GenerateRequest& request) {
  if (!NamesNoTokens(call)) return;
  const int64_t most = tenant.MostUnnamed(static_cast<int64_t>(request.prompt.size()),
                                          static_cast<int64_t>(num_prompts), NumCandidates(call));
  request.max_tokens = static_cast<int32_t>(
      std::min<int64_t>(request.max_tokens, std::max(most, call.min_tokens.value_or(1))));
}

std::vector<std::string> EchoTexts(const GenerationCall& call, const ServedModel& model,
                                   const std::vector<std::vector<TokenId>>& prompts, int64_t n) {
  std::vector<std::string> echo;
  if (!call.echo.value_or(false)) return echo;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const bool is_text =
        i < call.prompts.size() && !call.prompts[i].is_ids && !call.truncate_prompt_tokens;
    const std::string text =
        is_text ? call.prompts[i].text
        : model.tokenizer == nullptr
            ? std::string()
            : model.tokenizer->Decode(prompts[i], call.skip_special_tokens.value_or(true));
    echo.insert(echo.end(), n, text);
  }
  return echo;
}

}  // namespace

RequestRecord GenerationService::NewRecord(const GenerationCall& call) {
  RequestRecord record;
  record.request_id = call.request_id;
  record.model = call.model.value_or("");
  record.protocol = call.protocol;
  record.trace_id = call.trace_id;
  record.span_id = call.span_id;
  record.parent_id = call.parent_id;
  record.trace_sampled = call.trace_sampled;
  record.operation = call.chat ? "chat" : "text_completion";
  record.stream = StreamsOut(call);
  if (call.principal != nullptr) {
    record.tenant = call.principal->tenant;
    record.key_id = call.principal->key_id;
  }
  return record;
}

GenerationService::GenerationService(ServiceParts parts)
    : parts_(std::move(parts)),
      limits_(std::make_shared<TenantLimits>(parts_.clock, parts_.shared_limits, parts_.usage)) {}

absl::StatusOr<std::shared_ptr<const ServedModel>> GenerationService::FindModel(
    const std::optional<std::string>& name, const PrincipalPtr& caller) const {
  return Named(name, TenantPolicy(parts_.config->Get(), caller), /*to_serve=*/false);
}

absl::StatusOr<std::shared_ptr<const ServedModel>> GenerationService::FindToServe(
    const std::optional<std::string>& name, const PrincipalPtr& caller) const {
  return Named(name, TenantPolicy(parts_.config->Get(), caller), /*to_serve=*/true);
}

/// What is served under `name`, or the only model, if the caller's tenant may use it. Nothing is
/// loaded for one that may not.
absl::StatusOr<std::shared_ptr<const ServedModel>> GenerationService::Named(
    const std::optional<std::string>& name, const TenantPolicy& tenant, bool to_serve) const {
  if (!name) {
    auto all = parts_.models->List();
    std::erase_if(all, [&](const auto& model) {
      return !model->parent.empty() || !tenant.MayUse(model.get(), model->name);
    });
    if (all.size() == 1) return all.front();
    return InvalidField("model", "model is missing: say which of the served models is meant");
  }
  const std::shared_ptr<const ServedModel> known = parts_.models->Find(*name);
  const bool by_meaning = known == nullptr && to_serve &&  // an adapter that is not loaded
                          tenant.MayUse(nullptr, parts_.models->Meaning(*name));
  if (by_meaning || tenant.MayUse(known.get(), *name)) {
    ModelRegistry::Found found = to_serve ? parts_.models->FindToServe(*name) : known;
    // An alias may mean another model by now, which the tenant may not use.
    if (!found.ok() || (*found != nullptr && tenant.MayUse(found->get(), *name))) return found;
  }
  return WithField(
      absl::NotFoundError(absl::StrCat("the model \"", Shown(*name), "\" does not exist")),
      "model");
}

absl::StatusOr<std::shared_ptr<const ServedModel>> GenerationService::Found(
    GenerationCall& call, const TenantPolicy& tenant) const {
  if (call.found.second != nullptr && call.found.first == call.model) return call.found.second;
  ASSIGN_OR_RETURN(auto model, Named(call.model, tenant, /*to_serve=*/true));
  call.found = {call.model, model};
  return model;
}

absl::Status GenerationService::Ready() const {
  if (phase_ == ServingPhase::kAnnouncing)
    return absl::UnavailableError("the server is about to shut down");
  RETURN_IF_ERROR(CheckOpen());
  for (const auto& model : parts_.models->List()) {
    const EngineLoad load = model->engine->load();
    if (load.healthy && !load.draining) return absl::OkStatus();
  }
  return absl::UnavailableError("no model can serve");
}

void GenerationService::set_phase(ServingPhase phase) {
  phase_ = phase;
  const std::unique_lock none(submitting_);
}

absl::Status GenerationService::CheckOpen() const {
  const ServingPhase phase = phase_;
  if (phase < ServingPhase::kDraining) {
    if (!parts_.audit_blocks || !parts_.audit_blocks()) return absl::OkStatus();
    return absl::UnavailableError("the audit log cannot be written (privacy.audit.on_failure)");
  }
  return absl::UnavailableError(phase == ServingPhase::kDraining ? "the server is shutting down"
                                                                 : "the engine has failed");
}

absl::Status GenerationService::CheckRoom(size_t num_prompts, int64_t n) const {
  if (num_prompts * static_cast<size_t>(n) <= kMaxChoices) return absl::OkStatus();
  return InvalidField(
      "prompt", absl::StrCat(num_prompts, " prompts with n = ", n, " are more than ", kMaxChoices,
                             " choices in one request"));
}

/// A call that would not live to see its first token is refused before it costs anything.
absl::Status GenerationService::CheckPatience(const GenerationCall& call,
                                              const TenantPolicy& tenant,
                                              const Engine& engine) const {
  absl::Duration most = absl::InfiniteDuration();
  if (tenant.queue_ttl() > absl::ZeroDuration()) most = tenant.queue_ttl();
  const absl::Duration spent = parts_.clock->Now() - call.arrival;
  for (const auto& limit : {call.timeout_ms, call.ttft_timeout_ms}) {
    if (limit) most = std::min(most, absl::Milliseconds(*limit) - spent);
  }
  if (most == absl::InfiniteDuration()) return absl::OkStatus();
  return CheckWait(PredictedWait(engine.load(), tenant.Priority(call.priority), tenant.name()),
                   std::max(most, absl::ZeroDuration()));
}

void GenerationService::SetDeadlines(const GenerationCall& call, GenerateRequest& request) const {
  if (call.timeout_ms) request.deadline = call.arrival + absl::Milliseconds(*call.timeout_ms);
  absl::Duration first = absl::InfiniteDuration();
  if (call.ttft_timeout_ms) first = absl::Milliseconds(*call.ttft_timeout_ms);
  if (first != absl::InfiniteDuration()) request.first_token_deadline = call.arrival + first;
}

absl::Status GenerationService::Submit(ResponseStream& stream, const GenerationCall& call,
                                       std::vector<GenerateRequest> requests, int64_t n,
                                       Engine& engine) {
  int32_t index = 0;
  for (GenerateRequest& request : requests) {
    SetDeadlines(call, request);
    for (int64_t copy = 0; copy < n; ++copy, ++index) {
      // Copies differ by their seed; a given seed makes all of them repeatable.
      // NOLINTNEXTLINE(bugprone-use-after-move): nothing follows the copy that is moved
      request.sampling.seed = call.seed
                                  ? static_cast<uint64_t>(*call.seed) + static_cast<uint64_t>(copy)
                                  : RandomBits();
      const RequestId id(next_id_.fetch_add(1, std::memory_order_relaxed));
      std::shared_ptr<TokenSink> sink = stream.MakeSink(index, id);
      const bool last = copy + 1 == n;
      RETURN_IF_ERROR(engine.Submit(id, last ? std::move(request) : request, std::move(sink)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<RunningCall>> GenerationService::StartOnce(
    GenerationCall call, const TenantPolicy& tenant, std::shared_ptr<ResponseSink> sink,
    std::shared_ptr<RequestLog> log, bool last, bool* engine_refused) {
  ASSIGN_OR_RETURN(std::shared_ptr<const ServedModel> model, Found(call, tenant));
  if (!model->can_generate) {
    return InvalidField("model", absl::StrCat("the model \"", model->name,
                                              "\" is an encoder, it generates no text: use ",
                                              model->can_embed ? "/v1/embeddings" : "/v1/rerank"));
  }
  RETURN_IF_ERROR(CheckFieldRanges(call));
  RETURN_IF_ERROR(CheckFieldsTogether(call, *model, tenant.config().limits.max_n));
  RETURN_IF_ERROR(CheckToolChoice(call));
  const EngineLoad load = model->engine->load();
  *engine_refused = !load.healthy || load.draining;
  const absl::Status patient = CheckPatience(call, tenant, *model->engine);
  if (!patient.ok()) *engine_refused = true;
  RETURN_IF_ERROR(patient);
  RETURN_IF_ERROR(ResolveTexts(call, *model));
  const int64_t kept = call.n.value_or(1), n = NumCandidates(call);
  RETURN_IF_ERROR(CheckRoom(call.prompts.size(), n));
  ASSIGN_OR_RETURN(std::vector<std::vector<TokenId>> prompts, BuildPrompts(call, *model));

  StreamSetup setup;
  ResponseStart start;
  if (!prompts.empty()) SetReply(call, *model, prompts.front(), setup);
  ASSIGN_OR_RETURN(const std::shared_ptr<const TokenGrammar> grammar,
                   CompileReply(call, *model, setup, &start.warnings));
  setup.record = NewRecord(call);
  std::vector<GenerateRequest> requests;
  int64_t most_tokens = 0;  // that the call may take
  for (const std::vector<TokenId>& prompt : prompts) {
    ASSIGN_OR_RETURN(GenerateRequest request,
                     MakeRequest(call, *model, static_cast<int64_t>(prompt.size())));
    request.prompt = prompt;
    request.grammar = grammar;
    BoundUnnamed(call, tenant, prompts.size(), request);
    tenant.Apply(call.priority, call.request_id, request);
    if (const int32_t num_scored = NumPromptLogprobs(call); num_scored >= 0) {
      request.output = OutputKind::kPromptLogprobs;
      request.num_prompt_logprobs = num_scored;
      setup.first_prompt_ids.insert(setup.first_prompt_ids.end(), n, prompt.front());
    }
    setup.record.usage.prompt_tokens += static_cast<int64_t>(prompt.size());
    most_tokens += static_cast<int64_t>(prompt.size()) + n * request.max_tokens;
    setup.max_tokens.insert(setup.max_tokens.end(), n, request.max_tokens);
    requests.push_back(std::move(request));
  }
  const auto reserve = [&] {
    const CpuPart part(FrontPart::kLimits);
    return tenant.Reserve(*limits_, most_tokens);
  };
  absl::StatusOr<std::shared_ptr<TenantLimits::Reservation>> reservation = reserve();
  if (!reservation.ok() && NamesNoTokens(call)) {  // what is left may do for short answers
    int64_t saved = 0;
    for (GenerateRequest& request : requests) {
      const int32_t least = std::min(request.max_tokens, TenantPolicy::kLeastUnnamed);
      saved += n * (request.max_tokens - std::exchange(request.max_tokens, least));
    }
    for (int32_t& most : setup.max_tokens) most = std::min(most, TenantPolicy::kLeastUnnamed);
    most_tokens -= saved;
    if (saved > 0) reservation = reserve();
  }
  ASSIGN_OR_RETURN(setup.reservation, std::move(reservation));
  setup.others_follow = !last;
  setup.cached_price = tenant.cached_price();
  setup.usage = tenant.Meter(parts_.usage);
  setup.model = model;
  const bool wants_tokens = NumLogprobs(call) >= 0 || call.return_token_ids.value_or(false) ||
                            model->tokenizer == nullptr;
  if (n > kept) {
    sink = std::make_shared<BestOfSink>(
        BestOf{static_cast<int32_t>(prompts.size()), static_cast<int32_t>(n),
               static_cast<int32_t>(kept), wants_tokens},
        std::move(sink));
  }
  setup.sink = sink;
  setup.loop = parts_.loop;
  setup.clock = parts_.clock;
  setup.log = parts_.log;
  setup.call_log = std::move(log);
  setup.arrival = call.arrival;
  setup.record.model = model->name;
  setup.num_choices = static_cast<int32_t>(prompts.size() * n);
  setup.params_n = static_cast<int32_t>(n);
  setup.stop = call.stop;
  setup.stop_ids = requests.front().stop_token_ids;
  setup.reported_stop_ids = call.stop_token_ids;
  setup.include_stop = call.include_stop_str_in_output.value_or(false);
  setup.skip_special = call.skip_special_tokens.value_or(true);
  setup.keep_tokens = wants_tokens || n > kept;
  setup.drop_output = call.max_tokens == 0;
  setup.interval =
      StreamsOut(call) ? call.stream_interval.value_or(1) : std::numeric_limits<int64_t>::max();
  setup.max_pending =
      std::max<size_t>(256, tenant.config().limits.stream_buffer.value / kPendingTokenBytes);
  setup.echo = EchoTexts(call, *model, prompts, n);

  start.model = model;
  start.model_name = call.model.value_or(model->name);
  start.request_id = call.request_id;
  start.created = absl::ToUnixSeconds(absl::Now());
  start.num_choices = static_cast<int32_t>(prompts.size() * kept);
  start.prompt_tokens = setup.record.usage.prompt_tokens;
  start.prompt_ids = std::move(prompts);
  if (setup.reservation != nullptr) start.limits = setup.reservation->state();
  // An engine that drains between two choices of a call would cut off what the first has sent.
  const std::shared_lock taken(submitting_);
  RETURN_IF_ERROR(CheckOpen());
  sink->OnStart(std::move(start));

  auto stream = std::make_shared<ResponseStream>(std::move(setup));
  absl::Status submitted = Submit(*stream, call, std::move(requests), n, *model->engine);
  if (submitted.code() == absl::StatusCode::kResourceExhausted && !RetryAfterOf(submitted)) {
    submitted = WithRetryAfter(
        submitted,
        PredictedWait(model->engine->load(), tenant.Priority(call.priority), tenant.name()));
  }
  if (!submitted.ok()) {
    stream->Abandon();
    *engine_refused = submitted.code() == absl::StatusCode::kResourceExhausted ||
                      submitted.code() == absl::StatusCode::kUnavailable;
    return submitted;
  }
  return stream;
}

void GenerationService::RecordRefusal(const GenerationCall& call,
                                      const absl::Status& status) const {
  if (parts_.log == nullptr) return;
  RequestRecord record = NewRecord(call);
  // Nothing has judged yet what the client sent: it may be megabytes.
  record.model = Shown(record.model);
  record.code = HttpStatus(status.code());
  record.finish = "error";
  record.error = LoggedError(status);
  record.total_time = parts_.clock->Now() - call.arrival;
  parts_.log->Record(record);
}

absl::StatusOr<std::vector<TokenId>> GenerationService::Tokenize(const GenerationCall& call,
                                                                 const ServedModel& model) const {
  RETURN_IF_ERROR(CheckFieldRanges(call));
  ASSIGN_OR_RETURN(auto prompts, BuildPrompts(call, model));
  return std::move(prompts.front());
}

absl::StatusOr<std::string> GenerationService::Detokenize(const std::vector<TokenId>& ids,
                                                          const ServedModel& model,
                                                          std::string_view field) const {
  if (model.tokenizer == nullptr) return InvalidField(field, "this model has no tokenizer");
  for (TokenId id : ids) {
    if (id < 0 || id >= model.vocab_size) {
      return InvalidField(field,
                          absl::StrCat(ToAbsl(field), ": id ", id, " is not in the vocabulary [0, ",
                                       model.vocab_size, ")"));
    }
  }
  return model.tokenizer->Decode(ids, false);
}

}  // namespace penstock
