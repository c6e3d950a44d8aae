// A call on its way to an engine: through the links of the chain, then to a model or one that stands
// in for it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/cpu_parts.h"
#include "base/status_macros.h"
#include "chain/answer_cache.h"
#include "chain/gathered_answer.h"
#include "metrics/catalogue.h"
#include "service/call_error.h"
#include "service/call_key.h"
#include "service/chain_call.h"
#include "service/fallback_call.h"
#include "service/generation_service.h"
#include "service/prompt.h"

namespace penstock {
namespace {

/// Nothing is left to cancel.
class AnsweredCall final : public RunningCall {
 public:
  void Cancel(CancelReason) override {}
};

/// Keeps what passes for the next call of the same kind.
class KeepingSink final : public ResponseSink {
 public:
  /// `model`: that `key` is of.
  KeepingSink(std::shared_ptr<ChainLink> link, std::string key,
              std::shared_ptr<const ServedModel> model, const Clock* clock,
              std::shared_ptr<ResponseSink> next)
      : link_(std::move(link)),
        key_(std::move(key)),
        model_(std::move(model)),
        clock_(clock),
        next_(std::move(next)) {}
  void OnStart(ResponseStart start) override {
    // Another model's answer is not this one's: of one that stood in, or that the name means by now.
    whole_ = start.headers.empty() && start.model->engine == model_->engine &&
             start.model->adapter == model_->adapter;
    warnings_ = start.warnings;
    next_->OnStart(std::move(start));
  }
  void OnDeltas(absl::Span<Delta> deltas) override {
    if (whole_) {
      for (const Delta& delta : deltas) gathered_.Add(delta);
    }
    next_->OnDeltas(deltas);
  }
  void OnEnd(const ResponseEnd& end) override {
    // A stream's call that was broken off is content in an answer that is whole.
    const bool broken = std::any_of(
        gathered_.choices().begin(), gathered_.choices().end(), [](const Delta& choice) {
          return static_cast<size_t>(choice.num_calls) < choice.calls.size();
        });
    if (!end.error && whole_ && !broken) {
      auto kept = std::make_shared<KeptAnswer>();
      const size_t bytes = gathered_.bytes() + key_.size();
      kept->choices = std::move(gathered_.choices());
      kept->usage = end.usage;
      kept->warnings = std::move(warnings_);
      link_->cache()->Put(key_, std::move(kept), bytes, clock_->Now());
    }
    next_->OnEnd(end);
  }
  bool congested() const override { return next_->congested(); }

