#include "server/local_talk.h"

#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "access/access_control.h"
#include "base/clock.h"
#include "base/live.h"
#include "base/machine.h"
#include "base/status_macros.h"
#include "base/worker_pool.h"
#include "metrics/catalogue.h"
#include "server/model_instance.h"
#include "service/generation_service.h"
#include "service/model_registry.h"
#include "service/running_call.h"
#include "service/text_loop.h"

namespace penstock {
namespace {

constexpr size_t kMaxTalkCalls = 16;

/// Pieces of an answer, from the service's threads to the one that waits for them.
class TalkSink final : public ResponseSink {
 public:
  struct Piece {
    std::string text;
    bool is_reasoning = false;
  };

  void OnStart(ResponseStart) override {}
  void OnDeltas(absl::Span<Delta> deltas) override {
    const std::lock_guard lock(mutex_);
    for (const Delta& delta : deltas) {
      if (!first_) first_ = SystemClock::Get().Now();
      if (!delta.reasoning.empty()) pieces_.push_back({delta.reasoning, true});
      if (!delta.text.empty()) pieces_.push_back({delta.text, false});
      if (delta.finish) finish_ = delta.finish;
    }
    changed_.notify_one();
  }
  void OnEnd(const ResponseEnd& end) override {
    const std::lock_guard lock(mutex_);
    end_ = end;
    changed_.notify_one();
  }

  /// Waits a moment for something new; true: the answer has ended and these are its last pieces.
  bool Take(std::vector<Piece>& pieces) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(50),
                      [&] { return end_.has_value() || !pieces_.empty(); });
    pieces = std::exchange(pieces_, {});
    return end_.has_value();
  }
  // Once Take has said so.
  const ResponseEnd& end() const { return *end_; }
  std::optional<absl::Time> first() const { return first_; }
  std::optional<FinishReason> finish() const { return finish_; }

 private:
  std::mutex mutex_;  // guards all that follows
  std::condition_variable changed_;
  std::vector<Piece> pieces_;
  std::optional<absl::Time> first_;
  std::optional<FinishReason> finish_;
  std::optional<ResponseEnd> end_;
};

}  // namespace

/// In the order of construction; what is below may use what is above.
struct LocalTalk::Parts {
  explicit Parts(ServerConfig config)
      : live(std::move(config)),
        pool(live.Get()->models.begin()->second.engine.threads > 0
                 ? live.Get()->models.begin()->second.engine.threads
                 : AllowedCpus(),
             {}) {}
  ~Parts() { text.Stop(); }

  Live<ServerConfig> live;
  Catalogue catalogue{PENSTOCK_VERSION};
  WorkerPool pool;
  std::unique_ptr<AccessControl> access;
  TextLoop text{2, kMaxTalkCalls};
  std::unique_ptr<ModelInstance> model;
  std::unique_ptr<StaticRegistry> registry;
  std::unique_ptr<GenerationService> service;
};

LocalTalk::LocalTalk(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
LocalTalk::~LocalTalk() = default;

absl::StatusOr<std::unique_ptr<LocalTalk>> LocalTalk::Load(ServerConfig config) {
  if (config.models.empty()) return absl::InvalidArgumentError("no model is named");
  const std::string name = config.models.begin()->first;
  auto parts = std::make_unique<Parts>(std::move(config));
  ASSIGN_OR_RETURN(auto rules, MakeAccessRules(*parts->live.Get()));
  parts->access = std::make_unique<AccessControl>(std::move(rules));
  ASSIGN_OR_RETURN(parts->model, ModelInstance::Load(
                                     name, parts->live.Get()->models.at(name),
                                     {&parts->pool, &parts->catalogue, &SystemClock::Get(),
                                      /*progress=*/nullptr, /*warm_up=*/false, /*on_adapter=*/{}}));
  parts->registry = std::make_unique<StaticRegistry>(
      std::vector<std::shared_ptr<const ServedModel>>{parts->model->served()});
  ServiceParts service;
  service.config = &parts->live;
  service.access = parts->access.get();
  service.version = PENSTOCK_VERSION;
  service.models = parts->registry.get();
  service.loop = &parts->text;
  service.clock = &SystemClock::Get();
  service.catalogue = &parts->catalogue;
  parts->service = std::make_unique<GenerationService>(std::move(service));
  return std::unique_ptr<LocalTalk>(new LocalTalk(std::move(parts)));
}

bool LocalTalk::chats() const { return parts_->model->served()->chat_template != nullptr; }
const std::string& LocalTalk::name() const { return parts_->model->served()->name; }

absl::StatusOr<TalkEnd> LocalTalk::Answer(const std::vector<TalkMessage>& messages,
                                          const TalkSampling& sampling, const TakeFn& take,
                                          const std::function<bool()>& stops) {
  const absl::Time began = SystemClock::Get().Now();
  GenerationCall call;
  call.request_id = "run";
  call.protocol = "terminal";
  call.arrival = began;
  call.stream = true;
  call.chat = chats();
  if (call.chat) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const TalkMessage& message : messages)
      all.push_back({{"role", message.role}, {"content", message.content}});
    call.messages = std::make_shared<const nlohmann::ordered_json>(std::move(all));
    call.splits_reply = true;
  } else {
    PromptInput prompt;
    prompt.text = messages.back().content;
    call.prompts.push_back(std::move(prompt));
  }
  call.temperature = sampling.temperature;
  call.top_p = sampling.top_p;
  call.top_k = sampling.top_k;
  call.seed = sampling.seed;
  call.max_tokens = sampling.max_tokens;
  call.ignore_eos = sampling.ignore_eos;
  const auto sink = std::make_shared<TalkSink>();
  ASSIGN_OR_RETURN(const std::shared_ptr<RunningCall> running,
                   parts_->service->Start(std::move(call), sink));
  TalkEnd out;
  std::vector<TalkSink::Piece> pieces;
  for (bool ended = false; !ended;) {
    ended = sink->Take(pieces);
    for (const TalkSink::Piece& piece : pieces) {
      if (!out.was_stopped) take(piece.text, piece.is_reasoning);
    }
    if (!ended && !out.was_stopped && stops()) {
      out.was_stopped = true;
      running->Cancel(CancelReason::kDisconnect);
    }
  }
  if (sink->end().error && !out.was_stopped)
    return absl::Status(sink->end().error->code, sink->end().error->message);
  out.prompt_tokens = sink->end().usage.prompt_tokens;
  out.completion_tokens = sink->end().usage.completion_tokens;
  out.seconds = absl::ToDoubleSeconds(SystemClock::Get().Now() - began);
  if (sink->first()) out.first_token_seconds = absl::ToDoubleSeconds(*sink->first() - began);
  out.was_cut = sink->finish() == FinishReason::kLength;
  return out;
}

}  // namespace penstock
