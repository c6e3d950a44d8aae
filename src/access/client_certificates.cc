#include "access/client_certificates.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

using ListPtr = std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)>;
using ChainPtr = std::unique_ptr<STACK_OF(X509), void (*)(STACK_OF(X509)*)>;

constexpr size_t kMaxVerdicts = 4096;

absl::Status BadList(std::string_view issuer, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("the list of ", std::string(issuer), " ", std::string(what)));
}

std::string NameText(const X509_NAME* name) {
  const BioPtr out(BIO_new(BIO_s_mem()), BIO_free);
  X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);  // NOLINT(google-runtime-int)
  return {text, static_cast<size_t>(size)};
}

std::vector<ListPtr> ReadLists(const std::string& pem, bool& damaged) {
  std::vector<ListPtr> out;
  ERR_clear_error();
  const BioPtr bio = ReadMemory(pem);
  while (X509_CRL* one = PEM_read_bio_X509_CRL(bio.get(), nullptr, NoPassword, nullptr))
    out.emplace_back(one, X509_CRL_free);
  damaged = ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE;
  ERR_clear_error();
  return out;
}

bool HasSigned(X509* authority, X509_CRL* list) {
  const bool fits =
      X509_NAME_cmp(X509_get_subject_name(authority), X509_CRL_get_issuer(list)) == 0 &&
      (X509_get_key_usage(authority) & KU_CRL_SIGN) != 0 &&
      X509_CRL_verify(list, X509_get0_pubkey(authority)) == 1;
  ERR_clear_error();
  return fits;
}

/// When a list ends that is in force now.
absl::StatusOr<absl::Time> EndOf(const X509_CRL* list, std::string_view issuer) {
  if (X509_CRL_get_ext_by_NID(list, NID_delta_crl, -1) >= 0)
    return BadList(issuer, "holds changes alone: expected a complete one");
  const absl::Time now = absl::Now();
  if (TimeOf(X509_CRL_get0_lastUpdate(list)) > now) return BadList(issuer, "is not valid yet");
  if (X509_CRL_get0_nextUpdate(list) == nullptr)
    return BadList(issuer, "does not say when the next one comes (nextUpdate)");
  const absl::Time end = TimeOf(X509_CRL_get0_nextUpdate(list));
  if (end <= now) {
    return BadList(issuer, absl::StrCat("has ended on ", absl::FormatTime(end, absl::UTCTimeZone()),
                                        ": expected its next one"));
  }
  return end;
}

}  // namespace

absl::StatusOr<absl::Time> AddRevocationLists(const std::string& pem,
                                              const std::vector<CertificatePtr>& authorities,
                                              X509_STORE* store) {
  bool damaged = false;
  const std::vector<ListPtr> lists = ReadLists(pem, damaged);
  if (damaged) return absl::InvalidArgumentError("holds a revocation list that is damaged");
  if (lists.empty())
    return absl::InvalidArgumentError("holds no revocation list (X509 CRL) in PEM form");
  std::set<const X509*> listed;
  absl::Time first_end = absl::InfiniteFuture();
  for (const ListPtr& list : lists) {
    const std::string issuer = NameText(X509_CRL_get_issuer(list.get()));
    bool is_signed = false;
    for (const CertificatePtr& authority : authorities) {
      if (!HasSigned(authority.get(), list.get())) continue;
      is_signed = true;
      listed.insert(authority.get());
    }
    if (!is_signed) return BadList(issuer, "is not signed by an authority of client_ca_file");
    ASSIGN_OR_RETURN(const absl::Time end, EndOf(list.get(), issuer));
    first_end = std::min(first_end, end);
    if (X509_STORE_add_crl(store, list.get()) != 1) return BadList(issuer, "is damaged");
  }
  for (const CertificatePtr& authority : authorities) {
    if (!listed.contains(authority.get())) {
      return absl::InvalidArgumentError(
          absl::StrCat("holds no list of the authority ",
                       NameText(X509_get_subject_name(authority.get())), " of client_ca_file"));
    }
  }
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  return first_end;
}

ClientCertificates::ClientCertificates(X509_STORE* store, absl::Time lists_end)
    : store_(store, X509_STORE_free), lists_end_(lists_end) {
  X509_STORE_up_ref(store);
}

bool ClientCertificates::Accepts(const ssl_st* connection) const {
  X509* const certificate = SSL_get0_peer_certificate(connection);
  return certificate == nullptr || Judge(certificate, SSL_get_peer_cert_chain(connection));
}

bool ClientCertificates::Accepts(std::string_view certificate_pem,
                                 std::string_view chain_pem) const {
  if (certificate_pem.empty()) return true;
  const std::vector<CertificatePtr> own = ReadCertificates(certificate_pem);
  if (own.empty()) return false;
  const ChainPtr chain(sk_X509_new_null(),
                       [](STACK_OF(X509) * all) { sk_X509_pop_free(all, X509_free); });
  for (CertificatePtr& one : ReadCertificates(chain_pem)) {
    if (sk_X509_push(chain.get(), one.get()) > 0) static_cast<void>(one.release());
  }
  return Judge(own.front().get(), chain.get());
}

bool ClientCertificates::Judge(X509* certificate, STACK_OF(X509) * chain) const {
  const absl::Time now = absl::Now();
  if (TimeOf(X509_get0_notAfter(certificate)) <= now) return false;
  std::string digest(EVP_MAX_MD_SIZE, '\0');
  unsigned size = 0;
  X509_digest(certificate, EVP_sha256(), reinterpret_cast<unsigned char*>(digest.data()), &size);
  digest.resize(size);
  {
    std::lock_guard lock(mutex_);
    const auto it = verdicts_.find(digest);
    if (it != verdicts_.end() && now < it->second.until) return it->second.good;
  }
  const std::unique_ptr<X509_STORE_CTX, decltype(&X509_STORE_CTX_free)> context(
      X509_STORE_CTX_new(), X509_STORE_CTX_free);
  const bool good = X509_STORE_CTX_init(context.get(), store_.get(), certificate, chain) == 1 &&
                    X509_STORE_CTX_set_default(context.get(), "ssl_client") == 1 &&
                    X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  // Which list ends first is known, not whose chain needs it: from then on each is looked at again.
  const absl::Time until = now < lists_end_ ? lists_end_ : now + absl::Seconds(1);
  std::lock_guard lock(mutex_);
  if (verdicts_.size() >= kMaxVerdicts) verdicts_.clear();
  verdicts_.insert_or_assign(std::move(digest), Verdict{good, until});
  return good;
}

}  // namespace penstock
