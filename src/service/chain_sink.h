// The way out through one link: filters what passes, or gathers it for a link that wants all of it.
// Owns what is held back. Must not know the wire.
// Threads: called on one text worker at a time.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chain/gathered_answer.h"
#include "service/chain_call.h"

namespace penstock {

class ChainSink final : public ResponseSink, public std::enable_shared_from_this<ChainSink> {
 public:
  ChainSink(std::shared_ptr<ChainCall> call, std::shared_ptr<ChainLink> link,
            std::shared_ptr<ResponseSink> next)
      : call_(std::move(call)), link_(std::move(link)), next_(std::move(next)) {}
  ~ChainSink() override;

  void OnStart(ResponseStart start) override { next_->OnStart(std::move(start)); }
  void OnDeltas(absl::Span<Delta> deltas) override;
  void OnEnd(const ResponseEnd& end) override;
  bool congested() const override { return !link_->takes_response() && next_->congested(); }

 private:
  // A text of a choice: its reasoning, its content, or the arguments of one of its calls.
  enum : int32_t { kReasoning = -2, kContent = -1 };
  using TextName = std::pair<int32_t, int32_t>;  // choice, kind or call

  LinkResult Filter(Delta& delta);
  LinkResult FilterText(TextName name, std::string& text, bool last);
  void Respond(const ResponseEnd& end);
  void Refuse(const CallError& error, UsageTotals usage = {});

  const std::shared_ptr<ChainCall> call_;
  const std::shared_ptr<ChainLink> link_;
  const std::shared_ptr<ResponseSink> next_;
  std::map<TextName, std::unique_ptr<OutputFilter>> filters_;
  GatheredAnswer gathered_;
  double seconds_ = 0;  // that deltas took
  bool over_ = false;   // next_ has heard its end
};

}  // namespace penstock
