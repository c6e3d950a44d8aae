#include "access/key_admin.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "access/digest.h"
#include "access/key_text.h"
#include "access/principal.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxNote = 256, kMaxListed = 64;
constexpr int kMaxBreakGlass = 4;  // valid at a time
constexpr absl::Duration kBreakGlassLife = absl::Hours(1);

absl::Status BadKeyField(std::string_view field, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(field), ": ", ToAbsl(what)));
}

absl::StatusOr<Json> ParseObject(std::string_view body,
                                 std::initializer_list<std::string_view> known) {
  Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  for (const auto& [name, value] : json.items()) {
    if (std::find(known.begin(), known.end(), name) == known.end())
      return BadKeyField(name, "unknown field");
  }
  return json;
}

absl::StatusOr<std::string> TextOf(const Json& json, const char* field, std::string_view fallback) {
  const auto it = json.find(field);
  if (it == json.end()) return std::string(fallback);
  if (!it->is_string()) return BadKeyField(field, "expected a string");
  return it->get<std::string>();
}

absl::StatusOr<std::vector<std::string>> TextsOf(const Json& json, const char* field) {
  std::vector<std::string> out;
  const auto it = json.find(field);
  if (it == json.end()) return out;
  if (!it->is_array() || it->size() > kMaxListed)
    return BadKeyField(field, "expected a list of strings");
  for (const Json& item : *it) {
    if (!item.is_string()) return BadKeyField(field, "expected a list of strings");
    out.push_back(item.get<std::string>());
  }
  return out;
}

/// "90d", or as absl writes durations.
absl::StatusOr<absl::Duration> LifetimeOf(const Json& json, const char* field,
                                          std::string_view fallback) {
  ASSIGN_OR_RETURN(const std::string text, TextOf(json, field, fallback));
  if (text.empty()) return absl::InfiniteDuration();
  absl::Duration out;
  int64_t days = 0;
  if (text.ends_with('d') && absl::SimpleAtoi(text.substr(0, text.size() - 1), &days) &&
      days >= 0 && days <= 36500)
    return absl::Hours(24 * days);
  if (!absl::ParseDuration(text, &out) || out < absl::ZeroDuration() ||
      out > absl::Hours(24 * 36500))
    return BadKeyField(field, absl::StrCat("expected a time such as 90d or 12h, got '", text, "'"));
  return out;
}

void WriteTime(Json& out, const char* field, absl::Time time) {
  if (time == absl::InfiniteFuture()) {
    out[field] = nullptr;
  } else {
    out[field] = absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
  }
}

Json WriteKey(const KeyRecord& record, absl::Time now) {
  Json out;
  out["id"] = record.id;
  out["tenant"] = record.tenant;
  out["roles"] = record.roles;
  out["models"] = record.models;
  out["cidrs"] = record.cidrs;
  WriteTime(out, "created", record.created);
  WriteTime(out, "expires", record.expires);
  WriteTime(out, "revoked", record.revoked);
  out["note"] = record.note;
  out["state"] = record.revoked <= now ? "revoked" : record.expires <= now ? "expired" : "valid";
  return out;
}

/// Fills in id and digest; returns the key itself.
std::string GiveSecret(const std::string& pepper, KeyRecord& record) {
  std::string text = MakeKeyText();
  const KeyText key = *KeyText::Parse(text);
  record.id = std::string(key.id);
  record.digest = HmacSha256(pepper, key.secret);
  return text;
}

/// Whole seconds, as the file keeps them.
absl::Time NowInSeconds() { return absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now())); }

}  // namespace

absl::StatusOr<std::string> KeyAdmin::Create(std::string_view body) const {
  ASSIGN_OR_RETURN(const Json json,
                   ParseObject(body, {"tenant", "roles", "models", "expires_in", "cidrs", "note"}));
  KeyRecord record;
  ASSIGN_OR_RETURN(record.tenant, TextOf(json, "tenant", ""));
  if (!IsTenantName(record.tenant))
    return BadKeyField("tenant", "expected a name of 1 to 128 letters, digits and signs");
  if (record.tenant == kBreakGlassTenant)
    return BadKeyField("tenant", "keys of break-glass are made by penstock admin breakglass alone");
  ASSIGN_OR_RETURN(record.roles, TextsOf(json, "roles"));
  if (record.roles.empty()) record.roles = {"user"};
  const std::shared_ptr<const RoleTable> roles = roles_.Get();
  for (const std::string& role : record.roles) {
    if (!roles->has(role)) return BadKeyField("roles", absl::StrCat("there is no role ", role));
  }
  ASSIGN_OR_RETURN(record.models, TextsOf(json, "models"));
  for (const std::string& model : record.models) {
    if (!IsTenantName(model))
      return BadKeyField("models", "expected names of models, without spaces and commas");
  }
  ASSIGN_OR_RETURN(record.cidrs, TextsOf(json, "cidrs"));
  for (const std::string& cidr : record.cidrs) {
    const absl::StatusOr<IpRange> range = IpRange::Parse(cidr);
    if (!range.ok()) return BadKeyField("cidrs", Message(range.status()));
  }
  ASSIGN_OR_RETURN(record.note, TextOf(json, "note", ""));
  if (record.note.size() > kMaxNote) return BadKeyField("note", "expected 256 bytes at most");
  ASSIGN_OR_RETURN(const absl::Duration lifetime, LifetimeOf(json, "expires_in", ""));
  record.created = NowInSeconds();
  record.expires = record.created + lifetime;
  ASSIGN_OR_RETURN(const std::unique_ptr<KeyStore> store, KeyStore::Open(state_file_));
  return Insert(*store, std::move(record));
}

