// The aliases that operators set while the server runs: from the state file to the registry, and
// back on their wish.
// Owns its connection to the file and what was read last. Must not know HTTP or who may set aliases.
// Threads: thread-safe. All but List wait for the disk: not on an I/O thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/live.h"
#include "metrics/handles.h"
#include "service/adapter_registry.h"
#include "service/alias_store.h"

namespace penstock {

class AliasBook {
 public:
  /// Takes one line about what went wrong, or right again.
  using LogLine = std::function<void(bool failed, std::string_view line)>;
  /// Told of each alias that means something else than before, whoever changed it; empty: nothing.
  using OnChange =
      std::function<void(const std::string& alias, const std::string& from, const std::string& to)>;

  /// `registry` outlives the book. `readable`: 1 while the file can be read, else 0.
  AliasBook(std::string path, AdapterRegistry* registry, GaugeHandle readable, LogLine log,
            OnChange on_change)
      : path_(std::move(path)),
        registry_(*registry),
        readable_(readable),
        log_(std::move(log)),
        on_change_(std::move(on_change)) {}

  /// Takes what has changed in the file. Where it cannot be read, or has lost changes that it had,
  /// the aliases that were read last stay; the log says so once.
  void Check();

  /// As they were read last, sorted by name.
  std::vector<AliasPointer> List() const { return *known_.Get(); }
  /// Why nobody is served by this alias; empty: requests may name it.
  std::string WhyInactive(const AliasPointer& pointer) const;
  /// As the store's.
  absl::StatusOr<std::vector<AliasChange>> History(const std::string& alias);
  /// As the store's; the next request finds the alias as it is then. Beyond that INVALID_ARGUMENT
  /// names a field, NOT_FOUND says that no model has the name `to`, FAILED_PRECONDITION that the
  /// alias is the configuration's, UNAVAILABLE what is wrong with the state file.
  absl::StatusOr<AliasChange> Change(const AliasWish& wish);

 private:
  absl::Status Refresh();
  void Complain(const absl::Status& status);
  void Take(std::vector<AliasPointer> fresh);
  void LogInactive();
  absl::Status CheckName(const AliasWish& wish) const;

  const std::string path_;
  AdapterRegistry& registry_;
  const GaugeHandle readable_;
  const LogLine log_;
  const OnChange on_change_;
  Live<std::vector<AliasPointer>> known_{std::vector<AliasPointer>()};

  std::mutex mutex_;  // guards from here; held while the disk works
  std::unique_ptr<AliasStore> store_;
  int64_t version_ = -1;
  int64_t last_ = 0;                             // change that is known
  bool was_read_ = false;                        // once at least
  std::string signature_;                        // of the file that is open
  std::string complaint_;                        // that the log knows
  std::map<std::string, std::string> inactive_;  // likewise: alias -> why
};

}  // namespace penstock
