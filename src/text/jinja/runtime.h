// What filters, tests, methods and functions may ask of a rendering: its limits, its clock, calls
// back into the template.
// Owns the counters. Must not know syntax.
// Threads: confined to one rendering.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "text/jinja/value.h"

namespace penstock::jinja {

struct Limits {
  int64_t max_steps = 5'000'000;      // nodes evaluated, items made, and 256 bytes of text made
  int64_t max_text_bytes = 32 << 20;  // of the output and of any one string
  int32_t max_depth = 400;            // nested evaluations of macros, loops and filters' calls
  int64_t max_range = 100'000;        // numbers in a range()
};

class Runtime {
 public:
  Runtime(const Limits& limits, absl::Time now) : limits_(limits), now_(now) {}
  virtual ~Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  virtual absl::StatusOr<Value> Call(const Value& callable, Arguments arguments) = 0;
  /// A filter or test by name; the error names it where it does not exist.
  absl::StatusOr<Value> ApplyFilter(std::string_view name, const Value& value,
                                    const Arguments& arguments);
  absl::StatusOr<bool> ApplyTest(std::string_view name, const Value& value,
                                 const Arguments& arguments);

  /// RESOURCE_EXHAUSTED where the steps are used up.
  absl::Status Charge(int64_t steps) {
    steps_ += steps;
    return steps_ > limits_.max_steps ? StepsExhausted() : absl::OkStatus();
  }
  /// To be asked before a text of `bytes` or a list of `items` is made.
  absl::Status ChargeText(uint64_t bytes);
  absl::Status ChargeItems(uint64_t items);

  const Limits& limits() const { return limits_; }
  absl::Time now() const { return now_; }

 private:
  absl::Status StepsExhausted() const;
  const Limits limits_;
  const absl::Time now_;
  int64_t steps_ = 0;
};

/// All items of what can be iterated.
absl::StatusOr<std::vector<Value>> CollectItems(Runtime& runtime, const Value& value);

/// Takes positional and named arguments apart by the parameters' names. TypeError for too many,
/// unknown, doubled or, of the first `num_required`, missing ones.
absl::StatusOr<std::vector<std::optional<Value>>> BindArguments(
    std::string_view function, const std::vector<std::string_view>& parameters, size_t num_required,
    const Arguments& arguments);

// Typed reads of bound arguments.
absl::StatusOr<int64_t> IntegerOr(const std::optional<Value>& argument, int64_t absent);
absl::StatusOr<std::string> TextOr(const std::optional<Value>& argument, std::string_view absent);
bool TruthOr(const std::optional<Value>& argument, bool absent);

}  // namespace penstock::jinja
