#include "server/server.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "api/admin/routes.h"
#include "api/anthropic/routes.h"
#include "api/http/http_server.h"
#include "api/http/listen_socket.h"
#include "api/http/router.h"
#include "api/openai/routes.h"
#include "backend/make_backend.h"
#include "base/clock.h"
#include "base/cpu_parts.h"
#include "base/machine.h"
#include "base/placement.h"
#include "base/status_macros.h"
#include "base/worker_pool.h"
#include "chain/chain_set.h"
#include "config/config_diff.h"
#include "metrics/nvml.h"
#include "metrics/xid.h"
#include "server/access_parts.h"
#include "server/account_parts.h"
#include "server/alias_parts.h"
#include "server/audit_events.h"
#include "server/boot_routes.h"
#include "server/gpu_loop.h"
#include "server/grpc_listener.h"
#include "server/logging.h"
#include "server/model_instance.h"
#include "server/model_source.h"
#include "server/stall_watch.h"
#include "server/tenant_counts.h"
#include "server/trace_loop.h"
#include "service/adapter_registry.h"
#include "service/generation_service.h"
#include "service/recent_errors.h"
#include "service/text_loop.h"

namespace penstock {
namespace {

constexpr size_t kMaxWaitingCalls = 4096;  // requests whose JSON nobody has read yet
constexpr int kMaxTextThreads = 4;
constexpr absl::Duration kGpuPeriod = absl::Seconds(10);  // within it a GPU's fault is in the log

/// Compute threads of the process: what any model asks for, else one for each of `cpus`, else what
/// the cgroup allows.
int ComputeThreads(const ServerConfig& config, const std::vector<int>& cpus) {
  int threads = 0;
  for (const auto& [name, model] : config.models) threads = std::max(threads, model.engine.threads);
  if (threads > 0) return threads;
  return cpus.empty() ? AllowedCpus() : static_cast<int>(cpus.size());
}

void LogXid(const GpuFigures& gpu, int64_t xid, int64_t times) {
  const XidMeaning meaning = MeaningOfXid(xid);
  Log(LogLevel::kError, "a GPU's driver reports a fault (Xid)",
      {{"gpu", gpu.index},
       {"uuid", gpu.uuid},
       {"xid", xid},
       {"times", times},
       {"what", std::string(meaning.what)},
       {"what_to_do", std::string(meaning.what_to_do)}});
}

/// Before anything is allocated or started. The CPUs of compute threads; empty: any.
absl::StatusOr<std::vector<int>> Place(const ServerSection& server) {
  if (server.numa == "interleave") {
    const absl::StatusOr<int> nodes = InterleaveMemory();
    if (!nodes.ok()) {
      return absl::FailedPreconditionError(absl::StrCat("server.numa: ", nodes.status().message()));
    }
    Log(LogLevel::kInfo, "memory is spread over NUMA nodes", {{"nodes", int64_t{*nodes}}});
  }
  if (server.compute_cpus.empty()) return std::vector<int>();
  absl::StatusOr<std::vector<int>> cpus = ParseCpuList(server.compute_cpus);
  if (cpus.ok()) return cpus;
  return absl::InvalidArgumentError(absl::StrCat("server.compute_cpus: ", cpus.status().message()));
}

void LogGuard(std::string_view guard, std::string_view message) {
  Log(LogLevel::kWarn, "a guard of the chain: " + std::string(message),
      {{"guard", std::string(guard)}});
}

absl::Status WriteReadyFile(const std::string& path, int http_port, int grpc_port, int agent_port) {
  if (path.empty()) return absl::OkStatus();
  const std::string partial = path + ".partial";
  std::ofstream out(partial);
  out << "{\"http\": " << http_port << ", \"grpc\": " << grpc_port
      << ", \"agent_check\": " << agent_port << "}\n";
  out.close();
  std::error_code error;
  std::filesystem::rename(partial, path, error);  // whoever waits for it never sees half of it
  if (!out || error)
    return absl::UnavailableError(absl::StrCat("server.ready_file: ", path, " cannot be written"));
  return absl::OkStatus();
}

}  // namespace

/// In the order of construction; what is below may use what is above.
struct Server::Parts {
  Parts(ServerConfig c, ReadConfigFn read_again, const std::vector<int>& cpus)
      : config(std::move(c)),
        live(config),
        catalogue(PENSTOCK_VERSION),
        reload(
            std::move(read_again), [this](const ServerConfig& fresh) { return Take(fresh); }, &live,
            &catalogue),
        tenants(&catalogue, &live),
        pool(ComputeThreads(config, cpus), cpus),
        text(config.server.text_threads > 0 ? config.server.text_threads
                                            : std::min(kMaxTextThreads, std::max(2, AllowedCpus())),
             kMaxWaitingCalls, &cpu) {
    if (config.observe.legacy_names) catalogue.EmitLegacyNames();
    catalogue.SetFrontCpu(&cpu);
  }

