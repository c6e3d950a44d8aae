#include "server/model_instance.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "backend/make_backend.h"
#include "base/machine.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "config/config_diff.h"
#include "executor/local_executor.h"
#include "server/build_info.h"
#include "server/checkpoint_log.h"
#include "server/file_digest.h"
#include "server/logging.h"
#include "server/model_source.h"
#include "text/reply/reply_format.h"

namespace penstock {
namespace {

absl::StatusOr<std::string> Resolve(const std::string& model) {
  HubOptions hub = HubOptionsFromEnvironment();
  hub.progress = [](const std::string& line) { Log(LogLevel::kInfo, line); };
  return ResolveModel(model, hub);
}

LoadOptions LoadOptionsOf(const std::string& dir, const std::string& weights,
                          const EngineConfig& engine, WorkerPool* pool) {
  LoadOptions load;
  const std::string& method = engine.speculation.method;
  if (method == "mtp") load.heads = LoadHeads::kRequired;
  // What a formula makes up guesses nothing right; a second tier was asked for, and has no place beside
  // a head.
  if (method == "auto" && weights == "file" && engine.kv_offload.value == 0)
    load.heads = LoadHeads::kIfAny;
  load.model_dir = dir;
  load.device = engine.device;
  load.weights = weights;
  load.dtype = engine.dtype;
  load.quantize = engine.quantize;
  load.integer_inputs = engine.integer_inputs;
  load.cpu_kernels = engine.cpu_kernels;
  load.packed_cache = engine.packed_cache;
  load.deterministic = engine.deterministic;
  load.tensor_parallel = engine.tensor_parallel;
  load.build = BuildName();
  load.pool = pool;
  return load;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadWeightsOf(const std::string& name,
                                                           const std::string& dir,
                                                           const std::string& weights,
                                                           const EngineConfig& engine,
                                                           const InstanceParts& parts) {
  LoadOptions load = LoadOptionsOf(dir, weights, engine, parts.pool);
  absl::Time told = parts.clock->Now();
  load.progress = [&](std::string_view, int64_t done,
                      int64_t total) {  // a line for each second that it takes
    const absl::Time now = parts.clock->Now();
    if (parts.progress != nullptr) parts.progress->Set(done, total);
    if (now - told < absl::Seconds(1)) return;
    told = now;
    std::vector<LogField> fields = {{"model", name}};
    if (total > 0) {
      fields.push_back({"mib", done >> 20});
      fields.push_back({"of_mib", total >> 20});
    }
    Log(LogLevel::kInfo, "loading", fields);
  };
  ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model, LoadModel(load));
  if (!model->note.empty()) Log(LogLevel::kWarn, model->note, {{"model", name}});
  LogUnused(name, engine.speculation.method, *model);
  if (!model->packed_file.empty()) {
    Log(LogLevel::kInfo, absl::StrCat("packed weights ", model->packed_file),
        {{"model", name}, {"mib", model->packed_bytes >> 20}});
  }
  return model;
}

/// What guesses for the model `name`; errors name the key.
absl::StatusOr<std::unique_ptr<LoadedModel>> LoadDraft(const std::string& name,
                                                       const ModelEntry& entry,
                                                       const InstanceParts& parts) {
  const auto load = [&]() -> absl::StatusOr<std::unique_ptr<LoadedModel>> {
    ASSIGN_OR_RETURN(const std::string dir, Resolve(entry.engine.speculation.draft_model));
    return LoadWeightsOf(name + " (draft)", dir, entry.weights, entry.engine, parts);
  };
  absl::StatusOr<std::unique_ptr<LoadedModel>> draft = load();
  if (draft.ok()) return draft;
  return absl::Status(draft.status().code(),
                      absl::StrCat("engine.speculation.draft_model: ", draft.status().message()));
}

/// What a model that several ranks share is not served with; the rest says who loads it.
absl::Status CheckTensorParallel(const ModelEntry& entry) {
  const int32_t ranks = entry.engine.tensor_parallel;
  if (ranks == 1) return absl::OkStatus();
  const auto refuse = [&](std::string_view key) {
    return absl::UnimplementedError(
        absl::StrCat("engine.tensor_parallel: ", ranks, " is not served with ", ToAbsl(key)));
  };
  if (!entry.lora.dir.empty() || !entry.lora.adapters.empty()) return refuse("lora");
  for (const std::string_view method : {"draft", "mtp"}) {
    if (entry.engine.speculation.method == method)
      return refuse(absl::StrCat("speculation.method: ", ToAbsl(method)));
  }
  if (!entry.engine.packed_cache.empty()) return refuse("packed_cache");
  if (entry.engine.kv_offload.value > 0) return refuse("kv_offload");
  return absl::OkStatus();
}

/// What is there for engine.kv_memory at most; of a GPU that is not there it is not known.
int64_t MemoryForKv(const LoadedModel& loaded, const DeviceMemory& memory) {
  if (memory.total > 0) return memory.total;
  const bool of_host = loaded.memory || loaded.device->shares_host_memory();
  return of_host ? AllowedMemory() : std::numeric_limits<int64_t>::max();
}

/// engine.kv_memory; auto: a quarter of what the cgroup allows, or what memory_fraction leaves of a
/// GPU. RESOURCE_EXHAUSTED where it is more than there is.
absl::StatusOr<int64_t> MostKvBytes(const EngineConfig& engine, const LoadedModel& loaded,
                                    const RunnerOptions& runner) {
  const DeviceMemory memory = loaded.memory ? loaded.memory() : DeviceMemory{};
  if (!engine.kv_memory.automatic()) {
    const int64_t there = MemoryForKv(loaded, memory);
    if (engine.kv_memory.value <= there) return engine.kv_memory.value;
    return absl::ResourceExhaustedError(
        absl::StrCat("engine.kv_memory is ", engine.kv_memory.value >> 20, " MiB, ",
                     memory.total > 0 ? "the device has " : "this process may have ", there >> 20,
                     " MiB (`penstock doctor` says more): lower it, or let it be auto"));
  }
  if (memory.total <= 0) return AllowedMemory() / 4;
  const auto whole = static_cast<double>(memory.total);
  const auto kept = static_cast<int64_t>((1 - engine.memory_fraction) * whole);
  const int64_t step = MostStepBytes(loaded.config, runner, engine.tensor_parallel);
  ASSIGN_OR_RETURN(const int64_t rows,
                   ActivationBytes(loaded.config, runner, engine.tensor_parallel));
  ASSIGN_OR_RETURN(const int64_t drafts, DraftActivationBytes(loaded, runner));
  return std::max<int64_t>(0, memory.free - kept - step - rows - drafts);
}

/// Of auto no more than a full batch of full length needs.
absl::StatusOr<int64_t> KvBytes(const EngineConfig& engine, const LoadedModel& loaded,
                                const RunnerOptions& runner) {
  ASSIGN_OR_RETURN(const int64_t most, MostKvBytes(engine, loaded, runner));
  if (!engine.kv_memory.automatic()) return most;
  const ModelConfig& model = loaded.config;
  int64_t per_token = CacheBytesPerToken(model, runner.kv_dtype, engine.tensor_parallel);
  if (const ModelConfig* guesses = DraftConfig(loaded, runner); guesses != nullptr)
    per_token += CacheBytesPerToken(*guesses, runner.kv_dtype);
  const int64_t max_len =
      runner.max_len + runner.max_step_tokens;  // a window also holds the step's own positions
  const int64_t states = 3 * StateBytes(model) * engine.max_batch;  // one running, two snapshots
  return std::min(most, per_token * max_len * engine.max_batch + states);
}

/// RESOURCE_EXHAUSTED where a second tier in memory is more than there is; its disk says it itself.
absl::Status CheckOffload(const EngineConfig& engine) {
  const int64_t there = AllowedMemory();
  if (!engine.kv_offload_path.empty() || engine.kv_offload.value <= there) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "engine.kv_offload is ", engine.kv_offload.value >> 20, " MiB, this process may have ",
      there >> 20, " MiB: lower it, or give it a disk by engine.kv_offload_path"));
}

