#include "service/recent_errors.h"

#include <utility>

#include "absl/time/clock.h"

namespace penstock {

void RecentErrors::Record(const RequestRecord& record) {
  if (record.code < 400 || record.code == 499) return;
  RecentError error{absl::Now(),  record.code,      record.request_id, record.tenant,
                    record.model, record.operation, record.error};
  if (error.message.size() > kMaxMessage) {
    size_t end = kMaxMessage;  // not within a character
    while (end > 0 && (static_cast<unsigned char>(error.message[end]) & 0xC0) == 0x80) --end;
    error.message.resize(end);
    error.message += "...";
  }
  const std::lock_guard lock(mutex_);
  errors_.push_front(std::move(error));
  if (errors_.size() > kKept) errors_.pop_back();
}

std::vector<RecentError> RecentErrors::List(std::string_view tenant) const {
  const std::lock_guard lock(mutex_);
  std::vector<RecentError> out;
  for (const RecentError& error : errors_) {
    if (tenant.empty() || error.tenant == tenant) out.push_back(error);
  }
  return out;
}

}  // namespace penstock
