#include "access/tls_files.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "access/certificates.h"
#include "access/client_certificates.h"
#include "access/file_signature.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

using PrivateKeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

constexpr std::streamsize kMaxFile = 4 << 20;
// Of files that are not sound as they are: what is not valid yet will be.
constexpr int kChecksBetween = 20;
constexpr char kCiphers12[] = "ECDHE+AESGCM:ECDHE+CHACHA20";

absl::Status Wrong(std::string_view field, const std::string& path, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("tls.", ToAbsl(field), ": ", path, ": ", ToAbsl(what)));
}

absl::StatusOr<std::string> ReadPem(std::string_view field, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(in), {});
  if (!in || text.empty()) return Wrong(field, path, "cannot be read");
  if (static_cast<std::streamsize>(text.size()) > kMaxFile)
    return Wrong(field, path, "is too large for certificates: expected 4 MiB at most");
  return text;
}

int ChooseHttp11(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                 unsigned in_size, void*) {
  static constexpr unsigned char kProtocols[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, kProtocols, sizeof kProtocols - 1, in, in_size) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

absl::Status UseCertificate(const TlsSection& tls, bool is_new, TlsMaterial& out) {
  SSL_CTX* const context = out.context.get();
  const std::vector<CertificatePtr> chain = ReadCertificates(out.certificate_pem);
  if (chain.empty()) return Wrong("cert_file", tls.cert_file, "holds no certificate in PEM form");
  X509* const own = chain.front().get();
  out.not_after = TimeOf(X509_get0_notAfter(own));
  const absl::Time now = absl::Now();
  if (is_new && out.not_after <= now) {
    return Wrong("cert_file", tls.cert_file,
                 absl::StrCat("the certificate has expired on ",
                              absl::FormatTime(out.not_after, absl::UTCTimeZone())));
  }
  if (is_new && TimeOf(X509_get0_notBefore(own)) > now)
    return Wrong("cert_file", tls.cert_file, "the certificate is not valid yet");
  const BioPtr bio = ReadMemory(out.key_pem);
  const PrivateKeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr),
                          EVP_PKEY_free);
  if (key == nullptr)
    return Wrong("key_file", tls.key_file, "holds no private key in PEM form without a password");
  if (X509_check_private_key(own, key.get()) != 1)
    return Wrong("key_file", tls.key_file, "is not the key of the certificate in cert_file");
  bool taken =
      SSL_CTX_use_certificate(context, own) == 1 && SSL_CTX_use_PrivateKey(context, key.get()) == 1;
  for (size_t i = 1; i < chain.size(); ++i)
    taken = taken && SSL_CTX_add1_chain_cert(context, chain[i].get()) == 1;
  if (!taken) return Wrong("cert_file", tls.cert_file, "the certificate is too weak or damaged");
  return absl::OkStatus();
}

absl::Status UseAuthorities(const TlsSection& tls, ClientAuth auth, TlsMaterial& out) {
  const std::vector<CertificatePtr> all = ReadCertificates(out.client_ca_pem);
  if (all.empty())
    return Wrong("client_ca_file", tls.client_ca_file, "holds no certificate in PEM form");
  X509_STORE* const store = SSL_CTX_get_cert_store(out.context.get());
  for (const CertificatePtr& one : all) {
    if (X509_STORE_add_cert(store, one.get()) != 1 ||
        SSL_CTX_add_client_CA(out.context.get(), one.get()) != 1)
      return Wrong("client_ca_file", tls.client_ca_file, "a certificate is damaged");
  }
  SSL_CTX_set_verify(
      out.context.get(),
      SSL_VERIFY_PEER | (auth == ClientAuth::kRequire ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
      nullptr);
  if (tls.client_crl_file.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string lists, ReadPem("client_crl_file", tls.client_crl_file));
  const absl::StatusOr<absl::Time> lists_end = AddRevocationLists(lists, all, store);
  if (!lists_end.ok())
    return Wrong("client_crl_file", tls.client_crl_file, Message(lists_end.status()));
  out.clients = std::make_shared<const ClientCertificates>(store, *lists_end);
  return absl::OkStatus();
}

/// `old`: whose certificate and key stay, whatever the files have; null: they are read as well.
absl::StatusOr<TlsMaterialPtr> LoadMaterial(const TlsSection& tls, ClientAuth auth,
                                            const TlsMaterial* old) {
  auto out = std::make_shared<TlsMaterial>();
  if (old != nullptr) {
    out->certificate_pem = old->certificate_pem;
    out->key_pem = old->key_pem;
  } else {
    ASSIGN_OR_RETURN(out->certificate_pem, ReadPem("cert_file", tls.cert_file));
    ASSIGN_OR_RETURN(out->key_pem, ReadPem("key_file", tls.key_file));
  }
  out->context.reset(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  SSL_CTX* const context = out->context.get();
  CHECK(context != nullptr);
  SSL_CTX_set_min_proto_version(context,
                                tls.min_version == "1.3" ? TLS1_3_VERSION : TLS1_2_VERSION);
  CHECK(SSL_CTX_set_cipher_list(context, kCiphers12) == 1);
  // No session outlives its connection: a client's certificate is looked at in each.
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(context, ChooseHttp11, nullptr);
  RETURN_IF_ERROR(UseCertificate(tls, /*is_new=*/old == nullptr, *out));
  if (auth != ClientAuth::kNone) {
    ASSIGN_OR_RETURN(out->client_ca_pem, ReadPem("client_ca_file", tls.client_ca_file));
    RETURN_IF_ERROR(UseAuthorities(tls, auth, *out));
  }
  return out;
}

}  // namespace

ClientAuth ClientAuthOf(const TlsSection& tls) {
  if (tls.client_ca_file.empty() || tls.client_auth == "none") return ClientAuth::kNone;
  return tls.client_auth == "require" ? ClientAuth::kRequire : ClientAuth::kOptional;
}

std::vector<std::string> PeerNames(const SSL* ssl) {
  std::vector<std::string> out;
  const X509* const certificate = SSL_get0_peer_certificate(ssl);
  if (certificate == nullptr || SSL_get_verify_result(ssl) != X509_V_OK) return out;
  const std::unique_ptr<GENERAL_NAMES, void (*)(GENERAL_NAMES*)> names(
      static_cast<GENERAL_NAMES*>(
          X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)),
      [](GENERAL_NAMES* all) { GENERAL_NAMES_free(all); });
  for (int i = 0; i < (names == nullptr ? 0 : sk_GENERAL_NAME_num(names.get())); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI && name->type != GEN_DNS) continue;
    const ASN1_IA5STRING* text = name->d.ia5;
    std::string value(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                      ASN1_STRING_length(text));
    if (value.find('\0') == value.npos) out.push_back(std::move(value));
  }
  return out;
}

