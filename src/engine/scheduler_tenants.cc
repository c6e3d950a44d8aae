// Scheduler: what a tenant of whom nothing runs gets beside one of whom much does.

#include <algorithm>
#include <tuple>
#include <utility>

#include "engine/scheduler.h"

namespace penstock {
namespace {

constexpr int kIdleLookedAt = 64;  // of those that wait, for one of a tenant with nothing running

}  // namespace

Scheduler::Shares Scheduler::SharesAt(int32_t priority) const {
  Shares shares;
  for (const auto& [rank, seq] : running_) {
    if (rank.priority != priority) continue;
    Share& share = shares[seq->request.tenant];
    ++share.count;
    share.last = seq;
  }
  return shares;
}

/// A tenant with nothing running does not wait for a slot while another of its priority has several:
/// the turns of the queue alone would let it wait for the end of an answer. The tenant with the most
/// gives up its latest.
void Scheduler::AdmitIdleTenant() {
  Sequence* front = waiting_.front();
  if (front == nullptr || !free_slots_.empty() || options_.policy == QueuePolicy::kFcfs) return;
  if (waiting_.num_tenants(front->rank.priority) < 2) return;
  const Shares shares = SharesAt(front->rank.priority);
  const auto most =
      std::max_element(shares.begin(), shares.end(), [](const auto& a, const auto& b) {
        return std::tie(a.second.count, a.second.last->rank) <
               std::tie(b.second.count, b.second.last->rank);
      });
  if (most == shares.end() || most->second.count < 2) return;
  Sequence& last = *most->second.last;
  // Nobody is sent away for one who cannot run for want of memory or of its adapter's place.
  Sequence* idle = waiting_.Find(kIdleLookedAt, [&](const Sequence& seq) {
    return seq.rank.priority == front->rank.priority && seq.usage.num_preemptions == 0 &&
           !seq.took_turn && !shares.contains(seq.request.tenant) &&
           adapters_.MayRun(seq.request.adapter) && HasRoomFor(seq, &last);
  });
  if (idle == nullptr) return;
  idle->took_turn = true;
  Preempt(last);
  Admit(*idle);
}

/// A tenant's first prompt, where this step can end it, shares the step with no prompt of a tenant
/// that has more running: these would make the step, and so the wait for the first token, several
/// times as long. Every other step at most, so that those are read too. False: nothing was planned.
bool Scheduler::PlanNewcomers(StepPlan& plan, absl::Time now) {
  if (std::exchange(newcomers_alone_, false)) return false;
  if (options_.policy == QueuePolicy::kFcfs || running_.empty() || budget_ == 0) return false;
  const int32_t priority = running_.begin()->first.priority;
  if (waiting_.num_tenants(priority) < 2 || NumPrompts() < 2) return false;
  Shares shares = SharesAt(priority);
  Sequence* front = waiting_.front();
  if (front != nullptr && front->rank.priority == priority && !free_slots_.empty() &&
      !shares.contains(front->request.tenant) && Admit(*front)) {
    shares[front->request.tenant] = {1, front};
  }
  std::vector<Sequence*> newcomers;
  for (const auto& [rank, seq] : running_) {
    if (rank.priority != priority) break;
    if (seq->decoding() || seq->num_remaining() == 0 || seq->num_outputs() > 0) continue;
    if (seq->num_remaining() <= budget_ && shares.at(seq->request.tenant).count == 1)
      newcomers.push_back(seq);
  }
  if (newcomers.empty() || NumPrompts() <= static_cast<int32_t>(newcomers.size())) return false;
  for (Sequence* seq : newcomers) {
    if (budget_ > 0 && seq->running()) PlanPrompt(*seq, plan, now);
    newcomers_alone_ |= seq->planned_in == step_;
  }
  return newcomers_alone_;
}

}  // namespace penstock
