// An answer's pieces put together, one for each choice; and that as JSON.
// Owns the pieces. Must not know wires.
// Threads: confined to its call.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "penstock/service.h"

namespace penstock {

class GatheredAnswer {
 public:
  void Add(const Delta& delta);
  std::vector<Delta>& choices() { return choices_; }
  /// About what it takes in memory.
  size_t bytes() const;

  /// {"choices": [{"index", "text", "reasoning", "tool_calls": [{"name", "arguments"}],
  /// "finish_reason"}]}; what is empty is left out.
  nlohmann::ordered_json ToJson() const;
  /// Takes texts and arguments from such an object. "" or what is wrong with it.
  std::string TakeTexts(const nlohmann::ordered_json& json);

 private:
  std::vector<Delta> choices_;
};

}  // namespace penstock
