#include "service/alias_book.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "access/file_signature.h"
#include "access/principal.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"

namespace penstock {
namespace {

constexpr int64_t kMostLines = 10000;  // of one answer about the history
constexpr size_t kMaxReason = 256;

/// Alias -> what it means.
std::map<std::string, std::string> Meanings(const std::vector<AliasPointer>& pointers) {
  std::map<std::string, std::string> out;
  for (const AliasPointer& pointer : pointers) out[pointer.alias] = pointer.to;
  return out;
}

std::string MeaningIn(const std::map<std::string, std::string>& meanings,
                      const std::string& alias) {
  const auto it = meanings.find(alias);
  return it == meanings.end() ? "" : it->second;
}

absl::Status ManagedByFile(const std::string& alias, const ServedModel& owner) {
  return absl::FailedPreconditionError(absl::StrCat("managed_by_file: the configuration makes \"",
                                                    Shown(alias), "\" an alias of ", owner.name,
                                                    " (models.", owner.name, ".aliases)"));
}

}  // namespace

std::string AliasBook::WhyInactive(const AliasPointer& pointer) const {
  if (const auto owner = registry_.FindOwn(pointer.alias)) {
    return absl::StrCat("the name is ", owner->name == pointer.alias ? "" : "an alias of ",
                        owner->parent.empty() ? "the model " : "the adapter ", owner->name,
                        owner->name == pointer.alias ? "" : " in the configuration");
  }
  if (registry_.FindOwn(pointer.to) != nullptr) return "";
  return absl::StrCat("no model or loaded adapter is called \"", pointer.to, "\"");
}

void AliasBook::LogInactive() {
  std::map<std::string, std::string> inactive;
  for (const AliasPointer& pointer : *known_.Get()) {
    std::string why = WhyInactive(pointer);
    if (!why.empty()) inactive[pointer.alias] = std::move(why);
  }
  for (const auto& [alias, why] : inactive) {
    if (MeaningIn(inactive_, alias) != why)
      log_(true, absl::StrCat("the alias \"", alias, "\" of the state file serves nobody: ", why));
  }
  inactive_ = std::move(inactive);
}

void AliasBook::Take(std::vector<AliasPointer> fresh) {
  const auto before = Meanings(*known_.Get()), after = Meanings(fresh);
  AdapterRegistry::Pointers pointers;
  for (const auto& [alias, to] : after) pointers.emplace(alias, to);
  registry_.SetPointers(std::move(pointers));
  known_.Set(std::move(fresh));
  if (!on_change_ || !was_read_) return;
  std::map<std::string, std::string> both = before;
  both.insert(after.begin(), after.end());
  for (const auto& [alias, to] : both) {
    const std::string from = MeaningIn(before, alias), now = MeaningIn(after, alias);
    if (from != now) on_change_(alias, from, now);
  }
}

absl::Status AliasBook::Refresh() {
  // What changes the file itself, and not by way of SQLite, is not seen by an open connection.
  if (FileSignature(path_) != signature_) store_.reset();
  const bool fresh = store_ == nullptr;
  if (fresh) {
    ASSIGN_OR_RETURN(store_, AliasStore::Open(path_));
    signature_ = FileSignature(path_);
  }
  ASSIGN_OR_RETURN(const int64_t version, store_->Version());
  if (!fresh && version == version_) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t last, store_->Last());
  if (last < last_) {  // a history is only added to
    return absl::UnavailableError(absl::StrCat(
        path_, ": it has lost changes of aliases; what it has counts after a new start"));
  }
  ASSIGN_OR_RETURN(std::vector<AliasPointer> pointers, store_->List());
  Take(std::move(pointers));
  version_ = version;
  last_ = last;
  was_read_ = true;
  return absl::OkStatus();
}

void AliasBook::Complain(const absl::Status& status) {
  readable_.Set(status.ok() ? 1 : 0);
  if (!status.ok()) store_.reset();  // to be opened anew: the file may have been replaced
  std::string complaint(status.ok() ? "" : Message(status));
  if (complaint == complaint_) return;
  complaint_ = std::move(complaint);
  log_(!status.ok(), status.ok() ? "the aliases of the state file are read again"
                                 : absl::StrCat("the aliases of the state file cannot be read; "
                                                "those read before stay: ",
                                                complaint_));
}

void AliasBook::Check() {
  const std::lock_guard lock(mutex_);
  Complain(Refresh());
  LogInactive();
}

absl::StatusOr<std::vector<AliasChange>> AliasBook::History(const std::string& alias) {
  const std::lock_guard lock(mutex_);
  const absl::Status status = Refresh();
  Complain(status);
  RETURN_IF_ERROR(status);
  return store_->History(alias, kMostLines);
}

absl::Status AliasBook::CheckName(const AliasWish& wish) const {
  if (!IsTenantName(wish.alias) || wish.alias.ends_with("/history") ||
      wish.alias.ends_with("/rollback")) {
    return InvalidField("alias",
                        "alias: expected a name of 1 to 128 letters, digits and signs that does "
                        "not end in /history or /rollback");
  }
  if (wish.reason.size() > kMaxReason)
    return InvalidField("reason", "reason: expected 256 bytes at most");
  const bool goes = wish.to && wish.to->empty();
  const auto owner = registry_.FindOwn(wish.alias);
  const auto known = known_.Get();
  const bool is_known = std::any_of(known->begin(), known->end(), [&](const AliasPointer& pointer) {
    return pointer.alias == wish.alias;
  });
  if (owner == nullptr || (goes && is_known)) return absl::OkStatus();
  if (owner->name != wish.alias) return ManagedByFile(wish.alias, *owner);
  return InvalidField("alias", absl::StrCat("the name \"", Shown(wish.alias), "\" is taken by ",
                                            owner->parent.empty() ? "a model" : "an adapter"));
}

absl::StatusOr<AliasChange> AliasBook::Change(const AliasWish& wish) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckName(wish));
  absl::Status status = Refresh();
  Complain(status);
  RETURN_IF_ERROR(status);
  const auto serves = [&](const std::string& to) -> absl::Status {
    if (registry_.FindOwn(to) != nullptr) return absl::OkStatus();
    return WithField(absl::NotFoundError(absl::StrCat("to: no model or loaded adapter is called \"",
                                                      Shown(to), "\"")),
                     "to");
  };
  absl::StatusOr<AliasChange> change = store_->Change(wish, serves);
  if (change.status().code() == absl::StatusCode::kUnavailable) store_.reset();
  if (!change.ok() || change->number == 0) return change;
  last_ = change->number;
  std::vector<AliasPointer> fresh = *known_.Get();
  std::erase_if(fresh, [&](const AliasPointer& pointer) { return pointer.alias == wish.alias; });
  if (!change->to.empty()) fresh.push_back({wish.alias, change->to, wish.who, change->when});
  std::sort(fresh.begin(), fresh.end(),
            [](const AliasPointer& a, const AliasPointer& b) { return a.alias < b.alias; });
  Take(std::move(fresh));
  return change;
}

}  // namespace penstock
