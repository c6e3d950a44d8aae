// Tells whether a client's certificate is good by the authorities and revocation lists of the
// moment, also while its connection lasts.
// Owns verdicts. Must not know files or sockets.
// Threads: thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "access/certificates.h"

struct ssl_st;

namespace penstock {

/// Puts the lists of `pem` into `store`, which from then on looks for each certificate of a chain
/// in the list of its issuer, and refuses one whose list is not there or has ended. The time when the
/// first list ends. INVALID_ARGUMENT says what is wrong: no list, one that is damaged, partial, not
/// valid now or not signed by one of `authorities`, or an authority without a list.
absl::StatusOr<absl::Time> AddRevocationLists(const std::string& pem,
                                              const std::vector<CertificatePtr>& authorities,
                                              X509_STORE* store);

class ClientCertificates {
 public:
  /// `store` has authorities and lists, the first of which ends at `lists_end`, and stays as it is.
  ClientCertificates(X509_STORE* store, absl::Time lists_end);

  absl::Time lists_end() const { return lists_end_; }
  /// Of the other side of a connection; true where it has shown none.
  bool Accepts(const ssl_st* connection) const;
  /// In PEM form: the certificate (empty: true), and those between it and an authority.
  bool Accepts(std::string_view certificate_pem, std::string_view chain_pem) const;

 private:
  struct Verdict {
    bool good = false;
    absl::Time until;
  };
  bool Judge(X509* certificate, STACK_OF(X509) * chain) const;

  const std::unique_ptr<X509_STORE, decltype(&X509_STORE_free)> store_;
  const absl::Time lists_end_;
  mutable std::mutex mutex_;
  // By the certificate's SHA-256: to verify takes as long as to hash its list. Guarded by mutex_.
  mutable absl::flat_hash_map<std::string, Verdict> verdicts_;
};

}  // namespace penstock
