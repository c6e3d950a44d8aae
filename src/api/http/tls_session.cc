#include "api/http/tls_session.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "access/client_certificates.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

int Bounded(size_t size) { return static_cast<int>(std::min<size_t>(size, INT_MAX)); }

}  // namespace

TlsSession::TlsSession(TlsMaterialPtr material, int descriptor)
    : material_(std::move(material)), ssl_(SSL_new(material_->context.get())) {
  CHECK(ssl_ != nullptr);
  SSL_set_fd(ssl_, descriptor);
  SSL_set_accept_state(ssl_);
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

TlsSession::Moved TlsSession::Result(int result) {
  if (result > 0) return {static_cast<size_t>(result)};
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return {0, Wants::kRead};
    case SSL_ERROR_WANT_WRITE:
      return {0, Wants::kWrite};
    default:
      return {0, Wants::kEnd};
  }
}

TlsSession::Moved TlsSession::Read(char* data, size_t size) {
  ERR_clear_error();
  return Result(SSL_read(ssl_, data, Bounded(size)));
}

TlsSession::Moved TlsSession::Write(const char* data, size_t size) {
  ERR_clear_error();
  return Result(SSL_write(ssl_, data, Bounded(size)));
}

void TlsSession::End() {
  ERR_clear_error();
  if (established()) SSL_shutdown(ssl_);
}

bool TlsSession::established() const { return SSL_is_init_finished(ssl_) == 1; }

std::vector<std::string> TlsSession::names() const { return PeerNames(ssl_); }

bool TlsSession::AcceptsPeer(const TlsMaterial& now) const {
  return now.clients == nullptr || now.clients->Accepts(ssl_);
}

}  // namespace penstock