/// Why a model that has keys and values has no second tier for them, where one is asked for.
std::string_view WhyNoOffload(const ExecutorLimits& limits) {
  for (const CacheGroup& group : limits.groups) {
    if (group.retention == CacheRetention::kRecurrent) return "the model has a recurrent state";
  }
  return "what guesses for the model has blocks of its own";
}

int64_t OffloadBytes(const ExecutorLimits& limits) {
  int64_t bytes = 0;
  for (const CacheGroup& group : limits.groups) bytes += group.tier_blocks * group.block_bytes;
  return bytes;
}

/// Whether the cache holds one sequence of full length and the keys and values of what guesses.
bool HasRoomForGuesses(const LoadedModel& loaded, const RunnerOptions& runner) {
  const ModelConfig* guesses = DraftConfig(loaded, runner);
  if (guesses == nullptr) return true;
  const int64_t blocks = (runner.max_len + runner.block_size - 1) / runner.block_size;
  const int64_t per_token = CacheBytesPerToken(loaded.config, runner.kv_dtype) +
                            CacheBytesPerToken(*guesses, runner.kv_dtype);
  const int64_t states = StateBytes(loaded.config) * (runner.num_slots + 4);  // and snapshots
  return runner.kv_bytes >= states + per_token * blocks * runner.block_size;
}