  absl::Status MakeChain();
  absl::Status Take(const ServerConfig& fresh);
  HttpServerOptions ListenerOptions(const std::string& address, const TlsFiles* tls);
  absl::Status BindAdmin();
  absl::Status ServeAdmin();
  absl::Status StartHttp();
  std::string AgentLine() const;
  void ReportKernels();
  absl::Status LoadModels();
  void SetPhase(ServingPhase phase);
  void WatchGpus();
  absl::Status Serve();
  absl::Status Reload(const std::string& cause);

  const ServerConfig config;  // as it was at the start: for what only a restart changes
  Live<ServerConfig> live;
  CpuParts cpu;
  Catalogue catalogue;
  std::unique_ptr<AccountParts> accounts;
  std::unique_ptr<AccessParts> access;
  Live<ChainSetPtr> chains{nullptr};
  ConfigReload reload;
  AuditedRequests log;
  std::unique_ptr<TraceLoop> traces;  // null: nobody collects them
  RecentErrors errors;
  TenantCounts tenants;
  RequestLogs logs;  // of all of them
  WorkerPool pool;
  std::vector<std::unique_ptr<ModelInstance>> models;
  std::unique_ptr<GpuLoop> gpus;  // null: no GPU serves
  TextLoop text;
  std::unique_ptr<AdapterRegistry> registry;
  std::unique_ptr<AliasParts> aliases;
  std::unique_ptr<GenerationService> service;
  BootProgress progress{&SystemClock::Get()};
  std::unique_ptr<Router> boot_router;
  std::unique_ptr<Router> router;
  std::atomic<bool> serving{false};  // `service` is there
  StallWatch stalls;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<GrpcListener> grpc;
  std::unique_ptr<Router> admin_router;
  std::vector<std::unique_ptr<HttpServer>> admin_listeners;
};

absl::Status Server::Parts::MakeChain() {
  ASSIGN_OR_RETURN(ChainSetPtr made, ChainSet::Make(config, &catalogue, nullptr, LogGuard));
  chains.Set(std::move(made));
  return absl::OkStatus();
}

/// What follows from a changed configuration: all of it, or nothing.
absl::Status Server::Parts::Take(const ServerConfig& fresh) {
  const ChainSetPtr old = *chains.Get();
  ASSIGN_OR_RETURN(ChainSetPtr made, ChainSet::Make(fresh, &catalogue, old.get(), LogGuard));
  std::map<std::string, std::vector<std::string>> aliases;
  for (const auto& [name, model] : fresh.models) aliases[name] = model.aliases;
  RETURN_IF_ERROR(access->Reconfigure(fresh));
  chains.Set(std::move(made));
  if (serving) registry->SetAliases(aliases);
  return absl::OkStatus();
}

HttpServerOptions Server::Parts::ListenerOptions(const std::string& address, const TlsFiles* tls) {
  HttpServerOptions options;
  options.address = address;
  options.config = &live;
  if (tls != nullptr) options.tls = [tls] { return tls->current(); };
  options.clock = &SystemClock::Get();
  options.cpu = &cpu;
  return options;
}

absl::Status Server::Parts::BindAdmin() {
  const AdminListener& admin = config.server.admin;
  for (const auto& [address, tls] :
       {std::pair(admin.unix_path.empty() ? "" : kUnixPrefix + admin.unix_path,
                  static_cast<const TlsFiles*>(nullptr)),
        {admin.http, access->admin_tls()}}) {
    if (address.empty()) continue;
    ASSIGN_OR_RETURN(std::unique_ptr<HttpServer> listener,
                     HttpServer::Bind(ListenerOptions(address, tls)));
    admin_listeners.push_back(std::move(listener));
  }
  return absl::OkStatus();
}

absl::Status Server::Parts::ServeAdmin() {
  admin_router = std::make_unique<Router>(&access->control());
  AddAdminRoutes(*admin_router, *service, {access->keys(), [this] { access->CheckFilesNow(); }});
  AddAliasRoutes(*admin_router, *service, aliases->book());
  AddLedgerRoutes(*admin_router, *service, {config.server.state_dir, accounts->usage()});
  ServerControls controls;
  controls.reload = [this] { return Reload("admin"); };
  controls.drain = [] { kill(getpid(), SIGTERM); };
  AddServerRoutes(*admin_router, *service, std::move(controls));
  for (const auto& listener : admin_listeners) RETURN_IF_ERROR(listener->Serve(admin_router.get()));
  return absl::OkStatus();
}

/// The port answers from here on; what it says until the models are there is that they are not.
absl::Status Server::Parts::StartHttp() {
  const std::string& address = config.server.public_listener.http;
  if (address.empty()) return absl::OkStatus();
  HttpServerOptions options = ListenerOptions(address, access->tls());
  options.num_threads = config.server.io_threads;
  options.cross_origin = true;
  options.check_host = true;
  options.on_answer = [this](int code) { catalogue.CountRequest(code); };
  ASSIGN_OR_RETURN(http, HttpServer::Bind(std::move(options)));
  if (!config.server.agent_check.empty()) {
    RETURN_IF_ERROR(
        http->AddLineListener(config.server.agent_check, [this] { return AgentLine(); }));
  }
  progress.Begin(config.models.empty() ? "" : config.models.begin()->first, 0,
                 config.models.size());
  boot_router = std::make_unique<Router>(&access->control(), &catalogue);
  AddBootRoutes(*boot_router, progress, &catalogue);
  if (config.server.page) AddStartPage(*boot_router);
  return http->Serve(boot_router.get());
}

/// As HAProxy's agent-check reads it.
std::string Server::Parts::AgentLine() const {
  if (!serving) return "down #loading\n";
  switch (service->phase()) {
    case ServingPhase::kServing: {
      // What is waiting too: here turns, priorities and patience are kept, in a proxy's queue not.
      int64_t most = 0;
      for (const auto& [name, model] : config.models)
        most += model.engine.max_batch + model.engine.max_queue;
      return absl::StrCat("up ready maxconn:", most, "\n");
    }
    case ServingPhase::kAnnouncing:
    case ServingPhase::kDraining:
      return "drain\n";
    case ServingPhase::kFailed:
      break;
  }
  return "down #failed\n";
}

/// How fast each kind of product is in each instruction set of the processor, once per process.
void Server::Parts::ReportKernels() {
  std::string plain, bf16, codes, integers;
  for (const CpuKernelSpeed& set : CpuKernelSpeeds()) {
    catalogue.SetKernelSelfTest(set.name, !set.agrees);
    if (!set.agrees) continue;
    const auto add = [&](std::string& text, double gops) {
      absl::StrAppend(&text, text.empty() ? "" : ", ", set.name, " ", std::llround(gops));
    };
    add(plain, set.plain_gops);
    if (set.bf16_gops > 0) add(bf16, set.bf16_gops);
    add(codes, set.codes_gops);
    add(integers, set.integers_gops);
  }
  Log(LogLevel::kInfo, "cpu kernels, GOP/s of one thread",
      {{"plain", plain}, {"bfloat16", bf16}, {"codes", codes}, {"integers", integers}});
}

absl::Status Server::Parts::LoadModels() {
  const bool on_cpu = std::any_of(
      config.models.begin(), config.models.end(),
      [](const auto& model) { return !model.second.engine.device.starts_with("cuda"); });
  if (on_cpu) ReportKernels();
  std::vector<std::shared_ptr<const ServedModel>> served;
  std::vector<std::shared_ptr<AdapterPool>> adapters;
  for (const auto& [name, entry] : config.models) {
    progress.Begin(name, models.size(), config.models.size());
    InstanceParts parts{&pool, &catalogue, &SystemClock::Get(), &progress, true, nullptr};
    if (AuditLoop* const audit = accounts->audit(); audit != nullptr) {
      const auto files = ResolveModel(entry.path, HubOptionsFromEnvironment());
      AuditModel(*audit, "loaded", name, "", files.ok() ? *files : "");
      parts.on_adapter = [audit](std::string_view what, const std::string& model,
                                 std::string_view adapter, std::string_view dir) {
        const bool came = what == "adapter loaded";
        AuditModel(*audit, what.substr(what.find(' ') + 1), model, adapter,
                   came ? std::string(dir) : "");
      };
    }
    ASSIGN_OR_RETURN(std::unique_ptr<ModelInstance> instance,
                     ModelInstance::Load(name, entry, parts));
    served.push_back(instance->served());
    if (instance->adapters() != nullptr) adapters.push_back(instance->adapters());
    models.push_back(std::move(instance));
  }
  registry = std::make_unique<AdapterRegistry>(std::move(served), std::move(adapters));
  aliases = AliasParts::Open(config, registry.get(), &catalogue, accounts->audit());
  return absl::OkStatus();
}

void Server::Parts::WatchGpus() {
  const std::vector<std::string> in_use = GpusInUse();
  if (in_use.empty()) return;
  const auto log = [](const std::string& why) {
    Log(LogLevel::kWarn, "no metrics of GPUs", {{"error", why}});
  };
  gpus = std::make_unique<GpuLoop>(
      [in_use, log]() -> absl::StatusOr<GpuLoop::Read> {
        ASSIGN_OR_RETURN(const std::shared_ptr<NvmlReader> reader,
                         NvmlReader::Open(in_use, kNvmlLibrary, LogXid));
        if (!reader->note().empty()) log(reader->note());
        return [reader] { return reader->Read(); };
      },
      [log](const absl::Status& status) { log(std::string(status.message())); }, kGpuPeriod);
  catalogue.SetGpus([this] { return gpus->Get(); });
}

absl::Status Server::Parts::Serve() {
  ServiceParts parts;
  parts.config = &live;
  parts.access = &access->control();
  parts.version = PENSTOCK_VERSION;
  parts.models = registry.get();
  parts.chains = &chains;
  parts.adapters = registry.get();
  parts.loop = &text;
  parts.clock = &SystemClock::Get();
  parts.catalogue = &catalogue;
  log.set_audit(accounts->audit());
  logs.Add(&log);
  logs.Add(&errors);
  logs.Add(&tenants);
  const TraceMetrics spans = catalogue.MakeTraceMetrics();
  if (!config.observe.otlp.empty()) {
    traces = std::make_unique<TraceLoop>(&live, PENSTOCK_VERSION, spans);
    logs.Add(traces.get());
  }
  parts.log = &logs;
  parts.errors = &errors;
  parts.usage = accounts->usage();
  parts.shared_limits = accounts->shared_limits();
  parts.audit_blocks = [this] { return accounts->audit_blocks(); };
  if (AuditLoop* const audit = accounts->audit(); audit != nullptr)
    parts.on_act = [audit](const OperatorAct& act) { AuditAct(*audit, act); };
  service = std::make_unique<GenerationService>(std::move(parts));
  router = std::make_unique<Router>(&access->control(), &catalogue);
  const auto answers = std::make_shared<IdempotencyStore>(&live, &SystemClock::Get());
  AddOpenAiRoutes(*router, *service, answers);
  AddAnthropicRoutes(*router, *service, answers);
  ASSIGN_OR_RETURN(grpc, GrpcListener::Start(config, service.get(), access->tls()));
  RETURN_IF_ERROR(ServeAdmin());
  serving = true;
  if (http != nullptr) http->SetRouter(router.get());
  return absl::OkStatus();
}

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Server::~Server() = default;

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerConfig config,
                                                      ReadConfigFn read_again) {
  ASSIGN_OR_RETURN(const std::vector<int> cpus, Place(config.server));
  auto parts = std::make_unique<Parts>(std::move(config), std::move(read_again), cpus);
  ASSIGN_OR_RETURN(parts->accounts, AccountParts::Open(&parts->live, &parts->catalogue));
  ASSIGN_OR_RETURN(parts->access,
                   AccessParts::Open(parts->config, &parts->catalogue, parts->accounts->audit()));
  RETURN_IF_ERROR(parts->MakeChain());
  RETURN_IF_ERROR(parts->BindAdmin());
  RETURN_IF_ERROR(parts->StartHttp());
  RETURN_IF_ERROR(parts->LoadModels());
  parts->WatchGpus();
  RETURN_IF_ERROR(parts->Serve());
  auto server = std::unique_ptr<Server>(new Server(std::move(parts)));
  RETURN_IF_ERROR(WriteReadyFile(server->parts_->config.server.ready_file, server->http_port(),
                                 server->grpc_port(), server->agent_port()));
  std::vector<LogField> fields;
  if (server->http_port() > 0) fields.push_back({"http_port", int64_t{server->http_port()}});
  if (server->grpc_port() > 0) fields.push_back({"grpc_port", int64_t{server->grpc_port()}});
  Log(LogLevel::kInfo, "serving", fields);
  return server;
}

