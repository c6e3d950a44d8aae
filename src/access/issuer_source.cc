#include "access/issuer_source.h"

#include "absl/strings/str_cat.h"
#include "access/file_signature.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {

std::string IssuerSource::Signature() const {
  std::string out;
  for (const TokenIssuerSection& section : sections_) {
    if (section.jwks_url.empty()) out += FileSignature(section.jwks_file);
  }
  if (remote_ != nullptr) absl::StrAppend(&out, "remote ", remote_->version());
  return out;
}

absl::Status IssuerSource::Load() {
  seen_ = Signature();
  RemoteKeys remote;
  if (remote_ != nullptr) {
    remote.text = [this](const std::string& url) { return remote_->TextOf(url); };
    remote.on_unknown_key = [sets = remote_, wake = wake_](const std::string& url) {
      if (sets->Want(url)) wake();
    };
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const TokenIssuers> issuers, LoadIssuers(sections_, remote));
  control_.SetIssuers(std::move(issuers));
  return absl::OkStatus();
}

void IssuerSource::Check() {
  if (Signature() == seen_) return;
  const absl::Status status = Load();
  log_(!status.ok(),
       status.ok() ? "new keys of token issuers are in use"
                   : absl::StrCat("the new keys of token issuers are not used, the old ones stay: ",
                                  ToAbsl(Message(status))));
}

}  // namespace penstock