/// The named formats; auto: those that the chat template writes.
void SetReplyFormats(const ModelEntry& entry, const ChatTemplates& templates, ServedModel& served) {
  for (const CallFormat& format : CallFormats()) {
    if (format.name == entry.tool_parser) served.call_format = &format;
  }
  for (const ReasoningFormat& format : ReasoningFormats()) {
    if (format.name == entry.reasoning_parser) served.reasoning_format = &format;
  }
  const ChatTemplate* plain = templates.plain.get();
  const ChatTemplate* tools = templates.with_tools != nullptr ? templates.with_tools.get() : plain;
  if (entry.tool_parser == "auto" && tools != nullptr)
    served.call_format = CallFormatOf(tools->source());
  if (entry.reasoning_parser == "auto" && plain != nullptr)
    served.reasoning_format = ReasoningFormatOf(plain->source());
}

absl::StatusOr<RunnerOptions> MakeRunnerOptions(const EngineConfig& engine,
                                                const LoadedModel& loaded, LoadedModel* draft,
                                                const WorkerPool* pool) {
  const ModelConfig& model = loaded.config;
  RunnerOptions runner;
  ASSIGN_OR_RETURN(runner.dtype, ParseActivationDType(engine.dtype, loaded.auto_dtype));
  ASSIGN_OR_RETURN(runner.kv_dtype,
                   ParseCacheDType(engine.kv_dtype,
                                   engine.dtype == "auto" ? loaded.auto_kv_dtype : runner.dtype));
  runner.pool = pool;
  if (draft != nullptr || loaded.head != nullptr) runner.max_drafts = engine.speculation.max_tokens;
  if (draft != nullptr) {
    runner.draft = draft;
    ASSIGN_OR_RETURN(runner.draft_dtype, ParseActivationDType(engine.dtype, draft->auto_dtype));
  }
  runner.block_size = engine.block_size;
  runner.num_slots = engine.max_batch;
  runner.max_step_tokens = engine.max_step_tokens;
  runner.max_len = engine.max_len > 0 ? engine.max_len : model.context();
  runner.pipeline_depth = engine.pipeline_depth;
  ASSIGN_OR_RETURN(runner.kv_bytes, KvBytes(engine, loaded, runner));
  RETURN_IF_ERROR(CheckOffload(engine));
  runner.tier = {engine.kv_offload.value, engine.kv_offload_path};
  // What nobody asked for makes no start fail.
  if (engine.speculation.method == "auto" && !HasRoomForGuesses(loaded, runner)) {
    Log(LogLevel::kInfo,
        "the checkpoint's prediction head does not guess: engine.kv_memory is too small");
    runner.max_drafts = 0;
  }
  return runner;
}

