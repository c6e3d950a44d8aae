// What the ranks that share a model's layers do together: add up what each has computed, wait for
// each other, leave together when one of them cannot go on.
// Owns nothing. Must not know models.
// Threads: each rank calls from its own thread; Abort and status from any.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "penstock/backend.h"

namespace penstock {

class Collective {
 public:
  virtual ~Collective() = default;
  virtual int32_t size() const = 0;
  /// How long a rank is waited for, before it has stalled.
  virtual absl::Duration patience() const = 0;
  /// `rows`, memory of the rank's device, float32 without gaps and of one shape on all ranks, becomes
  /// their sum on each of them: added in the order of the ranks, so with the same bits everywhere. In
  /// order with the operations of the rank's device: enqueued where they are.
  virtual absl::Status AllReduceSum(int32_t rank, const Tensor& rows) = 0;
  /// Until all ranks are here. What one wrote before, or enqueued, all see after it, or what they
  /// enqueue then.
  virtual absl::Status Barrier(int32_t rank) = 0;
  /// Whoever waits, or comes later, leaves with an error. The first reason stays.
  virtual void Abort(const absl::Status& why) = 0;
  /// The reason of an Abort; OK: there was none.
  virtual absl::Status status() const = 0;
  /// The same, for who asks often.
  virtual bool ok() const = 0;
};

}  // namespace penstock
