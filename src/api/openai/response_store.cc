#include "api/openai/response_store.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "service/ids.h"

namespace penstock {
namespace {

constexpr size_t kEntryOverhead = 1024;  // bytes
constexpr size_t kValueOverhead = 64;    // about what a value takes beside its text

/// All that a client can make long, names of members too.
size_t BytesOf(const nlohmann::ordered_json& value) {
  size_t bytes = kValueOverhead;
  if (value.is_string()) bytes += value.get_ref<const std::string&>().size();
  if (value.is_array()) {
    for (const auto& item : value) bytes += BytesOf(item);
  }
  if (value.is_object()) {
    for (const auto& [name, member] : value.items()) bytes += name.size() + BytesOf(member);
  }
  return bytes;
}

}  // namespace

ResponseStore::ResponseStore(const Live<ServerConfig>* config, const Clock* clock)
    : config_(config),
      clock_(clock),
      secret_{RandomBits(), RandomBits()},
      responses_(0, absl::ZeroDuration()) {}

Hash128 ResponseStore::KeyOf(std::string_view owner, std::string_view id) const {
  return SipHash128(secret_, absl::StrCat(ToAbsl(owner), "\n", ToAbsl(id)));
}

void ResponseStore::Put(std::string_view owner, std::string_view id, StoredResponse response) {
  const size_t conversation = BytesOf(*response.conversation);
  const std::shared_ptr<const ServerConfig> config = config_->Get();
  const LimitsSection& limits = config->limits;
  if (conversation > static_cast<size_t>(limits.max_body.value)) return;
  const size_t items = response.items == nullptr ? 0 : BytesOf(*response.items);
  const size_t bytes = kEntryOverhead + response.body.size() + conversation + items;
  std::lock_guard lock(mutex_);
  responses_.SetBounds(static_cast<size_t>(limits.response_memory.value), limits.response_ttl);
  responses_.Put(KeyOf(owner, id), std::move(response), bytes, clock_->Now());
}

std::optional<StoredResponse> ResponseStore::Find(std::string_view owner, std::string_view id) {
  std::lock_guard lock(mutex_);
  const StoredResponse* found = responses_.Find(KeyOf(owner, id), clock_->Now());
  return found == nullptr ? std::nullopt : std::optional(*found);
}

bool ResponseStore::Erase(std::string_view owner, std::string_view id) {
  std::lock_guard lock(mutex_);
  responses_.Find(KeyOf(owner, id), clock_->Now());  // what is too old is not there
  return responses_.Erase(KeyOf(owner, id));
}

}  // namespace penstock