absl::StatusOr<std::string> KeyAdmin::BreakGlass(std::string_view body) const {
  ASSIGN_OR_RETURN(const Json json, ParseObject(body, {"reason"}));
  KeyRecord record;
  ASSIGN_OR_RETURN(record.note, TextOf(json, "reason", ""));
  const auto is_control = [](unsigned char c) { return c < ' ' || c == 0x7f; };
  if (absl::StripAsciiWhitespace(record.note).empty() || record.note.size() > kMaxNote ||
      std::any_of(record.note.begin(), record.note.end(), is_control))
    return BadKeyField("reason", "expected why, in one line of 1 to 256 bytes");
  record.tenant = kBreakGlassTenant;
  record.roles = {"admin"};
  if (!roles_.Get()->has(record.roles[0]))
    return absl::FailedPreconditionError(
        "roles: there is no role admin, which break-glass keys have");
  const std::lock_guard lock(break_glass_);
  ASSIGN_OR_RETURN(const std::unique_ptr<KeyStore> store, KeyStore::Open(state_file_));
  ASSIGN_OR_RETURN(const std::vector<KeyRecord> all, store->List());
  record.created = NowInSeconds();
  record.expires = record.created + kBreakGlassLife;
  if (CountBreakGlassKeys(all, record.created) >= kMaxBreakGlass) {
    return absl::FailedPreconditionError(absl::StrCat(
        kMaxBreakGlass, " break-glass keys are valid: revoke one, or wait for its hour to end"));
  }
  return Insert(*store, std::move(record));
}

absl::StatusOr<std::string> KeyAdmin::Insert(KeyStore& store, KeyRecord record) const {
  const std::string text = GiveSecret(pepper_, record);
  RETURN_IF_ERROR(store.Insert(record));
  Json out = WriteKey(record, record.created);
  out["key"] = text;
  return out.dump();
}

absl::StatusOr<std::string> KeyAdmin::Rotate(std::string_view body) const {
  ASSIGN_OR_RETURN(const Json json, ParseObject(body, {"id", "overlap"}));
  ASSIGN_OR_RETURN(const std::string id, TextOf(json, "id", ""));
  ASSIGN_OR_RETURN(const absl::Duration overlap, LifetimeOf(json, "overlap", "24h"));
  ASSIGN_OR_RETURN(const std::unique_ptr<KeyStore> store, KeyStore::Open(state_file_));
  ASSIGN_OR_RETURN(const std::vector<KeyRecord> all, store->List());
  const auto old =
      std::find_if(all.begin(), all.end(), [&](const KeyRecord& r) { return r.id == id; });
  if (old == all.end()) return absl::NotFoundError("there is no such key");
  const absl::Time now = NowInSeconds();
  if (old->revoked <= now || old->expires <= now)
    return absl::FailedPreconditionError("the key is not valid any more: create another");
  if (old->tenant == kBreakGlassTenant)
    return absl::FailedPreconditionError("a break-glass key ends with its hour: make another");
  KeyRecord next = *old;
  next.created = now;
  // As long as the old one was meant to live.
  if (old->expires != absl::InfiniteFuture()) next.expires = now + (old->expires - old->created);
  const std::string text = GiveSecret(pepper_, next);
  RETURN_IF_ERROR(store->Replace(id, now + overlap, next));
  Json out = WriteKey(next, now);
  out["key"] = text;
  out["replaces"] = id;
  WriteTime(out, "replaced_until", std::min(old->expires, now + overlap));
  return out.dump();
}

absl::StatusOr<std::string> KeyAdmin::Revoke(const std::string& id) const {
  ASSIGN_OR_RETURN(const std::unique_ptr<KeyStore> store, KeyStore::Open(state_file_));
  RETURN_IF_ERROR(store->SetRevoked(id, NowInSeconds()));
  return Json{{"id", id}, {"state", "revoked"}}.dump();
}

absl::StatusOr<std::string> KeyAdmin::List() const {
  ASSIGN_OR_RETURN(const std::unique_ptr<KeyStore> store, KeyStore::Open(state_file_));
  ASSIGN_OR_RETURN(const std::vector<KeyRecord> all, store->List());
  Json out;
  out["keys"] = Json::array();
  for (const KeyRecord& record : all) out["keys"].push_back(WriteKey(record, absl::Now()));
  return out.dump();
}

}  // namespace penstock
