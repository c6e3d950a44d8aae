// One model from its directory to something that serves: text assets, executor, engine, metrics.
// Owns all of these. Must not know listeners or clients.
// Threads: made on the main thread; what it hands out says its own.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/worker_pool.h"
#include "engine/engine_loop.h"
#include "executor/plan_memory.h"
#include "metrics/catalogue.h"
#include "penstock/config.h"
#include "penstock/service.h"
#include "penstock/tokenizer.h"
#include "server/boot_progress.h"
#include "service/adapter_pool.h"
#include "text/chat_template_files.h"
#include "text/grammar/grammar_compiler.h"

namespace penstock {

/// What a model directory says about text: tokenizer, template, defaults. Every part may be
/// missing.
struct TextAssets {
  std::unique_ptr<Tokenizer> tokenizer;
  ChatTemplates chat_templates;
  GenerationDefaults defaults;
  std::string bos_token, eos_token;
};

/// INVALID_ARGUMENT names the file and the key at fault.
/// `chat_template`: a file instead of the directory's own; "": none.
absl::StatusOr<TextAssets> LoadTextAssets(const std::string& dir, const std::string& chat_template);
/// The same of a GGUF file.
absl::StatusOr<TextAssets> LoadGgufTextAssets(const std::string& path,
                                              const std::string& chat_template);

/// What Load would take of the device, by the same rules. `gpu_memory`: of a GPU that is not there;
/// 0: unknown, and kv_memory: auto is as on a CPU.
absl::StatusOr<MemoryPlan> PlanInstance(const ModelEntry& entry, WorkerPool* pool,
                                        int64_t gpu_memory);

struct InstanceParts {
  WorkerPool* pool = nullptr;
  Catalogue* catalogue = nullptr;
  const Clock* clock = nullptr;
  BootProgress* progress = nullptr;  // null: nobody asks
  bool warm_up = false;              // a step of each kind before the model counts as loaded
  /// (what happened, the model, the adapter, its directory); may be empty.
  std::function<void(std::string_view what, const std::string& model, std::string_view adapter,
                     std::string_view dir)>
      on_adapter;
};

class ModelInstance {
 public:
  /// Resolves, loads and starts the model. Errors are one line: what, where, what would help.
  static absl::StatusOr<std::unique_ptr<ModelInstance>> Load(const std::string& name,
                                                             const ModelEntry& entry,
                                                             const InstanceParts& parts);
  EngineLoop& engine() { return *engine_; }
  std::shared_ptr<const ServedModel> served() const { return served_; }
  std::shared_ptr<AdapterPool> adapters() const { return adapters_; }  // null: none are configured

 private:
  TextAssets assets_;
  std::unique_ptr<GrammarCompiler> grammars_;  // null: no structured output
  RequestMetrics metrics_;
  std::unique_ptr<EngineLoop> engine_;
  std::shared_ptr<ServedModel> served_;
  std::shared_ptr<AdapterPool> adapters_;
};

}  // namespace penstock
