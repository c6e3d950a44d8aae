#include "engine/adapter_use.h"

namespace penstock {

bool AdapterUse::Retire(AdapterId id) {
  const auto it = uses_.find(id);
  if (it == uses_.end()) return false;
  it->second.retired = true;
  return true;
}

std::vector<AdapterId> AdapterUse::TakeIdle() {
  std::vector<AdapterId> idle;
  for (const auto& [id, use] : uses_) {
    if (use.retired && use.num_live == 0) idle.push_back(id);
  }
  for (const AdapterId id : idle) uses_.erase(id);
  return idle;
}

bool AdapterUse::Takes(AdapterId id) const {
  if (id == kNoAdapter) return true;
  const auto it = uses_.find(id);
  return it != uses_.end() && !it->second.retired;
}

void AdapterUse::Begin(AdapterId id) {
  if (id == kNoAdapter) return;
  ++uses_.at(id).num_live;
  ++version_;
}

void AdapterUse::End(AdapterId id) {
  if (id == kNoAdapter) return;
  --uses_.at(id).num_live;
  ++version_;
}

bool AdapterUse::MayRun(AdapterId id) const {
  return id == kNoAdapter || num_running_ < max_running_ || uses_.at(id).num_running > 0;
}

void AdapterUse::Run(AdapterId id) {
  if (id == kNoAdapter || uses_.at(id).num_running++ > 0) return;
  ++num_running_;
  ++version_;
}

void AdapterUse::Rest(AdapterId id) {
  if (id == kNoAdapter || --uses_.at(id).num_running > 0) return;
  --num_running_;
  ++version_;
}

std::vector<AdapterId> AdapterUse::Running() const {
  std::vector<AdapterId> ids;
  for (const auto& [id, use] : uses_) {
    if (use.num_running > 0) ids.push_back(id);
  }
  return ids;
}

std::vector<AdapterId> AdapterUse::Waiting() const {
  std::vector<AdapterId> ids;
  for (const auto& [id, use] : uses_) {
    if (use.num_live > 0 && use.num_running == 0) ids.push_back(id);
  }
  return ids;
}

}  // namespace penstock