absl::StatusOr<std::unique_ptr<TlsFiles>> TlsFiles::Load(const TlsSection& tls, ClientAuth auth,
                                                         AccessLog log) {
  std::unique_ptr<TlsFiles> files(new TlsFiles(tls, auth, std::move(log)));
  files->seen_ = files->Signature();
  ASSIGN_OR_RETURN(files->current_, LoadMaterial(tls, auth, nullptr));
  return files;
}

TlsMaterialPtr TlsFiles::current() const {
  std::lock_guard lock(mutex_);
  return current_;
}

std::string TlsFiles::Signature() const {
  return FileSignature(tls_.cert_file) + FileSignature(tls_.key_file) +
         FileSignature(tls_.client_ca_file) + FileSignature(tls_.client_crl_file);
}

void TlsFiles::TellOfListsThatEnd() {
  const TlsMaterialPtr now = current();
  if (now->clients == nullptr || now->clients->lists_end() > absl::Now() || told_end_of_ == now)
    return;
  told_end_of_ = now;
  log_(true,
       absl::StrCat("tls.client_crl_file: ", tls_.client_crl_file, ": a list has ended on ",
                    absl::FormatTime(now->clients->lists_end(), absl::UTCTimeZone()),
                    ": certificates of its authority are refused until its next one is there"));
}

void TlsFiles::Publish(TlsMaterialPtr fresh) {
  std::lock_guard lock(mutex_);
  current_ = std::move(fresh);
}

void TlsFiles::Check() {
  TellOfListsThatEnd();
  std::string signature = Signature();
  if (signature == seen_) return;
  const bool again = signature == wrong_;
  if (again && told_ && --checks_left_ > 0) return;
  checks_left_ = kChecksBetween;
  absl::StatusOr<TlsMaterialPtr> fresh = LoadMaterial(tls_, auth_, nullptr);
  if (fresh.ok()) {
    Publish(*fresh);
    seen_ = std::move(signature);
    wrong_.clear();
    told_ = false;
    log_(false, absl::StrCat("new certificates are in use, valid until ",
                             absl::FormatTime((*fresh)->not_after, absl::UTCTimeZone())));
    return;
  }
  wrong_ = std::move(signature);
  // The key may be on its way while the certificate is there: said where it stays so.
  if (!again) told_ = false;
  if (!again || std::exchange(told_, true)) return;
  log_(true, absl::StrCat("the new certificates are not used, the old ones stay: ",
                          ToAbsl(Message(fresh.status()))));
  // What is wrong with the server's own is no reason to let clients in whose certificates are revoked.
  const TlsMaterialPtr now = current();
  if (tls_.client_crl_file.empty() || auth_ == ClientAuth::kNone) return;
  if (absl::StatusOr<TlsMaterialPtr> kept = LoadMaterial(tls_, auth_, now.get()); kept.ok()) {
    Publish(*std::move(kept));
    log_(false, "the revocation lists, as they are now, are in use with the old certificates");
  }
}

}  // namespace penstock