/// What its adapters take is taken from the KV cache; null: the model has none.
absl::Status MakeAdapterStore(const ModelEntry& entry, const std::string& dir,
                              const LoadedModel& model, const InstanceParts& parts,
                              RunnerOptions& runner) {
  const LoraConfig& lora = entry.lora;
  if (lora.dir.empty() && lora.adapters.empty()) return absl::OkStatus();
  AdapterOptions options;
  options.max_adapters = lora.max_host_adapters;
  options.max_in_step = lora.max_adapters;
  options.bounds = {lora.max_rank, lora.experts};
  options.cpu_kernels = entry.engine.cpu_kernels;
  options.numbers = model.abilities.numbers;
  options.pool = parts.pool;
  options.host_bytes = lora.host_memory.value;
  options.open_base = [dir,
                       weights = entry.weights]() -> absl::StatusOr<std::unique_ptr<TensorSource>> {
    ASSIGN_OR_RETURN(OpenedModel opened, OpenModel(dir, weights));
    return std::move(opened.source);
  };
  ASSIGN_OR_RETURN(const int64_t budget, MostKvBytes(entry.engine, model, runner));
  ASSIGN_OR_RETURN(runner.adapters, AdapterStore::Make(model.config, *model.device, options));
  const int64_t bytes = runner.adapters->MaxBytes(runner.max_step_tokens);
  if (bytes >= budget) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora: ", lora.max_host_adapters, " adapters of rank ", lora.max_rank,
                     " take ", (bytes >> 20) + 1, " MiB, engine.kv_memory has ", budget >> 20,
                     ": lower lora.max_host_adapters or lora.max_rank",
                     lora.experts ? ", leave lora.experts off" : "", ", or give more"));
  }
  runner.kv_bytes = std::min(runner.kv_bytes, budget - bytes);
  return absl::OkStatus();
}

std::shared_ptr<AdapterPool> MakeAdapterPool(const LoraConfig& lora,
                                             std::shared_ptr<AdapterStore> store,
                                             std::shared_ptr<const ServedModel> served,
                                             const InstanceParts& instance) {
  AdapterPoolParts parts;
  parts.base = std::move(served);
  parts.lora = lora;
  parts.read = [store](AdapterId id, const std::string& dir) { return store->Load(id, dir); };
  parts.forget = [store](AdapterId id) { store->Remove(id); };
  parts.report = [store, model = parts.base->name, tell = instance.on_adapter](
                     std::string_view what, std::string_view name, std::string_view dir) {
    if (tell) tell(what, model, name, dir);
    Log(LogLevel::kInfo, std::string(what),
        {{"model", model}, {"adapter", std::string(name)}, {"path", std::string(dir)}});
  };
  return std::make_shared<AdapterPool>(std::move(parts));
}

EngineOptions MakeEngineOptions(const EngineConfig& engine, const InstanceParts& parts,
                                const std::string& name, const std::string& digest) {
  EngineOptions options;
  options.scheduler.policy = engine.policy == "fcfs" ? QueuePolicy::kFcfs : QueuePolicy::kPriority;
  options.scheduler.prefix_cache = engine.prefix_cache;
  options.scheduler.model_digest = digest;
  options.scheduler.hash_key = PrefixHasher::RandomKey();
  options.scheduler.itl_target = engine.itl_target;
  options.scheduler.speculation.ngram =  // of auto where nothing else guesses
      engine.speculation.method == "ngram" || engine.speculation.method == "auto";
  options.scheduler.speculation.max_tokens = engine.speculation.max_tokens;
  options.scheduler.speculation.min_match = engine.speculation.min_match;
  options.max_queue = engine.max_queue;
  options.clock = parts.clock;
  if (engine.pipeline_depth == 1) {  // else it only plans
    options.on_thread_start = [pool = parts.pool] { pool->PlaceCaller(); };
  }
  options.metrics = parts.catalogue->MakeEngineMetrics(name);
  options.metrics.max_concurrency.Set(engine.max_batch);
  return options;
}

/// What the model's output is good for.
void SetAbilities(const ModelConfig& model, ServedModel& served) {
  const EncoderConfig& encoder = model.encoder;
  served.can_generate = !encoder.present;
  // A decoder may compute a prompt in several steps, so only its last position can stand for it.
  served.can_embed = encoder.present ? encoder.num_labels == 0 : model.pooling == Pooling::kLast;
  served.can_rerank = encoder.present && encoder.num_labels == 1;
  served.normalize = model.normalize;
  served.lowercase = model.lowercase;
  served.embedding_size = served.can_embed ? model.hidden_size : 0;
}

