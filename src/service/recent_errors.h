// The last requests that failed, for whoever looks at a running server.
// Owns copies of the last kKept, without prompts, answers or keys. Must not know the wire or who may
// look.
// Threads: thread-safe.
#pragma once

#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "penstock/service.h"

namespace penstock {

struct RecentError {
  absl::Time when;
  int code = 0;  // HTTP status
  std::string request_id, tenant, model, operation, message;
};

class RecentErrors final : public RequestLog {
 public:
  static constexpr size_t kKept = 100;
  static constexpr size_t kMaxMessage = 500;  // bytes

  /// Of what clients did to themselves only refusals count: who went away (499) is no error.
  void Record(const RequestRecord& record) override;
  /// Newest first; of `tenant` only, empty: of all.
  std::vector<RecentError> List(std::string_view tenant) const;

 private:
  mutable std::mutex mutex_;  // guards what follows
  std::deque<RecentError> errors_;
};

}  // namespace penstock
