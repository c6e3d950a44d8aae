// Everything in front of an engine, with a real tokenizer, chat template, socket, key, limits and
// chain; the engine gives tokens when it is told to.
// Owns all of it. Must not know what is measured.
// Threads: confined to one, which is client and engine as well; the server has its own.
#pragma once

#include <sys/resource.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "access/access_control.h"
#include "api/http/http_server.h"
#include "api/openai/routes.h"
#include "chain/chain_set.h"
#include "fakes/http_client.h"
#include "metrics/catalogue.h"
#include "penstock/engine.h"
#include "service/generation_service.h"
#include "service/model_registry.h"
#include "service/tenant_limits.h"
#include "text/chat_template_files.h"

namespace penstock {

double Median(std::vector<double> values);

/// Gives every live request a token per step, up to max_tokens.
class StepEngine final : public Engine {
 public:
  absl::Status Submit(RequestId id, GenerateRequest request,
                      std::shared_ptr<TokenSink> sink) override;
  void Cancel(RequestId) override {}
  void Control(Command, DoneCallback done) override { done(absl::OkStatus()); }
  EngineLoad load() const override { return {}; }
  EngineInfo info() const override { return {}; }
  void Drain(absl::Duration) override {}
  /// What it says, over and over.
  void set_words(std::vector<TokenId> words) { words_ = std::move(words); }
  size_t num_live();
  void Step();

 private:
  struct Live {
    std::shared_ptr<TokenSink> sink;
    GenerateRequest request;
    int32_t given = 0;
  };
  std::vector<TokenId> words_;
  std::mutex mutex_;
  std::vector<Live> live_;  // guarded by mutex_
};

/// Microseconds of CPU of one request, of all threads but the client's and engine's.
struct FrontCost {
  double user = 0, kernel = 0;
  double total() const { return user + kernel; }
};

class RequestRig {
 public:
  static absl::StatusOr<std::unique_ptr<RequestRig>> Make(const std::string& dir,
                                                          const std::string& text_file);
  ~RequestRig();

  const ServedModel& model() const { return *model_; }
  TenantLimits& limits() { return *limits_; }
  const TenantEntry& rules() const { return rules_; }
  AccessControl::Found Admit() const;
  /// Through the links on the way in.
  void PassChain(GenerationCall& call);

  /// Another piece of the text for each `number`.
  std::string Piece(int number, size_t size) const;
  /// What a client sends for a chat of one message.
  std::string Body(int number, size_t size, bool stream, int max_tokens) const;

  /// From here on calls come by a socket, with limits and chain or without.
  void Serve(bool chained);
  /// Of requests that `clients` send at the same time, over and over.
  FrontCost Whole(size_t size, int tokens, bool stream, int clients);

 private:
  RequestRig() = default;
  void Ask(size_t size, int tokens, bool stream);

  std::string text_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ChatTemplates templates_;
  StepEngine engine_;
  std::shared_ptr<ServedModel> model_;
  Catalogue catalogue_{"bench"};
  RequestMetrics metrics_;
  TenantEntry rules_;
  std::shared_ptr<TenantLimits> limits_;
  std::shared_ptr<const ChainSet> chain_;
  Live<ServerConfig> config_{ServerConfig()};
  Live<ChainSetPtr> chains_{nullptr};
  std::unique_ptr<AccessControl> access_;
  std::unique_ptr<StaticRegistry> registry_;
  std::unique_ptr<TextLoop> loop_;
  std::unique_ptr<GenerationService> service_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<HttpServer> server_;
  std::vector<std::unique_ptr<HttpClient>> clients_;
  int number_ = 0;
};

}  // namespace penstock
