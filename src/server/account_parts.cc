#include "server/account_parts.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "server/logging.h"

namespace penstock {
namespace {

void LogAccounts(bool failed, std::string_view line) {
  Log(failed ? LogLevel::kError : LogLevel::kInfo, line);
}

}  // namespace

absl::StatusOr<std::unique_ptr<AccountParts>> AccountParts::Open(const ServerConfig& config,
                                                                 Catalogue* catalogue) {
  auto parts = std::make_unique<AccountParts>();
  const AccountMetrics metrics = catalogue->MakeAccountMetrics();
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

}  // namespace penstock
