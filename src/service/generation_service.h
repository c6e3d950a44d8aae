// What every front end calls: admits a call, turns its prompt into tokens, hands it to an engine,
// streams the answer.
// Owns nothing that lives longer than a call. Must not know JSON, protobuf or sockets.
// Threads: thread-safe; Start, Tokenize and RenderPrompt take long for long texts: on a text worker
// only.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "access/access_control.h"
#include "base/clock.h"
#include "base/live.h"
#include "chain/chain_set.h"
#include "penstock/config.h"
#include "penstock/service.h"
#include "service/embedding_stream.h"
#include "service/operator_act.h"
#include "service/response_stream.h"
#include "service/tenant_policy.h"
#include "service/text_loop.h"

namespace penstock {

class AdapterRegistry;
class RecentErrors;
class Catalogue;
class ChainCall;
struct KeptAnswer;
using ChainSetPtr = std::shared_ptr<const ChainSet>;

/// What the service is doing, in this order.
enum class ServingPhase : uint8_t {
  kServing,
  kAnnouncing,  // not ready any more, but still taking calls
  kDraining,    // refusing them
  kFailed,      // an engine has failed or stands still
};

/// What the service works with; all of it outlives the service and its calls.
struct ServiceParts {
  const Live<ServerConfig>* config = nullptr;  // limits and the like, as they are now
  const AccessControl* access = nullptr;
  std::string version;
  const ModelRegistry* models = nullptr;
  const Live<ChainSetPtr>* chains = nullptr;  // null: there are none
  const AdapterRegistry* adapters = nullptr;  // `models`, where it has adapters
  TextLoop* loop = nullptr;
  const Clock* clock = nullptr;                     // the engines' own
  Catalogue* catalogue = nullptr;                   // null: nothing is counted
  RequestLog* log = nullptr;                        // null: nothing is logged
  const RecentErrors* errors = nullptr;             // what `log` told it; null: none are kept
  std::shared_ptr<UsageBook> usage;                 // null: what tenants use is not counted
  std::shared_ptr<SharedLimitsLoop> shared_limits;  // null: limits are this server's own
  std::function<void(const OperatorAct&)> on_act;   // null: nobody keeps a record of them
  std::function<bool()> audit_blocks;  // requests could not be recorded; null: they always can
};

class GenerationService {
 public:
  explicit GenerationService(ServiceParts parts);

  const AccessControl& access() const { return *parts_.access; }
  /// NOT_FOUND for a name that is unknown, or not for `caller`; without a name the only model, or
  /// INVALID_ARGUMENT where there are several.
  absl::StatusOr<std::shared_ptr<const ServedModel>> FindModel(
      const std::optional<std::string>& name, const PrincipalPtr& caller) const;
  /// The same to submit requests to: loads an adapter, which takes long.
  absl::StatusOr<std::shared_ptr<const ServedModel>> FindToServe(
      const std::optional<std::string>& name, const PrincipalPtr& caller) const;
  /// The same of a call's model, once for the name that it has.
  absl::StatusOr<std::shared_ptr<const ServedModel>> FindToServe(GenerationCall& call) const {
    return Found(call, TenantPolicy(parts_.config->Get(), call.principal));
  }

  /// Whether the caller's tenant may use the model that it calls `name`.
  bool MayUse(const PrincipalPtr& caller, const ServedModel& model, std::string_view name) const {
    return TenantPolicy(parts_.config->Get(), caller).MayUse(&model, name);
  }

  /// Validates and submits. After OK the sink got OnStart and gets the rest; after an error it
  /// hears nothing.
  absl::StatusOr<std::shared_ptr<RunningCall>> Start(GenerationCall call,
                                                     std::shared_ptr<ResponseSink> sink);
  /// The same of embeddings and reranking. After OK `done` is called once, on a text worker; after
  /// an error never.
  absl::StatusOr<std::shared_ptr<EmbeddingStream>> StartEmbedding(EmbeddingCall call,
                                                                  EmbeddingDone done);
  /// To be told of what operators do, by whoever lets them; may be kept, and may be empty.
  const std::function<void(const OperatorAct&)>& on_act() const { return parts_.on_act; }
  /// Logs and counts a call that Start (or its codec) refused.
  void RecordRefusal(const GenerationCall& call, const absl::Status& status) const;

