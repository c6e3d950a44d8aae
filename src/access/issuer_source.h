// Brings the issuers' keys to the gate, again whenever their files change.
// Owns nothing but what it has seen. Must not know tokens.
// Threads: confined to the access loop.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "access/access_control.h"
#include "access/key_source.h"
#include "access/remote_key_sets.h"

namespace penstock {

class IssuerSource {
 public:
  /// `remote`: the key sets of those that have a URL, which outlive this; null: none has.
  /// `wake`: Check of `remote` is wanted soon.
  IssuerSource(std::vector<TokenIssuerSection> sections, AccessControl* control, AccessLog log,
               RemoteKeySets* remote, std::function<void()> wake)
      : sections_(std::move(sections)),
        control_(*control),
        log_(std::move(log)),
        remote_(remote),
        wake_(std::move(wake)) {}
  /// The first time an error is the caller's to report.
  absl::Status Load();
  /// Where a file is not sound the keys that were read last stay, and the log says so once.
  void Check();

 private:
  std::string Signature() const;

  const std::vector<TokenIssuerSection> sections_;
  AccessControl& control_;
  const AccessLog log_;
  RemoteKeySets* const remote_;
  const std::function<void()> wake_;
  std::string seen_;
};

}  // namespace penstock
