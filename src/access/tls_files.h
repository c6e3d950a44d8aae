// A listener's certificate, key and authorities, read from files and again when these change.
// Owns what was read last and was sound. Must not know sockets.
// Threads: current is thread-safe; Check is confined to one thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "access/key_source.h"
#include "penstock/config.h"

struct ssl_ctx_st;
struct ssl_st;

namespace penstock {

class ClientCertificates;

struct TlsMaterial {
  std::string certificate_pem, key_pem, client_ca_pem;
  std::shared_ptr<ssl_ctx_st> context;  // of connections that begin now
  absl::Time not_after;                 // of the certificate
  /// Judges clients' certificates while connections last; null: there are no revocation lists, and
  /// they are judged when a connection begins.
  std::shared_ptr<const ClientCertificates> clients;
};
using TlsMaterialPtr = std::shared_ptr<const TlsMaterial>;

/// Which of a client's certificates a server asks for.
enum class ClientAuth : uint8_t { kNone, kOptional, kRequire };
ClientAuth ClientAuthOf(const TlsSection& tls);

/// The names (URI, DNS) of the certificate that the other side has proved; empty: none.
std::vector<std::string> PeerNames(const ssl_st* ssl);

class TlsFiles {
 public:
  /// INVALID_ARGUMENT in one line where a file cannot be read, a certificate is none, is not valid
  /// now or does not fit its key, or a revocation list is not in force.
  static absl::StatusOr<std::unique_ptr<TlsFiles>> Load(const TlsSection& tls, ClientAuth auth,
                                                        AccessLog log);
  TlsMaterialPtr current() const;
  /// Takes over files that have changed and are sound; otherwise what is in use stays, and the log
  /// says so once.
  void Check();

 private:
  TlsFiles(const TlsSection& tls, ClientAuth auth, AccessLog log)
      : tls_(tls), auth_(auth), log_(std::move(log)) {}
  std::string Signature() const;
  void TellOfListsThatEnd();
  void Publish(TlsMaterialPtr fresh);

  const TlsSection tls_;
  const ClientAuth auth_;
  const AccessLog log_;
  std::string seen_;   // the files that current_ was read from
  std::string wrong_;  // those that were not sound
  bool told_ = false;
  int checks_left_ = 0;         // until what is wrong is looked at again
  TlsMaterialPtr told_end_of_;  // whose lists have ended, as the log knows
  mutable std::mutex mutex_;
  TlsMaterialPtr current_;  // guarded by mutex_
};

}  // namespace penstock
