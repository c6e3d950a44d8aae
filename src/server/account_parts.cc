#include "server/account_parts.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "server/logging.h"
#include "server/state_file.h"

namespace penstock {
namespace {

void LogAccounts(bool failed, std::string_view line) {
  Log(failed ? LogLevel::kError : LogLevel::kInfo, line);
}

}  // namespace

absl::StatusOr<std::unique_ptr<AccountParts>> AccountParts::Open(const Live<ServerConfig>* live,
                                                                 Catalogue* catalogue) {
  auto parts = std::make_unique<AccountParts>();
  const std::shared_ptr<const ServerConfig> snapshot = live->Get();
  const ServerConfig& config = *snapshot;
  parts->config_ = live;
  const AccountMetrics metrics = catalogue->MakeAccountMetrics();
  metrics.audit_chain_ok.Set(0);
  if (config.audit.enabled) {
    AuditLoop::Options options;
    options.dir = AuditDir(config.server);
    if (!config.audit.sign_key_file.empty()) {
      ASSIGN_OR_RETURN(options.key, AuditKey::Read(config.audit.sign_key_file));
    }
    options.rotate_bytes = config.audit.rotate.value;
    options.ttl = [live] { return live->Get()->audit.ttl; };
    options.metrics = metrics;
    options.log = LogAccounts;
    parts->audit_ = AuditLoop::Start(std::move(options));
  }
  parts->usage_ =
      UsageLoop::Start(config.server.state_dir, metrics.usage_write_errors, LogAccounts);
  if (parts->usage_->book() == nullptr)
    return absl::ResourceExhaustedError("no memory for what tenants use");
  if (const SharedLimitsSection& shared = config.limits.shared; !shared.redis.empty()) {
    SharedLimitsLoop::Options options;
    const size_t colon = shared.redis.rfind(':');
    options.host = shared.redis.substr(0, colon);
    if (!absl::SimpleAtoi(shared.redis.substr(colon + 1), &options.port))
      return absl::InvalidArgumentError("limits.shared.redis: expected host:port");
    options.password = shared.password;
    options.usage = parts->usage_->book();
    options.metrics = metrics;
    options.log = LogAccounts;
    parts->shared_limits_ = std::make_shared<SharedLimitsLoop>(std::move(options));
  }
  return parts;
}

bool AccountParts::audit_blocks() const {
  return audit_ != nullptr && !audit_->healthy() && config_->Get()->audit.on_failure == "block";
}

}  // namespace penstock
