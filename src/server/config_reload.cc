#include "server/config_reload.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "config/config_diff.h"
#include "server/logging.h"

namespace penstock {

ConfigReload::ConfigReload(ReadConfigFn read, TakeConfigFn take, Live<ServerConfig>* config,
                           Catalogue* catalogue)
    : read_(std::move(read)), take_(std::move(take)), config_(config), catalogue_(catalogue) {
  catalogue_->SetConfig(ConfigHash(*config_->Get()), true, absl::Now());
}

absl::Status ConfigReload::Reload(const std::string& cause) {
  std::lock_guard lock(mutex_);
  const absl::Status status = Take(cause);
  if (!status.ok()) {
    catalogue_->SetConfig(ConfigHash(*config_->Get()), false, absl::Now());
    Log(LogLevel::kError, "configuration not taken, the old one stays",
        {{"cause", cause}, {"error", std::string(status.message())}});
  }
  return status;
}

absl::Status ConfigReload::Take(const std::string& cause) {
  ASSIGN_OR_RETURN(ServerConfig fresh, read_());
  const std::shared_ptr<const ServerConfig> old = config_->Get();
  const std::vector<ConfigChange> changes = ConfigChanges(*old, fresh);
  RETURN_IF_ERROR(CheckLive(changes));
  const std::string hash = ConfigHash(fresh);
  if (!changes.empty()) {
    RETURN_IF_ERROR(take_(fresh));
    SetLogLevel(fresh.observe.level);
    config_->Set(std::move(fresh));
  }
  catalogue_->SetConfig(hash, true, absl::Now());
  std::string what;
  for (const ConfigChange& change : changes)
    absl::StrAppend(&what, what.empty() ? "" : ", ", change.path);
  Log(changes.empty() ? LogLevel::kDebug : LogLevel::kInfo, "configuration taken",
      {{"cause", cause}, {"changed", what}, {"hash", hash}});
  return absl::OkStatus();
}

}  // namespace penstock
