// The TLS side of one connection: bytes in clear against bytes on a socket that does not block.
// Owns the session; the socket is the connection's. Must not know HTTP.
// Threads: confined to the connection's.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "access/tls_files.h"

namespace penstock {

class TlsSession {
 public:
  /// `descriptor` stays open for as long as the session lives.
  TlsSession(TlsMaterialPtr material, int descriptor);
  ~TlsSession();

  /// What an operation that moved nothing waits for.
  enum class Wants : uint8_t { kRead, kWrite, kEnd };
  struct Moved {
    size_t bytes = 0;
    Wants wants = Wants::kEnd;  // where bytes is 0
  };
  /// The first ones shake hands.
  Moved Read(char* data, size_t size);
  Moved Write(const char* data, size_t size);
  /// Says that nothing follows.
  void End();
  bool established() const;
  /// Of the client's certificate; those of an established session.
  std::vector<std::string> names() const;
  /// Whether the client's certificate, if it has one, is still good by what is in force `now`.
  bool AcceptsPeer(const TlsMaterial& now) const;

 private:
  Moved Result(int result);
  const TlsMaterialPtr material_;
  ssl_st* const ssl_;
};

}  // namespace penstock
