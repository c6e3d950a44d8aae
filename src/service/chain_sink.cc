#include "service/chain_sink.h"

#include <nlohmann/json.hpp>

namespace penstock {

ChainSink::~ChainSink() {
  if (seconds_ > 0) link_->seconds.Observe(seconds_);
}

LinkResult ChainSink::FilterText(TextName name, std::string& text, bool last) {
  const auto found = filters_.find(name);
  if (text.empty() && (!last || found == filters_.end())) return LinkResult::Pass();
  std::unique_ptr<OutputFilter>& filter = filters_[name];
  if (filter == nullptr) filter = link_->NewFilter(call_->OutView());
  std::string out;
  LinkResult result = filter->Append(text, out);
  const auto settle = [&] {
    if (result.outcome != LinkOutcome::kFailed || link_->settings().on_error != "skip") return;
    link_->errors.Add();  // what failed has passed as it was
    result = LinkResult::Pass();
  };
  settle();
  if (result.passed() && last) {
    result = filter->Finish(out);
    settle();
  }
  if (last) filters_.erase(name);
  text = std::move(out);
  return result;
}

LinkResult ChainSink::Filter(Delta& delta) {
  const int32_t choice = delta.index;
  const bool ends = delta.finish.has_value();
  // What begins ends what was before it.
  LinkResult result = FilterText({choice, kReasoning}, delta.reasoning,
                                 ends || !delta.text.empty() || !delta.calls.empty());
  if (!result.passed()) {
    delta.text.clear();
    delta.calls.clear();
    return result;
  }
  result = FilterText({choice, kContent}, delta.text, ends || !delta.calls.empty());
  if (!result.passed()) {
    delta.calls.clear();
    return result;
  }
  std::vector<CallDelta> calls;
  const auto end_calls = [&](int32_t but) {
    for (auto it = filters_.lower_bound({choice, 0});
         result.passed() && it != filters_.end() && it->first.first == choice;) {
      const TextName name = (it++)->first;
      if (name.second == but) continue;
      CallDelta rest;
      rest.index = name.second;
      result = FilterText(name, rest.arguments, true);
      if (!rest.arguments.empty()) calls.push_back(std::move(rest));
    }
  };
  for (CallDelta& call : delta.calls) {
    end_calls(call.index);
    if (!result.passed()) break;
    result = FilterText({choice, call.index}, call.arguments, false);
    if (!call.arguments.empty() || !call.name.empty()) calls.push_back(std::move(call));
    if (!result.passed()) break;
  }
  if (ends && result.passed()) end_calls(-1);
  delta.calls = std::move(calls);
  return result;
}

void ChainSink::OnDeltas(absl::Span<Delta> deltas) {
  if (over_) return;
  size_t good = 0;
  LinkResult result;
  if (link_->filters_output()) {
    result = call_->Run(
        *link_,
        [&] {
          LinkResult filtered;
          for (Delta& delta : deltas) {
            ++good;
            filtered = Filter(delta);
            if (filtered.passed()) continue;
            delta.finish.reset();
            break;
          }
          return filtered;
        },
        &seconds_);
  }
  if (result.passed()) good = deltas.size();
  if (link_->takes_response()) {
    if (!result.passed()) return Refuse(result.error);
    for (const Delta& delta : deltas) gathered_.Add(delta);
    return;
  }
  if (good > 0) next_->OnDeltas(deltas.subspan(0, good));
  if (!result.passed()) Refuse(result.error);
}

void ChainSink::OnEnd(const ResponseEnd& end) {
  if (over_) return;
  if (!end.error && link_->takes_response() && !gathered_.choices().empty()) {
    if (!link_->waits()) return Respond(end);
    // One worker is kept free of those that wait.
    if (call_->loop().TryCall([self = shared_from_this(), end] { self->Respond(end); })) return;
    return Refuse({absl::StatusCode::kUnavailable, "too many answers are waiting for guards", ""});
  }
  over_ = true;
  next_->OnEnd(end);
}

void ChainSink::Respond(const ResponseEnd& end) {
  const LinkResult result = call_->Run(*link_, [&] {
    LinkView view = call_->OutView();
    nlohmann::ordered_json body = gathered_.ToJson();
    LinkResult said = link_->OnResponse(view, body);
    if (!said.passed()) return said;
    GatheredAnswer changed = gathered_;
    const std::string wrong = changed.TakeTexts(body);
    if (!wrong.empty()) return LinkResult::Fail("what it made: " + wrong);
    gathered_ = std::move(changed);
    return said;
  });
  if (!result.passed()) return Refuse(result.error, end.usage);
  next_->OnDeltas(absl::MakeSpan(gathered_.choices()));
  over_ = true;
  next_->OnEnd(end);
}

void ChainSink::Refuse(const CallError& error, UsageTotals usage) {
  over_ = true;
  call_->Deny(error);
  next_->OnEnd({error, usage});
}

}  // namespace penstock
