#include "server/audit_events.h"

#include <arpa/inet.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/strings.h"
#include "server/file_digest.h"

namespace penstock {
namespace {

const KeyRecord* FindKey(const std::vector<KeyRecord>& records, const std::string& id) {
  const auto it = std::find_if(records.begin(), records.end(),
                               [&](const KeyRecord& record) { return record.id == id; });
  return it == records.end() ? nullptr : &*it;
}

std::string AddressText(const IpAddress& address) {
  char text[INET6_ADDRSTRLEN] = "";
  address.is_v4() ? inet_ntop(AF_INET, address.bytes.data() + 12, text, sizeof text)
                  : inet_ntop(AF_INET6, address.bytes.data(), text, sizeof text);
  return text;
}

void AuditChange(AuditLoop& audit, const char* change, const KeyRecord& record) {
  audit.Record({.time = {},
                .what = "key",
                .fields = {{"change", std::string(change)},
                           {"key", record.id},
                           {"tenant", record.tenant},
                           {"roles", absl::StrJoin(record.roles, " ")}}});
}

}  // namespace

void AuditRefusal(AuditLoop& audit, const RefusedCall& call) {
  AuditEvent event;
  event.what = "denied";
  event.fields = {{"reason", std::string(NameOf(call.refusal))},
                  {"address", AddressText(call.caller.address)},
                  {"path", std::string(call.path.substr(0, 256))}};
  if (call.principal != nullptr) {
    event.fields.emplace_back("tenant", call.principal->tenant);
    event.fields.emplace_back("key", call.principal->key_id);
  }
  audit.Record(std::move(event));
}

void AuditKeys(AuditLoop& audit, const std::vector<KeyRecord>& before,
               const std::vector<KeyRecord>& after) {
  for (const KeyRecord& record : after) {
    const KeyRecord* old = FindKey(before, record.id);
    if (old == nullptr) {
      AuditChange(audit, "created", record);
    } else if (old->revoked != record.revoked) {
      AuditChange(audit, "revoked", record);
    } else if (old->expires != record.expires || old->roles != record.roles ||
               old->tenant != record.tenant || old->digest != record.digest) {
      AuditChange(audit, "changed", record);
    }
  }
  for (const KeyRecord& record : before) {
    if (FindKey(after, record.id) == nullptr) AuditChange(audit, "gone", record);
  }
}

void AuditReload(AuditLoop& audit, std::string_view cause, const absl::Status& status,
                 std::string_view hash) {
  audit.Record({.time = {},
                .what = "reload",
                .fields = {{"cause", std::string(cause)},
                           {"outcome", std::string(status.ok() ? "taken" : Message(status))},
                           {"config", std::string(hash)}}});
}

void AuditAct(AuditLoop& audit, const OperatorAct& act) {
  AuditEvent event;
  event.what = "act";
  event.fields = {{"action", std::string(act.action)}, {"object", act.object.substr(0, 256)}};
  if (act.by != nullptr) {
    event.fields.emplace_back("tenant", act.by->tenant);
    event.fields.emplace_back("by", act.by->key_id);
    event.fields.emplace_back("proof", std::string(NameOf(act.by->proof)));
  }
  if (act.uid) {
    event.fields.emplace_back("uid", int64_t{*act.uid});
  } else {
    event.fields.emplace_back("address", AddressText(act.address));
  }
  if (!act.reason.empty()) event.fields.emplace_back("reason", act.reason);
  event.fields.emplace_back("outcome",
                            std::string(act.outcome.ok() ? "done" : Message(act.outcome)));
  audit.Record(std::move(event));
}

void AuditModel(AuditLoop& audit, std::string_view change, std::string_view model,
                std::string_view adapter, const std::string& files) {
  AuditEvent event;
  event.what = "model";
  event.fields = {{"change", std::string(change)}, {"model", std::string(model)}};
  if (!adapter.empty()) event.fields.emplace_back("adapter", std::string(adapter));
  if (!files.empty()) {
    const absl::StatusOr<std::string> digest = FilesDigest(files);
    event.fields.emplace_back("sha256", digest.ok() ? *digest : "");
  }
  audit.Record(std::move(event));
}

void AuditAliases(AuditLoop& audit, const ServerConfig& before, const ServerConfig& after) {
  for (const auto& [name, model] : after.models) {
    const auto old = before.models.find(name);
    if (old != before.models.end() && old->second.aliases == model.aliases) continue;
    audit.Record({.time = {},
                  .what = "alias",
                  .fields = {{"model", name}, {"aliases", absl::StrJoin(model.aliases, " ")}}});
  }
}

void AuditAlias(AuditLoop& audit, const std::string& alias, const std::string& from,
                const std::string& to) {
  audit.Record(
      {.time = {}, .what = "alias", .fields = {{"alias", alias}, {"from", from}, {"to", to}}});
}

void AuditDrain(AuditLoop& audit, std::string_view cause) {
  audit.Record({.time = {}, .what = "drain", .fields = {{"cause", std::string(cause)}}});
}

void AuditedRequests::Record(const RequestRecord& record) {
  log_.Record(record);
  if (audit_ == nullptr) return;
  AuditEvent event;
  event.what = "request";
  event.fields.reserve(10);
  event.fields.emplace_back("request", record.request_id);
  event.fields.emplace_back("tenant", record.tenant);
  event.fields.emplace_back("key", record.key_id);
  event.fields.emplace_back("model", record.model);
  event.fields.emplace_back("protocol", record.protocol);
  event.fields.emplace_back("code", int64_t{record.code});
  event.fields.emplace_back("outcome", record.finish);
  event.fields.emplace_back("prompt_tokens", record.usage.prompt_tokens);
  event.fields.emplace_back("cached_tokens", record.usage.cached_tokens);
  event.fields.emplace_back("completion_tokens", record.usage.completion_tokens);
  audit_->Record(std::move(event));
}

}  // namespace penstock
