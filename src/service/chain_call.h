// One call's way through the chain: its links one after the other, and the answer back through them.
// Owns what links say of the call. Must not know what links do, nor the wire.
// Threads: on one text worker at a time.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "chain/chain_set.h"
#include "penstock/service.h"
#include "service/running_call.h"
#include "service/text_loop.h"

namespace penstock {

class ChainCall final : public RequestLog, public std::enable_shared_from_this<ChainCall> {
 public:
  /// `log` null: nothing is logged.
  ChainCall(const GenerationCall& call, std::shared_ptr<const ChainSet> set, TextLoop* loop,
            RequestLog* log);

  const Links& links() const { return *links_; }
  const std::string& tenant() const { return tenant_; }
  Tags& tags() { return tags_; }

  /// The way in through one link, which may change `call`.
  absl::Status Enter(ChainLink& link, GenerationCall& call, LinkView& view);
  /// What the answer passes before it comes to `next`; `next` itself where the link has nothing to
  /// do with answers.
  std::shared_ptr<ResponseSink> Wrap(std::shared_ptr<ChainLink> link,
                                     std::shared_ptr<ResponseSink> next);
  /// Whether a link looks at texts of answers, which tokens beside them would tell as well.
  bool filters_output() const { return filters_output_; }

  /// What to stop where a link denies the rest of an answer.
  void Attach(std::weak_ptr<RunningCall> running);
  /// The answer was denied: the client's log line says so.
  void Deny(const CallError& error);

  /// Runs `work`, counted and timed; a failure of the link is what its on_error makes of it.
  LinkResult Run(ChainLink& link, absl::FunctionRef<LinkResult()> work, double* seconds = nullptr);

  void Record(const RequestRecord& record) override;
  TextLoop& loop() { return *loop_; }
  /// For phases on the way out.
  LinkView OutView();

 private:
  const std::shared_ptr<const ChainSet> set_;
  const std::string tenant_, request_id_;
  const Links* const links_;  // of set_
  TextLoop* const loop_;
  RequestLog* const log_;
  Tags tags_;
  bool filters_output_ = false;
  absl::Duration way_in_;  // that links took

  std::mutex mutex_;  // guards from here
  std::weak_ptr<RunningCall> running_;
  std::optional<CallError> denied_;
};

}  // namespace penstock
