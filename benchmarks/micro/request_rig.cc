#include "request_rig.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/thread_cpu.h"
#include "text/tokenizer_loader.h"

namespace penstock {
namespace {

constexpr char kKey[] = "a-key-that-clients-share";

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

double Micros(const timeval& time) {
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
}

/// Of all threads but this one.
FrontCost OthersCpu() {
  rusage all{}, own{};
  getrusage(RUSAGE_SELF, &all);
  getrusage(RUSAGE_THREAD, &own);
  return {Micros(all.ru_utime) - Micros(own.ru_utime), Micros(all.ru_stime) - Micros(own.ru_stime)};
}

GuardEntry Guard(const std::string& use) {
  GuardEntry guard;
  guard.use = use;
  guard.max_tokens = 100'000;
  guard.max_prompt = 1'000'000;
  guard.where = "prompt";  // a filter of answers holds tokens back
  guard.system = "Be kind.";
  for (int i = 0; i < 50; ++i) guard.words.push_back(absl::StrCat("forbidden", i));
  guard.patterns = {"[0-9]{3}-[0-9]{4}", "[a-z]+@[a-z]+\\.com"};
  return guard;
}

}  // namespace

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::Status StepEngine::Submit(RequestId, GenerateRequest request,
                                std::shared_ptr<TokenSink> sink) {
  const std::lock_guard lock(mutex_);
  live_.push_back({std::move(sink), std::move(request), 0});
  return absl::OkStatus();
}

size_t StepEngine::num_live() {
  const std::lock_guard lock(mutex_);
  return live_.size();
}

void StepEngine::Step() {
  std::vector<Live> live;
  {
    const std::lock_guard lock(mutex_);
    live.swap(live_);
  }
  for (Live& one : live) {
    SampledToken token;
    token.id = words_[one.given++ % words_.size()];
    one.sink->OnTokens({&token, 1});
    if (one.given < one.request.max_tokens) {
      const std::lock_guard lock(mutex_);
      live_.push_back(std::move(one));
      continue;
    }
    Usage usage;
    usage.prompt_tokens = static_cast<int32_t>(one.request.prompt.size());
    usage.completion_tokens = one.given;
    one.sink->OnDone(FinishReason::kLength, usage, absl::OkStatus());
  }
}

absl::StatusOr<std::unique_ptr<RequestRig>> RequestRig::Make(const std::string& dir,
                                                             const std::string& text_file) {
  std::unique_ptr<RequestRig> rig(new RequestRig());
  rig->text_ = ReadAll(text_file);
  if (rig->text_.size() < 100'000)
    return absl::InvalidArgumentError(absl::StrCat(text_file, ": 100 KB of text are needed"));
  ASSIGN_OR_RETURN(rig->tokenizer_, LoadTokenizer(dir + "/tokenizer.json"));
  rig->engine_.set_words(rig->tokenizer_->Encode(
      " the house by the sea was old and nobody had come to see it in years", false));
  const auto config =
      nlohmann::json::parse(ReadAll(dir + "/tokenizer_config.json"), nullptr, false);
  ASSIGN_OR_RETURN(rig->templates_, LoadChatTemplates(dir, config, ""));
  if (rig->templates_.plain == nullptr)
    return absl::InvalidArgumentError(absl::StrCat(dir, " has no chat template"));
  constexpr int kContext = 1 << 20;
  rig->metrics_ = rig->catalogue_.MakeRequestMetrics("demo", kContext);
  auto model = std::make_shared<ServedModel>();
  model->name = "demo";
  model->engine = &rig->engine_;
  model->tokenizer = rig->tokenizer_.get();
  model->chat_template = rig->templates_.plain.get();
  model->metrics = &rig->metrics_;
  model->max_context = kContext;
  model->vocab_size = 1 << 20;
  rig->model_ = model;
  rig->registry_ =
      std::make_unique<StaticRegistry>(std::vector<std::shared_ptr<const ServedModel>>{model});

  rig->rules_.rpm.value = rig->rules_.tpm.value = rig->rules_.budget_tokens.value = 1'000'000'000;
  rig->rules_.parallel = 1000;
  ServerConfig with;
  with.auth.api_keys = {kKey};
  with.tenants["*"] = rig->rules_;
  for (const char* use : {"schema", "limit", "template", "ban"}) {
    with.guards[use] = Guard(use);
    with.chain.emplace_back(use);
  }
  ASSIGN_OR_RETURN(rig->chain_, ChainSet::Make(with, &rig->catalogue_, nullptr));
  rig->config_.Set(with);
  ASSIGN_OR_RETURN(auto rules, MakeAccessRules(with));
  rig->access_ = std::make_unique<AccessControl>(std::move(rules));
  rig->limits_ = std::make_shared<TenantLimits>(&SystemClock::Get());
  return rig;
}

RequestRig::~RequestRig() {
  clients_.clear();
  if (server_ != nullptr) server_->Drain(absl::ZeroDuration());
  if (loop_ != nullptr) loop_->Stop();
}

AccessControl::Found RequestRig::Admit() const {
  const std::string credential = absl::StrCat("Bearer ", kKey);
  Caller caller;
  caller.credential = credential;
  caller.address = *IpAddress::Parse("127.0.0.1");
  return access_->Admit(caller, RouteAccess::Needs(Permission::kInfer), "/v1/chat/completions");
}

void RequestRig::PassChain(GenerationCall& call) {
  Tags tags;
  for (const std::shared_ptr<ChainLink>& link : chain_->For("t")) {
    LinkView view;
    view.call = &call;
    view.tags = &tags;
    if (!link->OnCall(view).passed()) std::abort();
  }
}

std::string RequestRig::Piece(int number, size_t size) const {
  const size_t begin = static_cast<size_t>(number) * 7919 % (text_.size() - size - 8);
  std::string piece = text_.substr(begin, size);
  for (char& c : piece) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '-';  // a cut may part a character
  }
  return piece;
}

std::string RequestRig::Body(int number, size_t size, bool stream, int max_tokens) const {
  nlohmann::ordered_json body;
  body["messages"] = {{{"role", "user"}, {"content", Piece(number, size)}}};
  body["model"] = "demo";
  body["max_tokens"] = max_tokens;
  body["temperature"] = 0.7;
  body["top_p"] = 0.95;
  body["stream"] = stream;
  return body.dump();
}

void RequestRig::Serve(bool chained) {
  clients_.clear();
  if (server_ != nullptr) server_->Drain(absl::ZeroDuration());
  if (loop_ != nullptr) loop_->Stop();
  ServerConfig config = *config_.Get();
  if (!chained) config.tenants.clear();
  config_.Set(std::move(config));
  chains_.Set(chained ? chain_ : nullptr);
  loop_ = std::make_unique<TextLoop>(2, 1024);
  ServiceParts parts;
  parts.config = &config_;
  parts.access = access_.get();
  parts.models = registry_.get();
  parts.chains = &chains_;
  parts.loop = loop_.get();
  parts.clock = &SystemClock::Get();
  parts.catalogue = &catalogue_;
  service_ = std::make_unique<GenerationService>(std::move(parts));
  router_ = std::make_unique<Router>(access_.get(), &catalogue_);
  AddOpenAiRoutes(*router_, *service_,
                  std::make_shared<IdempotencyStore>(&config_, &SystemClock::Get()));
  HttpServerOptions options;
  options.address = "127.0.0.1:0";
  options.config = &config_;
  options.clock = &SystemClock::Get();
  options.on_answer = [this](int code) { catalogue_.CountRequest(code); };
  auto server = HttpServer::Bind(std::move(options));
  if (!server.ok() || !(*server)->Serve(router_.get()).ok()) std::abort();
  server_ = *std::move(server);
}

/// One request of each client, side by side.
void RequestRig::Ask(size_t size, int tokens, bool stream) {
  const std::string headers = absl::StrCat(
      "Accept: application/json\r\nContent-Type: application/json\r\n"
      "User-Agent: OpenAI/Python 1.50.0\r\nX-Stainless-Lang: python\r\n"
      "X-Stainless-Package-Version: 1.50.0\r\nX-Stainless-OS: Linux\r\n"
      "X-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n"
      "X-Stainless-Retry-Count: 0\r\nAuthorization: Bearer ",
      kKey, "\r\n");
  for (const auto& client : clients_) {
    const std::string body = Body(number_++, size, stream, tokens);
    client->Send(HttpClient::PostText("/v1/chat/completions", body, headers));
  }
  while (engine_.num_live() < clients_.size()) std::this_thread::yield();
  for (int i = 0; i < tokens; ++i) {
    std::vector<size_t> seen;
    for (const auto& client : clients_) seen.push_back(client->buffer().size());
    engine_.Step();
    // One event per step, as from an engine that takes its time.
    for (size_t k = 0; stream && k < clients_.size(); ++k) {
      while (clients_[k]->buffer().find("data: ", seen[k]) == std::string::npos) {
        if (!clients_[k]->Fill()) std::abort();
      }
    }
  }
  for (const auto& client : clients_) {
    if (client->Read().status != 200) std::abort();
  }
}

FrontCost RequestRig::Whole(size_t size, int tokens, bool stream, int clients) {
  constexpr int kRounds = 9, kRequests = 96;
  clients_.clear();
  for (int i = 0; i < clients; ++i)
    clients_.push_back(std::make_unique<HttpClient>(server_->port()));
  std::vector<double> user, kernel;
  for (int round = 0; round <= kRounds; ++round) {
    const FrontCost before = OthersCpu();
    for (int i = 0; i < kRequests; i += clients) Ask(size, tokens, stream);
    const FrontCost after = OthersCpu();
    if (round == 0) continue;  // warms up
    user.push_back((after.user - before.user) / kRequests);
    kernel.push_back((after.kernel - before.kernel) / kRequests);
  }
  return {Median(std::move(user)), Median(std::move(kernel))};
}

}  // namespace penstock
