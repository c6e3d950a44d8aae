#include "service/adapter_pool.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "metrics/catalogue.h"
#include "service/call_error.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxNameBytes = 512;
constexpr size_t kMaxPathBytes = 4096;
constexpr const char* kFiles[] = {"adapter_config.json", "adapter_model.safetensors"};

bool IsPlain(std::string_view name, size_t max_bytes) {
  if (name.empty() || name.size() > max_bytes || !IsValidUtf8(name)) return false;
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return true;
}

/// A path below a folder, in the one way to write it.
bool IsRelativePath(std::string_view name) {
  const fs::path path{std::string(name)};
  return path.is_relative() && path.lexically_normal().native() == name && path.has_filename() &&
         *path.begin() != "..";
}

/// Whether `path` is `folder` or below it; both without links.
bool LiesIn(const fs::path& path, const fs::path& folder) {
  auto part = path.begin();
  for (const fs::path& above : folder) {
    if (part == path.end() || *part != above) return false;
    ++part;
  }
  return true;
}

/// What is wrong with an adapter is the fault of the field that named it; where it lies on this
/// machine is nobody's business.
absl::Status ForClients(const absl::Status& status, const std::string& dir,
                        std::string_view field) {
  const bool unfit = status.code() == absl::StatusCode::kInvalidArgument ||
                     status.code() == absl::StatusCode::kUnimplemented ||
                     status.code() == absl::StatusCode::kNotFound;
  const std::string message =
      absl::StrReplaceAll(status.message(), {{dir + "/", ""}, {dir, "the adapter"}});
  if (!unfit) return absl::Status(status.code(), message);
  return InvalidField(field,
                      absl::StrCat(ToAbsl(field), ": the adapter cannot be used: ", message));
}

}  // namespace

absl::Status AdapterPool::LoadConfigured() {
  const std::lock_guard loading(load_mutex_);
  for (const auto& [name, dir] : parts_.lora.adapters) {
    const absl::StatusOr<Model> loaded = Bring(name, dir, false);
    if (!loaded.ok()) return Annotate(loaded.status(), absl::StrCat("lora.adapters.", name));
  }
  return absl::OkStatus();
}

AdapterPool::Model AdapterPool::Find(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : it->second.model;
}

std::vector<AdapterPool::Model> AdapterPool::List() const {
  const std::lock_guard lock(mutex_);
  std::vector<Model> all;
  for (const auto& [name, entry] : entries_) all.push_back(entry.model);
  return all;
}

absl::StatusOr<AdapterPool::Model> AdapterPool::FindToServe(std::string_view name) {
  const auto in_memory = [&]() -> Model {
    const std::lock_guard lock(mutex_);
    const auto it = entries_.find(name);
    if (it == entries_.end() || !it->second.loaded) return nullptr;
    it->second.last_use = ++clock_;
    return it->second.model;
  };
  if (Model model = in_memory()) return model;
  const auto known = [&]() -> std::optional<std::string> {
    const std::lock_guard lock(mutex_);
    const auto it = entries_.find(name);
    return it == entries_.end() ? std::nullopt : std::optional(it->second.dir);
  };
  // Most unknown names are no adapters: they wait for nobody.
  if (!known() && (!IsPlain(name, kMaxNameBytes) || !IsRelativePath(name) || !Contained(name).ok()))
    return Model();
  const std::lock_guard loading(load_mutex_);
  if (Model model = in_memory()) return model;
  const std::optional<std::string> given = known();
  // What lay in lora.dir when it was loaded may be a link out of it by now.
  const bool configured = given && parts_.lora.adapters.contains(std::string(name)) &&
                          parts_.lora.adapters.at(std::string(name)) == *given;
  const absl::StatusOr<std::string> dir =
      configured ? *given : Contained(given ? std::string_view(*given) : name);
  if (!dir.ok()) return Model();
  absl::StatusOr<Model> loaded = Bring(std::string(name), *dir, !given);
  return loaded.ok() ? loaded : ForClients(loaded.status(), *dir, "model");
}

absl::StatusOr<std::string> AdapterPool::Contained(std::string_view path) const {
  const absl::Status outside = absl::NotFoundError("there is no such adapter in lora.dir");
  if (parts_.lora.dir.empty() || !IsPlain(path, kMaxPathBytes)) return outside;
  std::error_code error;
  const fs::path folder = fs::canonical(parts_.lora.dir, error);
  if (error) return outside;
  const fs::path adapter = fs::canonical(folder / fs::path(std::string(path)), error);
  if (error || adapter == folder || !LiesIn(adapter, folder)) return outside;
  for (const char* name : kFiles) {
    const fs::path file = fs::canonical(adapter / name, error);
    if (error || !LiesIn(file, folder) || !fs::is_regular_file(file, error)) return outside;
  }
  return adapter.string();
}

/// Waits until one more adapter fits.
absl::Status AdapterPool::MakeRoom() {
  for (;;) {
    std::unique_lock lock(mutex_);
    if (num_in_memory_ < parts_.lora.max_host_adapters) return absl::OkStatus();
    auto oldest = entries_.end();
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      const Entry& entry = it->second;
      // Whoever has the model besides the pool may still submit a request that names it.
      if (!entry.loaded || entry.model.use_count() > 1) continue;
      if (oldest == entries_.end() || entry.last_use < oldest->second.last_use) oldest = it;
    }
    if (oldest == entries_.end()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("all ", parts_.lora.max_host_adapters,
                       " adapters that may be in memory (lora.max_host_adapters) are in use"));
    }
    oldest->second.loaded = false;
    const AdapterId id = oldest->second.model->adapter;
    const std::string name = oldest->first;
    const std::string dir = oldest->second.dir;
    if (oldest->second.on_demand) entries_.erase(oldest);
    lock.unlock();
    std::promise<void> gone;
    Retire(id, [&gone](const absl::Status&) { gone.set_value(); });
    gone.get_future().wait();
    Report("adapter evicted", name, dir);
  }
}

