// penstock serve [MODEL]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/machine.h"
#include "base/status_macros.h"
#include "config/load_config.h"
#include "server/commands.h"
#include "server/config_sources.h"
#include "server/control_loop.h"
#include "server/logging.h"
#include "server/model_source.h"
#include "server/server.h"
#include "server/supervisor.h"
#include "server/thread_frames.h"
#include "server/watchdog_loop.h"

namespace penstock {
namespace {

struct ServeOptions {
  std::string model, config, served_names, api_key, host, device, dtype, quantize, chat_template,
      lora_dir;
  int port = -1, grpc_port = -1, max_model_len = -1, tensor_parallel = 0;
  bool allow_anonymous = false;
  std::vector<std::string> assignments, lora;
};

/// `address` with another host or port.
std::string WithHostPort(const std::string& address, const std::string& host, int port) {
  const size_t colon = address.rfind(':');
  if (address.empty() && port < 0) return address;  // the listener is off
  std::string h = host.empty() ? (address.empty() ? "127.0.0.1" : address.substr(0, colon)) : host;
  if (h.find(':') != h.npos && !h.starts_with('[')) h = absl::StrCat("[", h, "]");
  return absl::StrCat(h, ":", port < 0 ? address.substr(colon + 1) : absl::StrCat(port));
}

absl::StatusOr<ServerConfig> MergeOptions(const ServeOptions& options) {
  std::vector<std::string> assignments = options.assignments;
  if (!options.device.empty()) assignments.push_back("engine.device=" + options.device);
  if (!options.dtype.empty()) assignments.push_back("engine.dtype=" + options.dtype);
  if (!options.quantize.empty()) assignments.push_back("engine.quantize=" + options.quantize);
  if (options.max_model_len >= 0)
    assignments.push_back(absl::StrCat("engine.max_len=", options.max_model_len));
  if (options.tensor_parallel > 0)
    assignments.push_back(absl::StrCat("engine.tensor_parallel=", options.tensor_parallel));
  if (options.allow_anonymous) assignments.push_back("server.allow_anonymous=true");
  ASSIGN_OR_RETURN(ServerConfig config, ReadConfig(options.config, assignments));
  PublicListener& listener = config.server.public_listener;
  listener.http = WithHostPort(listener.http, options.host, options.port);
  listener.grpc = WithHostPort(listener.grpc, options.host, options.grpc_port);
  if (!options.api_key.empty()) config.auth.api_keys.push_back(options.api_key);
  if (!options.model.empty()) {
    std::vector<std::string> names = absl::StrSplit(options.served_names, ',', absl::SkipEmpty());
    if (names.empty()) names.push_back(DefaultModelName(options.model));
    ModelEntry entry;
    entry.path = options.model;
    entry.engine = config.engine;
    entry.chat_template = options.chat_template;
    entry.aliases.assign(names.begin() + 1, names.end());
    entry.lora.dir = options.lora_dir;
    for (const std::string& adapter : options.lora) {
      const size_t equals = adapter.find('=');
      if (equals == adapter.npos || equals == 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("--lora ", adapter, ": expected NAME=DIRECTORY"));
      }
      entry.lora.adapters[adapter.substr(0, equals)] = adapter.substr(equals + 1);
    }
    if (!config.models.emplace(names[0], std::move(entry)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("models.", names[0], " is in the configuration already"));
    }
  } else if (!options.lora.empty() || !options.lora_dir.empty()) {
    return absl::InvalidArgumentError(
        "--lora and --lora-dir go with MODEL; in a configuration a model has lora");
  } else if (!options.chat_template.empty()) {
    return absl::InvalidArgumentError(
        "--chat-template goes with MODEL; in a configuration a model has chat_template");
  } else if (!options.served_names.empty()) {
    return absl::InvalidArgumentError(
        "--served-model-name goes with MODEL; in a configuration a model has aliases");
  }
  RETURN_IF_ERROR(ValidateConfig(config, /*serving=*/true));
  return config;
}

constexpr int kExitFault = 70;  // an engine has failed: a supervisor should start a new process

/// The engines have failed: says so, and where the process stands.
void ReportFault(const absl::Status& fault) {
  for (const StandingThreads& some : DescribeThreads()) {
    Log(LogLevel::kError, "where threads stand",
        {{"threads", some.threads}, {"state", some.state}, {"frames", some.frames}});
  }
  Log(LogLevel::kError, "the process ends: a new one is needed",
      {{"error", std::string(fault.message())}});
  NotifySupervisor(absl::StrCat("STATUS=", fault.message()));
}

/// Until a signal asks for the end: takes each change of the configuration and looks after the
/// engines. An error: one has failed.
absl::Status RunUntilStopped(Server& server, ControlLoop& control, const std::string& file,
                             bool* announces) {
  const auto watch = [&] {
    for (const std::string& folder : control.Watch(ConfigFiles(file, *server.config()))) {
      Log(LogLevel::kWarn, "changes of files are not seen here, reload with SIGHUP",
          {{"folder", folder}});
    }
  };
  watch();
  const absl::Duration period = std::min(absl::Seconds(1), WatchdogPeriod());
  while (true) {
    const ControlEvent event = control.Wait(period);
    RETURN_IF_ERROR(server.CheckEngines());
    NotifySupervisor("WATCHDOG=1");
    if (event == ControlEvent::kStop || event == ControlEvent::kInterrupt) {
      *announces = event == ControlEvent::kStop;
      return absl::OkStatus();
    }
    if (event == ControlEvent::kTimeout) continue;
    if (server.Reload(event == ControlEvent::kReload ? "SIGHUP" : "file").ok()) watch();
  }
}

/// Still serving, while balancers learn that this will end.
void Announce(Server& server, ControlLoop& control) {
  const Clock& clock = SystemClock::Get();
  const absl::Time end = clock.Now() + server.config()->drain.announce;
  if (end <= clock.Now()) return;
  server.Announce();
  Log(LogLevel::kInfo, "not ready any more; still taking requests",
      {{"seconds", absl::ToDoubleSeconds(server.config()->drain.announce)}});
  control.StopWaiting();
  for (absl::Time now = clock.Now(); now < end; now = clock.Now()) {
    control.Wait(std::min(end - now, WatchdogPeriod()));
    NotifySupervisor("WATCHDOG=1");
  }
}

int Serve(const ServeOptions& options) {
  const auto fail = [](const absl::Status& status) {
    if (!StopLogging()) std::_Exit(1);
    std::fprintf(stderr, "penstock: %s\n", std::string(status.message()).c_str());
    return 1;
  };
  RaiseFileLimit();
  ControlLoop control;
  // Before they are read: loading may take minutes, and what changes meanwhile is taken afterwards. What
  // cannot be watched is said when all is.
  if (!options.config.empty()) control.Watch({options.config});
  absl::StatusOr<ServerConfig> config = MergeOptions(options);
  if (!config.ok()) return fail(config.status());
  control.Watch(ConfigFiles(options.config, *config));
  const bool keyless = config->server.allow_anonymous && config->auth.api_keys.empty() &&
                       config->auth.key_file.pepper.empty() && config->auth.jwt.empty() &&
                       config->auth.mtls.empty();
  StartLogging(config->observe);
  if (keyless)
    Log(LogLevel::kWarn,
        "no API key is asked for: everyone who reaches the listeners may use the models");
  absl::StatusOr<std::unique_ptr<Server>> server =
      Server::Start(*std::move(config), [options] { return MergeOptions(options); });
  if (!server.ok()) return fail(server.status());
  NotifySupervisor("READY=1\nSTATUS=serving");
  bool announces = false;
  const absl::Status run = RunUntilStopped(**server, control, options.config, &announces);
  if (!run.ok()) {
    ReportFault(run);
    StopLogging();
    std::_Exit(kExitFault);  // what stands still cannot be joined
  }
  NotifySupervisor("STOPPING=1\nSTATUS=draining");
  if (announces) Announce(**server, control);
  Log(LogLevel::kInfo, "draining; a second signal ends at once");
  control.StopWaiting();
  {
    const WatchdogLoop alive;
    (*server)->Drain();
    server->reset();
  }
  Log(LogLevel::kInfo, "stopped");
  if (!StopLogging()) std::_Exit(0);
  return 0;
}

}  // namespace

void AddServeCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* command =
      app.add_subcommand("serve", "Serve a model over HTTP (OpenAI's API) and gRPC");
  command->add_option("MODEL", options->model,
                      "A directory in Hugging Face form, or org/name[@rev]");
  command->add_option("--config", options->config,
                      "A YAML file; every key is in configs/reference.yaml");
  command
      ->add_option("--set", options->assignments,
                   "key.path=value, over the file and the environment; may be repeated")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_option("--served-model-name", options->served_names,
                      "Names that clients may use, separated by commas");
  command->add_option("--chat-template", options->chat_template,
                      "With MODEL: a Jinja file instead of the model's own chat template");
  command
      ->add_option(
          "--lora", options->lora,
          "With MODEL: NAME=DIRECTORY, an adapter (PEFT) to serve as NAME; may be repeated")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_option("--lora-dir", options->lora_dir,
                      "With MODEL: a folder of adapters that requests may name");
  command->add_option("--host", options->host, "Address to listen on (127.0.0.1)");
  command->add_option("--port", options->port, "HTTP port (8000); 0: any free one")
      ->check(CLI::Range(0, 65535));
  command->add_option("--grpc-port", options->grpc_port, "gRPC port (8001); 0: any free one")
      ->check(CLI::Range(0, 65535));
  command->add_option("--api-key", options->api_key,
                      "A key that clients must send (or PENSTOCK_API_KEY)");
  command->add_flag("--allow-anonymous", options->allow_anonymous,
                    "Listen beyond loopback without a key");
  command->add_option("--device", options->device, "auto, cpu, cuda:N or cuda-emulated");
  command->add_option("--dtype", options->dtype, "auto, float32, bfloat16 or float16");
  command->add_option("--quantize", options->quantize,
                      "Round weights at load: none, int8, int8-channel, int4 or int4-128");
  command->add_option("--max-model-len", options->max_model_len, "Positions of one request")
      ->check(CLI::Range(1, 1 << 24));
  command
      ->add_option("--tp,--tensor-parallel-size", options->tensor_parallel,
                   "Ranks that share each layer")
      ->check(CLI::Range(1, 8));
  command->callback([options, &exit_code] { exit_code = Serve(*options); });
}

}  // namespace penstock
