// A call that was started: what its client can still do to it.
// Owns nothing. Must not know who answers.
// Threads: from any thread.
#pragma once

#include "penstock/service.h"

namespace penstock {

class RunningCall {
 public:
  virtual ~RunningCall() = default;
  /// The client is gone, or must go. Idempotent; nothing once the call has ended.
  virtual void Cancel(CancelReason reason) = 0;
  /// The client reads again.
  virtual void Resume() {}
};

}  // namespace penstock
