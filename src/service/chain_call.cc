#include "service/chain_call.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "access/principal.h"
#include "base/status_macros.h"
#include "base/thread_cpu.h"
#include "service/call_error.h"
#include "service/chain_sink.h"
#include "service/chat_messages.h"

namespace penstock {
namespace {

absl::Status StatusOf(const CallError& error) {
  if (error.code == absl::StatusCode::kInvalidArgument && !error.param.empty())
    return InvalidField(error.param, error.message);
  const absl::Status status(error.code, error.message);
  return error.param.empty() ? status : WithField(status, error.param);
}

/// What a link put into `call` has the form of what a client may send.
std::string CheckChanged(const GenerationCall& before, GenerationCall& call) {
  for (const auto& [name, was, is] : {std::tuple("messages", &before.messages, &call.messages),
                                      {"tools", &before.tools, &call.tools},
                                      {"documents", &before.documents, &call.documents}}) {
    if (*was == *is || *is == nullptr) continue;
    nlohmann::ordered_json value = **is;
    const absl::Status status = ReadChatField(name, value, call);
    if (!status.ok()) return std::string(status.message());
  }
  if (!call.chat && call.prompts.empty()) return "no prompt is left";
  return "";
}

}  // namespace

ChainCall::ChainCall(const GenerationCall& call, std::shared_ptr<const ChainSet> set,
                     TextLoop* loop, RequestLog* log)
    : set_(std::move(set)),
      tenant_(call.principal == nullptr ? kAnonymousTenant : call.principal->tenant),
      request_id_(call.request_id),
      links_(&set_->For(tenant_)),
      loop_(loop),
      log_(log) {}

LinkView ChainCall::OutView() {
  LinkView view;
  view.request_id = request_id_;
  view.tenant = tenant_;
  view.tags = &tags_;
  return view;
}

LinkResult ChainCall::Run(ChainLink& link, absl::FunctionRef<LinkResult()> work, double* seconds) {
  const auto began = std::chrono::steady_clock::now();
  const absl::Duration cpu = link.waits() ? absl::ZeroDuration() : ThreadCpuTime();
  LinkResult result;
  if (!link.waits()) {
    result = work();
  } else if (const TextLoop::Wait wait(*loop_); wait.granted()) {
    result = work();
  } else {
    result = LinkResult::Fail("too many calls wait for guards");
  }
  if (!link.waits() && result.passed() && ThreadCpuTime() - cpu > link.settings().timeout)
    result = LinkResult::Fail("it took longer than its timeout");
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (seconds == nullptr) {
    link.seconds.Observe(took);
  } else {
    *seconds += took;
  }
  if (result.passed() || result.outcome == LinkOutcome::kDenied) return result;
  link.errors.Add();
  tags_.emplace_back(absl::StrCat("failed.", link.name()), result.error.message);
  if (result.outcome == LinkOutcome::kRunaway) return result;
  if (link.settings().on_error == "skip") return LinkResult::Pass();
  // Clients learn which guard it was, not what is wrong with it.
  result.error.message = absl::StrCat("the guard ", link.name(), " failed");
  return result;
}

absl::Status ChainCall::Enter(ChainLink& link, GenerationCall& call, LinkView& view) {
  std::optional<GenerationCall> before;
  const bool may_break = link.settings().use == "lua" || link.settings().use == "http";
  if (may_break) before = call;
  const absl::Time began = SystemClock::Get().Now();
  const LinkResult result = Run(link, [&] {
    LinkResult entered = link.OnCall(view);
    if (!entered.passed() || !before) return entered;
    const std::string wrong = CheckChanged(*before, call);
    return wrong.empty() ? entered : LinkResult::Fail(absl::StrCat("what it made: ", wrong));
  });
  way_in_ += SystemClock::Get().Now() - began;
  filters_output_ = filters_output_ || link.filters_output() || link.takes_response();
  if (!result.passed()) return StatusOf(result.error);
  if (may_break && !tags_.empty() && tags_.back().first == absl::StrCat("failed.", link.name()))
    call = *std::move(before);  // it goes on as if the link were not there
  return absl::OkStatus();
}

std::shared_ptr<ResponseSink> ChainCall::Wrap(std::shared_ptr<ChainLink> link,
                                              std::shared_ptr<ResponseSink> next) {
  if (!link->filters_output() && !link->takes_response()) return next;
  return std::make_shared<ChainSink>(shared_from_this(), std::move(link), std::move(next));
}

void ChainCall::Attach(std::weak_ptr<RunningCall> running) {
  bool denied;
  {
    const std::lock_guard lock(mutex_);
    running_ = running;
    denied = denied_.has_value();
  }
  if (const auto call = running.lock(); denied && call != nullptr)
    call->Cancel(CancelReason::kDisconnect);
}

void ChainCall::Deny(const CallError& error) {
  std::shared_ptr<RunningCall> running;
  {
    const std::lock_guard lock(mutex_);
    if (!denied_) denied_ = error;
    running = running_.lock();
  }
  if (running != nullptr) running->Cancel(CancelReason::kDisconnect);
}

void ChainCall::Record(const RequestRecord& record) {
  RequestRecord known = record;
  known.chain_time = way_in_;
  {
    const std::lock_guard lock(mutex_);
    if (denied_) {
      known.code = HttpStatus(denied_->code);
      known.finish = "error";
      known.error = denied_->message;
    }
  }
  for (const auto& link : *links_) {
    if (!link->takes_record()) continue;
    LinkView view = OutView();
    Run(*link, [&] { return link->OnRecord(view, known); });
  }
  known.tags = tags_;
  if (log_ != nullptr) log_->Record(known);
}

}  // namespace penstock
