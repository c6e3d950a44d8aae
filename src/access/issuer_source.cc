#include "access/issuer_source.h"

#include "absl/strings/str_cat.h"
#include "access/file_signature.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {

std::string IssuerSource::Signature() const {
  std::string out;
  for (const TokenIssuerSection& section : sections_) out += FileSignature(section.jwks_file);
  return out;
}

absl::Status IssuerSource::Load() {
  seen_ = Signature();
  ASSIGN_OR_RETURN(std::shared_ptr<const TokenIssuers> issuers, LoadIssuers(sections_));
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