void Server::Parts::SetPhase(ServingPhase phase) {
  service->set_phase(phase);
  if (grpc != nullptr) grpc->UpdateHealth();
}

void Server::Announce() { parts_->SetPhase(ServingPhase::kAnnouncing); }

absl::Status Server::CheckEngines() {
  Parts& p = *parts_;
  const absl::Duration most = p.live.Get()->limits.stall;
  absl::Status status;
  for (const auto& model : p.models) {
    const std::string& name = model->served()->name;
    const EngineLoad load = model->engine().load();
    if (!load.healthy) {
      status = absl::UnavailableError(
          absl::StrCat(name, ": the engine has failed: ", model->engine().fault().message()));
    }
    const absl::Duration stalled = p.stalls.Observe(name, load, SystemClock::Get().Now());
    if (most <= absl::ZeroDuration() || stalled <= most) continue;
    status = absl::UnavailableError(absl::StrCat(
        name, ": no step for ", absl::FormatDuration(absl::Trunc(stalled, absl::Seconds(1))),
        " with ", load.num_running, " running and ", load.num_waiting, " waiting (limits.stall)"));
  }
  if (!status.ok()) p.service->set_phase(ServingPhase::kFailed);
  if (p.grpc != nullptr) p.grpc->UpdateHealth();  // names come and go with reloads and adapters
  return status;
}

