#include "access/key_source.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "access/file_signature.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {

absl::Status KeySource::Refresh() {
  // What changes the file itself, and not by way of SQLite, is not seen by an open connection.
  if (FileSignature(path_) != signature_) store_.reset();
  const bool fresh = store_ == nullptr;
  if (fresh) {
    ASSIGN_OR_RETURN(store_, KeyStore::Open(path_));
  }
  if (fresh) signature_ = FileSignature(path_);
  ASSIGN_OR_RETURN(const int64_t version, store_->Version());
  if (!fresh && version == version_) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::vector<KeyRecord> records, store_->List());
  version_ = version;
  auto fresh_records = std::make_shared<const std::vector<KeyRecord>>(std::move(records));
  if (records_ != nullptr && on_change_) on_change_(*records_, *fresh_records);
  records_ = fresh_records;
  control_.SetKeys(std::move(fresh_records), pepper_);
  return absl::OkStatus();
}

void KeySource::Check() {
  const absl::Status status = Refresh();
  if (!status.ok()) store_.reset();
  std::string complaint(status.ok() ? "" : Message(status));
  if (complaint == complaint_) return;
  complaint_ = std::move(complaint);
  log_(!status.ok(),
       status.ok()
           ? "the API keys of the state file are read again"
           : absl::StrCat("the API keys of the state file cannot be read; those read before "
                          "stay: ",
                          complaint_));
}

}  // namespace penstock