/// fp_ and of the model's files, then of what else its answers come from, eight digits each; empty
/// where a file cannot be read.
std::string FingerprintOf(const std::string& name, const std::string& dir, const ModelEntry& entry,
                          const std::string& kernels) {
  RunningDigest digest(RunningDigest::Kind::kSha256);
  const absl::StatusOr<std::string> files = FilesFingerprint(dir);
  absl::Status read = files.status();
  if (!entry.chat_template.empty()) read.Update(digest.AddFile(entry.chat_template));
  if (!read.ok()) {
    Log(LogLevel::kInfo, "no system_fingerprint",
        {{"model", name}, {"why", std::string(read.message())}});
    return "";
  }
  ServerConfig settings;
  ModelEntry& own = settings.models["model"];
  own = entry;
  own.path.clear();
  own.aliases.clear();
  own.fallback.clear();
  own.lora = {};
  digest.Add(absl::StrCat(ConfigHash(settings), "\n", kernels, "\n", BuildName()));
  return absl::StrCat("fp_", files->substr(0, 8), "_", digest.Hex().substr(0, 8));
}

}  // namespace

absl::StatusOr<MemoryPlan> PlanInstance(const ModelEntry& entry, WorkerPool* pool,
                                        int64_t gpu_memory) {
  RETURN_IF_ERROR(CheckTensorParallel(entry));
  ASSIGN_OR_RETURN(const std::string dir, Resolve(entry.path));
  const LoadOptions load = LoadOptionsOf(dir, entry.weights, entry.engine, pool);
  LoadOptions draft = load;
  const bool drafts = entry.engine.speculation.method == "draft";
  if (drafts) {
    ASSIGN_OR_RETURN(draft.model_dir, Resolve(entry.engine.speculation.draft_model));
  }
  constexpr int64_t kMiB = 1 << 20;
  DeviceMemory found;
  const auto options_of = [&](LoadedModel& model, LoadedModel* guesses) {
    DeviceMemory memory = model.memory ? model.memory() : DeviceMemory{};
    found = memory;
    if (gpu_memory > 0 && !model.device->shares_host_memory())
      memory.free = memory.total = gpu_memory * model.num_devices;
    if (memory.total > 0) {
      memory.free -= PlannedBytes(model) + (guesses != nullptr ? PlannedBytes(*guesses) : 0);
      model.memory = [memory] { return memory; };
    }
    return MakeRunnerOptions(entry.engine, model, guesses, pool);
  };
  absl::StatusOr<MemoryPlan> plan = PlanMemory(load, drafts ? &draft : nullptr, options_of);
  if (absl::IsResourceExhausted(plan.status()) && gpu_memory == 0 && found.free < found.total) {
    return absl::UnavailableError(absl::StrCat(
        ToAbsl(Message(plan.status())), "; ", (found.total - found.free) / kMiB,
        " MiB of the device's ", found.total / kMiB,
        " MiB are held by other processes (nvidia-smi), of which a server that runs is one"));
  }
  return plan;
}