void Server::Drain() {
  Parts& p = *parts_;
  const absl::Time end = SystemClock::Get().Now() + p.live.Get()->drain.finish;
  p.SetPhase(ServingPhase::kDraining);
  if (p.accounts->audit() != nullptr) AuditDrain(*p.accounts->audit(), "told to end");
  if (p.http != nullptr) p.http->CloseAfterAnswers();
  for (const auto& model : p.models) {
    model->engine().Drain(std::max(absl::ZeroDuration(), end - SystemClock::Get().Now()));
  }
  constexpr absl::Duration kLastBytes =
      absl::Seconds(5);  // for answers that are complete but not yet sent
  if (p.grpc != nullptr) p.grpc->Stop(kLastBytes);
  if (p.http != nullptr) p.http->Drain(kLastBytes);
  for (const auto& listener : p.admin_listeners) listener->Drain(absl::Seconds(1));
  p.text.Stop();
}

absl::Status Server::Parts::Reload(const std::string& cause) {
  const std::shared_ptr<const ServerConfig> before = live.Get();
  const absl::Status status = reload.Reload(cause);
  if (accounts->audit() != nullptr) {
    AuditReload(*accounts->audit(), cause, status, ConfigHash(*live.Get()));
    if (status.ok()) AuditAliases(*accounts->audit(), *before, *live.Get());
  }
  return status;
}

absl::Status Server::Reload(const std::string& cause) { return parts_->Reload(cause); }
std::shared_ptr<const ServerConfig> Server::config() const { return parts_->live.Get(); }

int Server::http_port() const { return parts_->http == nullptr ? 0 : parts_->http->port(); }
int Server::agent_port() const { return parts_->http == nullptr ? 0 : parts_->http->line_port(); }
int Server::grpc_port() const { return parts_->grpc == nullptr ? 0 : parts_->grpc->port(); }

}  // namespace penstock
