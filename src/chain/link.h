// One link of the chain: what it may do to a call on its way in and to the answer on its way out.
// Owns its settings. Must not know the other links, the wire or the engine.
// Threads: links are thread-safe; a view and a filter belong to one call, on one text worker at a
// time.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "metrics/handles.h"
#include "penstock/config.h"
#include "penstock/service.h"

namespace penstock {

class AnswerCache;

enum class LinkOutcome : uint8_t {
  kPass,
  kDenied,   // the call ends with `error`
  kFailed,   // the link's own fault: its on_error decides
  kRunaway,  // likewise, and the call ends with `error` whatever on_error says
};

struct LinkResult {
  LinkOutcome outcome = LinkOutcome::kPass;
  CallError error;
  bool passed() const { return outcome == LinkOutcome::kPass; }
  static LinkResult Pass() { return {}; }
  static LinkResult Deny(absl::StatusCode code, std::string message, std::string param = "") {
    return {LinkOutcome::kDenied, {code, std::move(message), std::move(param)}};
  }
  static LinkResult Fail(std::string message) {
    return {LinkOutcome::kFailed, {absl::StatusCode::kUnavailable, std::move(message), ""}};
  }
};

using Tags = std::vector<std::pair<std::string, std::string>>;

/// One call as links see it. What it points to outlives it.
struct LinkView {
  GenerationCall* call = nullptr;      // null on the way out
  const ServedModel* model = nullptr;  // that the call names; null: none
  bool pooling = false;                // asks for vectors or scores: there is no answer of text
  std::string request_id, tenant;
  Tags* tags = nullptr;                                   // for the log line
  std::function<std::vector<std::string>()> fields;       // that the request has
  std::function<absl::StatusOr<int64_t>()> count_tokens;  // of the prompt as it is now
};

/// One text of an answer, as it comes. Any split of the text gives the same output.
class OutputFilter {
 public:
  virtual ~OutputFilter() = default;
  /// Appends to `out` what may leave, also where it denies; holds back a bounded rest.
  virtual LinkResult Append(std::string_view text, std::string& out) = 0;
  virtual LinkResult Finish(std::string& out) = 0;
};

class ChainLink {
 public:
  ChainLink(std::string name, GuardEntry settings)
      : name_(std::move(name)), settings_(std::move(settings)) {}
  virtual ~ChainLink() = default;

  const std::string& name() const { return name_; }
  const GuardEntry& settings() const { return settings_; }

  /// Phases request and prompt: may change the call.
  virtual LinkResult OnCall(LinkView&) { return LinkResult::Pass(); }
  /// Phase delta.
  virtual bool filters_output() const { return false; }
  virtual std::unique_ptr<OutputFilter> NewFilter(const LinkView&) { return nullptr; }
  /// Phase response: the whole answer, `{"choices": [...]}`. A stream is gathered for it.
  virtual bool takes_response() const { return false; }
  virtual LinkResult OnResponse(LinkView&, nlohmann::ordered_json&) { return LinkResult::Pass(); }
  /// Phase log: nothing of the content.
  virtual bool takes_record() const { return false; }
  virtual LinkResult OnRecord(LinkView&, const RequestRecord&) { return LinkResult::Pass(); }
  /// Waits for others: its time is the clock's, not the processor's.
  virtual bool waits() const { return false; }
  virtual AnswerCache* cache() { return nullptr; }

  /// Of what happens apart from calls, in words for operators; may be empty.
  using Log = std::function<void(std::string_view guard, std::string_view message)>;

  HistogramHandle seconds;  // set before the link is used, as are the next
  CounterHandle errors;
  Log log;

 private:
  const std::string name_;
  const GuardEntry settings_;
};

}  // namespace penstock
