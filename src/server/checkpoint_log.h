// What the log says of a checkpoint's parts that are not used.
// Owns nothing. Must not know configuration.
// Threads: any.
#pragma once

#include <string>

#include "executor/load_model.h"

namespace penstock {

/// Of the model `name`: whether its prediction head guesses, and else why not; what else nothing
/// reads. `method` is engine.speculation.method.
void LogUnused(const std::string& name, const std::string& method, const LoadedModel& model);

}  // namespace penstock
