// A call that goes to another model where the first one fails before it has said anything.
// Owns the call until then. Must not know why models fail.
// Threads: Cancel and Resume from any thread; as a sink on one text worker at a time.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/service.h"
#include "service/running_call.h"
#include "service/text_loop.h"

namespace penstock {

class FallbackCall final : public RunningCall,
                           public ResponseSink,
                           public std::enable_shared_from_this<FallbackCall> {
 public:
  /// Starts the call on the model `name` ("": as the call says), the `last` that there is;
  /// `may_retry`: whether an error is one that another model might not have.
  using StartFn = std::function<absl::StatusOr<std::shared_ptr<RunningCall>>(
      const std::string& name, std::shared_ptr<ResponseSink> sink, bool last, bool* may_retry)>;

  FallbackCall(std::vector<std::string> models, std::shared_ptr<ResponseSink> sink, TextLoop* loop,
               StartFn start)
      : models_(std::move(models)), sink_(std::move(sink)), loop_(loop), start_(std::move(start)) {}

  /// Tries the call's own model, then the others. After an error the sink has heard nothing.
  absl::Status Start();

  void Cancel(CancelReason reason) override;
  void Resume() override;

  void OnStart(ResponseStart start) override;
  void OnDeltas(absl::Span<Delta> deltas) override;
  void OnEnd(const ResponseEnd& end) override;
  bool congested() const override { return sink_->congested(); }

 private:
  absl::Status Try(const std::string& model, bool* may_retry);
  absl::Status TryFrom(absl::Status first);
  void Release();

  const std::vector<std::string> models_;
  const std::shared_ptr<ResponseSink> sink_;
  TextLoop* const loop_;
  const StartFn start_;
  std::string answering_;                         // "": the call's own model
  std::optional<ResponseStart> start_of_answer_;  // until something is said

  std::mutex mutex_;    // guards from here
  size_t next_ = 0;     // of models_
  size_t attempt_ = 0;  // changes where one begins or ends
  std::shared_ptr<RunningCall> running_;
  std::optional<CancelReason> cancelled_;
};

}  // namespace penstock