  /// The tokens that a call's prompt or chat has.
  absl::StatusOr<std::vector<TokenId>> Tokenize(const GenerationCall& call,
                                                const ServedModel& model) const;
  /// `field`: as the client knows the ids.
  absl::StatusOr<std::string> Detokenize(const std::vector<TokenId>& ids, const ServedModel& model,
                                         std::string_view field = "tokens") const;

  /// OK while new calls are taken; otherwise UNAVAILABLE says why.
  absl::Status Ready() const;
  /// When it returns, calls of the phase before have all their choices with the engine, or none.
  void set_phase(ServingPhase phase);
  ServingPhase phase() const { return phase_; }

  const Live<ServerConfig>& config() const { return *parts_.config; }
  const std::string& version() const { return parts_.version; }
  const ModelRegistry& models() const { return *parts_.models; }
  const AdapterRegistry* adapters() const { return parts_.adapters; }  // null: there are none
  TextLoop& loop() const { return *parts_.loop; }
  const Clock& clock() const { return *parts_.clock; }
  Catalogue* catalogue() const { return parts_.catalogue; }
  const RecentErrors* errors() const { return parts_.errors; }  // null: none are kept

 private:
  absl::StatusOr<std::shared_ptr<const ServedModel>> Named(const std::optional<std::string>& name,
                                                           const TenantPolicy& tenant,
                                                           bool to_serve) const;
  absl::StatusOr<std::shared_ptr<const ServedModel>> Found(GenerationCall& call,
                                                           const TenantPolicy& tenant) const;
  using Started = absl::StatusOr<std::shared_ptr<RunningCall>>;
  /// Through the chain, in service/start_call.cc. `tenant`: by the configuration that was in force
  /// when the call came, which it keeps.
  Started StartInChain(GenerationCall call, const TenantPolicy& tenant,
                       std::shared_ptr<ResponseSink> sink, std::shared_ptr<const ChainSet> chains);
  absl::StatusOr<std::shared_ptr<ResponseSink>> PassLinks(ChainCall& chain, GenerationCall& call,
                                                          const TenantPolicy& tenant,
                                                          std::shared_ptr<ResponseSink> sink,
                                                          std::shared_ptr<RunningCall>* answered);
  absl::Status AnswerAgain(const KeptAnswer& kept, const GenerationCall& call,
                           const TenantPolicy& tenant, ChainCall& chain,
                           std::shared_ptr<const ServedModel> model, ResponseSink& sink);
  /// On the call's model, or those that stand in for it. `log` null: the service's own.
  Started StartOnModels(const GenerationCall& call, const TenantPolicy& tenant,
                        std::shared_ptr<ResponseSink> sink, std::shared_ptr<RequestLog> log);
  /// On one model. `last`: no other follows. `engine_refused`: another model might take the call.
  Started StartOnce(GenerationCall call, const TenantPolicy& tenant,
                    std::shared_ptr<ResponseSink> sink, std::shared_ptr<RequestLog> log, bool last,
                    bool* engine_refused);
  static RequestRecord NewRecord(const GenerationCall& call);
  absl::Status CheckRoom(size_t num_prompts, int64_t n) const;
  absl::Status Submit(ResponseStream& stream, const GenerationCall& call,
                      std::vector<GenerateRequest> requests, int64_t n, Engine& engine);
  absl::Status CheckPatience(const GenerationCall& call, const TenantPolicy& tenant,
                             const Engine& engine) const;
  void SetDeadlines(const GenerationCall& call, GenerateRequest& request) const;

  const ServiceParts parts_;
  const std::shared_ptr<TenantLimits> limits_;  // calls may outlive the service
  /// UNAVAILABLE from kDraining on.
  absl::Status CheckOpen() const;

  std::atomic<ServingPhase> phase_{ServingPhase::kServing};
  std::shared_mutex submitting_;  // shared while the choices of one call are submitted
  std::atomic<uint64_t> next_id_{1};
};

}  // namespace penstock