absl::StatusOr<AdapterPool::Model> AdapterPool::Bring(const std::string& name,
                                                      const std::string& dir, bool on_demand) {
  RETURN_IF_ERROR(MakeRoom());
  AdapterId id;
  {
    const std::lock_guard lock(mutex_);
    id = AdapterId(next_id_++);
    ++num_in_memory_;
  }
  absl::Status status = parts_.read(id, dir);
  if (status.ok()) {
    std::promise<absl::Status> taken;
    parts_.base->engine->Control(
        {.kind = CommandKind::kLoadAdapter, .adapter = id, .path = dir},
        [&taken](const absl::Status& reported) { taken.set_value(reported); });
    status = taken.get_future().get();
    if (!status.ok() && parts_.forget) parts_.forget(id);
  }
  std::unique_lock lock(mutex_);
  if (!status.ok()) {
    --num_in_memory_;
    return status;
  }
  auto model = std::make_shared<ServedModel>(*parts_.base);
  model->name = name;
  model->aliases.clear();
  model->fingerprint.clear();  // it is of the model alone
  model->parent = parts_.base->name;
  model->adapter = id;
  Entry& entry = entries_[name];
  const std::optional<AdapterId> old =
      entry.loaded ? std::optional(entry.model->adapter) : std::nullopt;
  entry = {dir, model, true, on_demand, ++clock_};
  lock.unlock();
  if (old) Retire(*old, [](const absl::Status&) {});
  Report("adapter loaded", name, dir);
  return model;
}

void AdapterPool::Retire(AdapterId id, std::function<void(absl::Status)> done) {
  parts_.base->engine->Control(
      {.kind = CommandKind::kUnloadAdapter, .adapter = id, .path = ""},
      [self = shared_from_this(), done = std::move(done)](const absl::Status& status) {
        {
          const std::lock_guard lock(self->mutex_);
          --self->num_in_memory_;
        }
        done(status);
      });
}

absl::Status AdapterPool::CheckRuntime(AdapterCaller caller) const {
  if (parts_.lora.allow_runtime || caller == AdapterCaller::kOperator) return absl::OkStatus();
  return absl::PermissionDeniedError(
      "adapters are not loaded or unloaded by clients of this server (lora.allow_runtime)");
}

absl::Status AdapterPool::Load(const std::string& name, const std::string& path, bool in_place,
                               AdapterCaller caller) {
  RETURN_IF_ERROR(CheckRuntime(caller));
  if (!IsPlain(name, kMaxNameBytes))
    return InvalidField("lora_name", "lora_name must be a name of at most 512 bytes");
  const absl::StatusOr<std::string> dir = Contained(path);
  if (!dir.ok()) {
    return WithField(absl::NotFoundError("lora_path: there is no such adapter in lora.dir"),
                     "lora_path");
  }
  const std::lock_guard loading(load_mutex_);
  if (!in_place && Find(name) != nullptr) {
    return InvalidField("lora_name",
                        absl::StrCat("the adapter \"", Shown(name), "\" is loaded already"));
  }
  const absl::StatusOr<Model> model = Bring(name, *dir, false);
  if (!model.ok()) return ForClients(model.status(), *dir, "lora_path");
  return absl::OkStatus();
}

void AdapterPool::Unload(const std::string& name, std::function<void(absl::Status)> done,
                         AdapterCaller caller) {
  if (const absl::Status allowed = CheckRuntime(caller); !allowed.ok()) return done(allowed);
  std::unique_lock lock(mutex_);
  const auto it = entries_.find(name);
  if (it == entries_.end()) {
    lock.unlock();
    return done(WithField(
        absl::NotFoundError(absl::StrCat("the adapter \"", Shown(name), "\" is not loaded")),
        "lora_name"));
  }
  const Entry entry = std::move(it->second);
  entries_.erase(it);
  lock.unlock();
  Report("adapter unloaded", name, entry.dir);
  if (!entry.loaded) return done(absl::OkStatus());
  Retire(entry.model->adapter, std::move(done));
}

void AdapterPool::Export(Catalogue& catalogue, absl::Time now) const {
  const EngineLoad load = parts_.base->engine->load();
  std::map<AdapterId, std::string> names;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, entry] : entries_) names[entry.model->adapter] = name;
  }
  const auto join = [&](const std::vector<AdapterId>& ids) {
    std::vector<std::string> known;
    for (const AdapterId id : ids) {
      if (const auto it = names.find(id); it != names.end()) known.push_back(it->second);
    }
    std::sort(known.begin(), known.end());
    return absl::StrJoin(known, ",");
  };
  catalogue.SetAdapters(parts_.base->name, parts_.lora.max_adapters, join(load.running_adapters),
                        join(load.waiting_adapters), now);
}

void AdapterPool::Report(std::string_view what, std::string_view name, std::string_view dir) const {
  if (parts_.report) parts_.report(what, name, dir);
}

}  // namespace penstock