absl::StatusOr<std::unique_ptr<ModelInstance>> ModelInstance::Load(const std::string& name,
                                                                   const ModelEntry& entry,
                                                                   const InstanceParts& parts) {
  const absl::Time begin = parts.clock->Now();
  const int64_t held_before = HeldBytes();
  RETURN_IF_ERROR(CheckTensorParallel(entry));
  ASSIGN_OR_RETURN(const std::string dir, Resolve(entry.path));
  auto instance = std::make_unique<ModelInstance>();
  ASSIGN_OR_RETURN(instance->assets_, LoadTextAssets(dir, entry.chat_template));
  ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model,
                   LoadWeightsOf(name, dir, entry.weights, entry.engine, parts));
  std::unique_ptr<LoadedModel> draft;
  if (entry.engine.speculation.method == "draft") {
    ASSIGN_OR_RETURN(draft, LoadDraft(name, entry, parts));
  }
  ASSIGN_OR_RETURN(RunnerOptions runner,
                   MakeRunnerOptions(entry.engine, *model, draft.get(), parts.pool));
  RETURN_IF_ERROR(MakeAdapterStore(entry, dir, *model, parts, runner));
  const std::string kernels = model->kernels;
  const std::string architecture = model->config.architecture;
  auto served = std::make_shared<ServedModel>();
  SetAbilities(model->config, *served);
  int64_t device_bytes = 0;
  if (parts.warm_up) {
    runner.before_warm_up = [&] {
      device_bytes = HeldBytes() - held_before;
      Log(LogLevel::kInfo, "warming up", {{"model", name}});
      if (parts.progress != nullptr) parts.progress->BeginWarmUp();
    };
  }
  absl::StatusOr<std::unique_ptr<Executor>> executor =
      MakeLocalExecutor(std::move(model), runner, std::move(draft));
  if (!executor.ok()) {
    return absl::Status(executor.status().code(), absl::StrCat("model ", name, " (", dir,
                                                               "): ", executor.status().message()));
  }
  if (!parts.warm_up) device_bytes = HeldBytes() - held_before;

  const CacheConfigInfo cache{
      runner.block_size,
      (*executor)->limits().groups.empty() ? 0 : (*executor)->limits().groups[0].num_blocks,
      entry.engine.prefix_cache, std::string(DTypeName(runner.kv_dtype))};
  const bool guesses = entry.engine.speculation.method != "off" && served->can_generate;
  if (guesses && !Scheduler::CanDraft((*executor)->limits())) {
    Log(LogLevel::kInfo, "no speculation: a recurrent state is taken back for draft and mtp alone",
        {{"model", name}});
  }
  const ExecutorLimits& limits = (*executor)->limits();
  const int64_t offload_bytes = OffloadBytes(limits);
  if (entry.engine.kv_offload.value > 0 && offload_bytes == 0 && cache.num_blocks > 0) {
    Log(LogLevel::kWarn, "no second tier of the prefix cache (engine.kv_offload)",
        {{"model", name}, {"why", std::string(WhyNoOffload(limits))}});
  }
  instance->engine_ = std::make_unique<EngineLoop>(
      *std::move(executor), MakeEngineOptions(entry.engine, parts, name, dir));
  const EngineInfo info = instance->engine_->info();
  parts.catalogue->SetCacheConfig(name, cache);
  instance->metrics_ = parts.catalogue->MakeRequestMetrics(name, info.max_context);

  served->name = name;
  served->fingerprint = FingerprintOf(name, dir, entry, kernels);
  served->aliases = entry.aliases;
  served->engine = instance->engine_.get();
  served->tokenizer = instance->assets_.tokenizer.get();
  if (served->tokenizer != nullptr && served->can_generate) {
    instance->grammars_ = std::make_unique<GrammarCompiler>(served->tokenizer, info.vocab_size);
    served->grammars = instance->grammars_.get();
  }
  served->chat_template = instance->assets_.chat_templates.plain.get();
  served->tool_template = instance->assets_.chat_templates.with_tools.get();
  SetReplyFormats(entry, instance->assets_.chat_templates, *served);
  served->metrics = &instance->metrics_;
  served->defaults = instance->assets_.defaults;
  served->max_context = info.max_context;
  served->vocab_size = info.vocab_size;
  served->created = absl::ToUnixSeconds(absl::Now());
  served->bos_token = instance->assets_.bos_token;
  served->eos_token = instance->assets_.eos_token;
  instance->served_ = std::move(served);
  instance->engine_->Start();
  if (runner.adapters != nullptr) {
    instance->adapters_ = MakeAdapterPool(entry.lora, runner.adapters, instance->served_, parts);
    RETURN_IF_ERROR(instance->adapters_->LoadConfigured());
  }
  Log(LogLevel::kInfo, "model ready",
      {{"model", name},
       {"path", dir},
       {"architecture", architecture},
       {"kernels", kernels},
       {"ranks", int64_t{entry.engine.tensor_parallel}},
       {"quantize", entry.engine.quantize},
       {"dtype", std::string(DTypeName(runner.dtype))},
       {"kv_dtype", cache.kv_dtype},
       {"kv_tokens", int64_t{cache.num_blocks} * cache.block_size},
       {"kv_mib", runner.kv_bytes >> 20},
       {"kv_offload_mib", offload_bytes >> 20},
       {"device_bytes", device_bytes},
       {"adapters_mib",
        runner.adapters != nullptr ? runner.adapters->MaxBytes(runner.max_step_tokens) >> 20 : 0},
       {"max_len", int64_t{info.max_context}},
       {"tokenizer", instance->assets_.tokenizer != nullptr},
       {"chat", instance->assets_.chat_templates.plain != nullptr},
       {"seconds", absl::ToDoubleSeconds(parts.clock->Now() - begin)}});
  return instance;
}

}  // namespace penstock
