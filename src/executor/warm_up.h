// A model's first steps, made before anyone waits for them.
// Owns nothing. Must not know queues, requests or when it is called.
// Threads: as the runner's.
#pragma once

#include "absl/status/status.h"
#include "executor/model_runner.h"

namespace penstock {

/// One step of prefill, then decode steps of 1, 2, 4, .. sequences: weights are read, buffers grow
/// to their size, and a device makes its choices by number of rows. `wide`: prefill as long as a
/// step may be, and decode steps up to as many sequences as there are slots; else, where steps take
/// their time, 64 positions and 4 sequences. Nothing of it stays in the cache. INTERNAL: a step
/// failed, or of no sequence was a number finite: its files are damaged, or numbers overflow.
absl::Status WarmUp(ModelRunner& runner, bool wide);

}  // namespace penstock