 private:
  const std::shared_ptr<ChainLink> link_;
  const std::string key_;
  const std::shared_ptr<const ServedModel> model_;
  const Clock* const clock_;
  const std::shared_ptr<ResponseSink> next_;
  GatheredAnswer gathered_;
  std::vector<std::string> warnings_;
  bool whole_ = true;
};

/// Tokens tell what links would keep from the client.
absl::Status CheckNoTokens(const GenerationCall& call) {
  for (const auto& [field, there] :
       {std::pair("logprobs", call.num_logprobs || call.want_logprobs.value_or(false)),
        {"top_logprobs", call.top_logprobs.has_value()},
        {"logprob_token_ids", !call.logprob_token_ids.empty()},
        {"return_token_ids", call.return_token_ids.value_or(false)}}) {
    if (there) {
      return InvalidField(field, absl::StrCat(field, " is not given where guards look at answers"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<RunningCall>> GenerationService::Start(
    GenerationCall call, std::shared_ptr<ResponseSink> sink) {
  RETURN_IF_ERROR(CheckOpen());
  const ChainSetPtr chains = parts_.chains == nullptr ? nullptr : *parts_.chains->Get();
  const TenantPolicy tenant(parts_.config->Get(), call.principal);
  if (chains == nullptr || chains->For(tenant.name()).empty())
    return StartOnModels(call, tenant, std::move(sink), nullptr);
  return StartInChain(std::move(call), tenant, std::move(sink), chains);
}

absl::StatusOr<std::shared_ptr<RunningCall>> GenerationService::StartInChain(
    GenerationCall call, const TenantPolicy& tenant, std::shared_ptr<ResponseSink> sink,
    ChainSetPtr chains) {
  auto chain = std::make_shared<ChainCall>(call, std::move(chains), parts_.loop, parts_.log);
  std::shared_ptr<RunningCall> answered;
  ASSIGN_OR_RETURN(sink, PassLinks(*chain, call, tenant, std::move(sink), &answered));
  if (answered != nullptr) return answered;
  if (chain->filters_output()) {
    RETURN_IF_ERROR(CheckNoTokens(call));
    ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model, Found(call, tenant));
    if (model->tokenizer == nullptr)
      return InvalidField("model", "guards cannot read what a model without a tokenizer says");
  }
  ASSIGN_OR_RETURN(std::shared_ptr<RunningCall> running,
                   StartOnModels(call, tenant, std::move(sink), chain));
  chain->Attach(running);
  return running;
}

/// The sink behind the last link; or `answered`, where a cache had the answer.
absl::StatusOr<std::shared_ptr<ResponseSink>> GenerationService::PassLinks(
    ChainCall& chain, GenerationCall& call, const TenantPolicy& tenant,
    std::shared_ptr<ResponseSink> sink, std::shared_ptr<RunningCall>* answered) {
  const CpuPart part(FrontPart::kChain);
  for (const std::shared_ptr<ChainLink>& link : chain.links()) {
    // A link may have named another model; whether there is one, whoever starts the call says.
    const auto found = Found(call, tenant);
    const std::shared_ptr<const ServedModel> model = found.ok() ? *found : nullptr;
    if (link->cache() != nullptr) {
      const std::string owner = tenant.CacheOwner();
      if (model == nullptr || owner.empty() || !IsRepeatable(call, *model)) continue;
      const std::string key = CallKey(call, *model, owner);
      const std::shared_ptr<const KeptAnswer> kept = link->cache()->Find(key, parts_.clock->Now());
      if (kept == nullptr) {
        sink = std::make_shared<KeepingSink>(link, key, model, parts_.clock, std::move(sink));
        continue;
      }
      RETURN_IF_ERROR(AnswerAgain(*kept, call, tenant, chain, model, *sink));
      *answered = std::make_shared<AnsweredCall>();
      return sink;
    }
    LinkView view = chain.OutView();
    view.call = &call;
    view.model = model.get();
    view.fields = [&call] { return FieldsOf(call); };
    view.count_tokens = [&call, &model]() -> absl::StatusOr<int64_t> {
      ASSIGN_OR_RETURN(const auto prompts, BuildPrompts(call, *model));
      int64_t tokens = 0;
      for (const auto& prompt : prompts) tokens += static_cast<int64_t>(prompt.size());
      return tokens;
    };
    RETURN_IF_ERROR(chain.Enter(*link, call, view));
    sink = chain.Wrap(link, std::move(sink));
  }
  return sink;
}

absl::Status GenerationService::AnswerAgain(const KeptAnswer& kept, const GenerationCall& call,
                                            const TenantPolicy& tenant, ChainCall& chain,
                                            std::shared_ptr<const ServedModel> model,
                                            ResponseSink& sink) {
  ASSIGN_OR_RETURN(const auto reservation, tenant.Reserve(*limits_, 0));
  ResponseStart start;
  start.model = model;
  start.model_name = call.model.value_or(model->name);
  start.request_id = call.request_id;
  start.created = absl::ToUnixSeconds(absl::Now());
  start.num_choices = static_cast<int32_t>(kept.choices.size());
  start.prompt_tokens = kept.usage.prompt_tokens;
  start.warnings = kept.warnings;
  start.prompt_ids.resize(1);
  if (reservation != nullptr) start.limits = reservation->state();
  start.headers.emplace_back("x-cache", "hit");
  RequestRecord record = NewRecord(call);
  record.model = model->name;
  record.num_choices = start.num_choices;
  record.usage = kept.usage;
  record.usage.cached_tokens = kept.usage.prompt_tokens;
  std::vector<Delta> choices = kept.choices;
  for (const Delta& choice : choices)
    record.finish = choice.finish == FinishReason::kStop ? "stop" : "length";
  sink.OnStart(std::move(start));
  sink.OnDeltas(absl::MakeSpan(choices));
  if (reservation != nullptr) reservation->Settle(0);
  record.total_time = parts_.clock->Now() - call.arrival;
  chain.tags().emplace_back("cache", "hit");
  chain.Record(record);
  sink.OnEnd({std::nullopt, record.usage});
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<RunningCall>> GenerationService::StartOnModels(
    const GenerationCall& call, const TenantPolicy& tenant, std::shared_ptr<ResponseSink> sink,
    std::shared_ptr<RequestLog> log) {
  using Model = absl::StatusOr<std::shared_ptr<const ServedModel>>;
  const Model named = call.found.second != nullptr && call.found.first == call.model
                          ? Model(call.found.second)
                          : Named(call.model, tenant, /*to_serve=*/false);
  const auto& models = tenant.config().models;
  std::vector<std::string> others;
  if (named.ok()) {
    if (const auto entry = models.find((*named)->name); entry != models.end()) {
      for (const std::string& other : entry->second.fallback) {
        if (Named(other, tenant, /*to_serve=*/false).ok()) others.push_back(other);
      }
    }
  }
  if (others.empty()) {
    bool ignored = false;
    return StartOnce(call, tenant, std::move(sink), std::move(log), /*last=*/true, &ignored);
  }
  const auto start = [this, call, tenant, log, first = (*named)->name](
                         const std::string& name, std::shared_ptr<ResponseSink> to, bool last,
                         bool* may_retry) -> Started {
    GenerationCall again = call;
    if (!name.empty()) {
      again.model = name;
      if (parts_.catalogue != nullptr) parts_.catalogue->CountFallback(first);
    }
    return StartOnce(std::move(again), tenant, std::move(to), log, last, may_retry);
  };
  auto running =
      std::make_shared<FallbackCall>(std::move(others), std::move(sink), parts_.loop, start);
  RETURN_IF_ERROR(running->Start());
  return running;
}

}  // namespace penstock
