// Revocation lists of clients' certificates, made here with OpenSSL's signing side.
#include "access/client_certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <fstream>
#include <iterator>

#include "absl/time/clock.h"
#include "access/tls_files.h"
#include "fakes/temp_dir.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

template <class Write>
std::string ToPem(Write write) {
  const BioPtr out(BIO_new(BIO_s_mem()), BIO_free);
  write(out.get());
  char* text = nullptr;
  const auto size = BIO_get_mem_data(out.get(), &text);
  return {text, static_cast<size_t>(size)};
}

void Extend(X509* certificate, int kind, const char* value) {
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// Seconds from now.
struct Span {
  long from = -60, to = 3600;  // NOLINT(google-runtime-int)
};

/// A certificate and its key; it may sign others.
class TestParty {
 public:
  /// `issuer` null: signs itself.
  TestParty(const char* name, const TestParty* issuer, Span span = {}) {
    static int64_t serial = 0;
    X509_set_version(own.get(), 2);
    ASN1_INTEGER_set_int64(X509_get_serialNumber(own.get()), ++serial);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(own.get()), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
    const TestParty& signer = issuer == nullptr ? *this : *issuer;
    X509_set_issuer_name(own.get(), X509_get_subject_name(signer.own.get()));
    X509_gmtime_adj(X509_getm_notBefore(own.get()), span.from);
    X509_gmtime_adj(X509_getm_notAfter(own.get()), span.to);
    X509_set_pubkey(own.get(), key.get());
    Extend(own.get(), NID_basic_constraints, "critical,CA:TRUE");
    X509_sign(own.get(), signer.key.get(), EVP_sha256());
  }
  std::string pem() const {
    return ToPem([&](BIO* out) { PEM_write_bio_X509(out, own.get()); });
  }
  std::string key_pem() const {
    return ToPem([&](BIO* out) {
      PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
  }
  /// The PEM of a list that this one signs.
  std::string List(const std::vector<const TestParty*>& revoked, Span span = {},
                   bool partial = false) const {
    const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> list(X509_CRL_new(), X509_CRL_free);
    X509_CRL_set_version(list.get(), 1);
    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(own.get()));
    const std::unique_ptr<ASN1_TIME, decltype(&ASN1_TIME_free)> time(ASN1_TIME_new(),
                                                                     ASN1_TIME_free);
    X509_CRL_set1_lastUpdate(list.get(), X509_gmtime_adj(time.get(), span.from));
    if (span.to != 0) X509_CRL_set1_nextUpdate(list.get(), X509_gmtime_adj(time.get(), span.to));
    for (const TestParty* one : revoked) {
      X509_REVOKED* const entry = X509_REVOKED_new();
      X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(one->own.get()));
      X509_REVOKED_set_revocationDate(entry, X509_gmtime_adj(time.get(), -60));
      X509_CRL_add0_revoked(list.get(), entry);
    }
    if (partial) {
      const std::unique_ptr<ASN1_INTEGER, decltype(&ASN1_INTEGER_free)> base(ASN1_INTEGER_new(),
                                                                             ASN1_INTEGER_free);
      X509_CRL_add1_ext_i2d(list.get(), NID_delta_crl, base.get(), 1, 0);
    }
    X509_CRL_sort(list.get());
    X509_CRL_sign(list.get(), key.get(), EVP_sha256());
    return ToPem([&](BIO* out) { PEM_write_bio_X509_CRL(out, list.get()); });
  }

  const KeyPtr key{EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"), EVP_PKEY_free};
  const CertificatePtr own{X509_new(), X509_free};
};

struct RevocationTest : ::testing::Test {
  using StorePtr = std::unique_ptr<X509_STORE, decltype(&X509_STORE_free)>;

  absl::StatusOr<absl::Time> Add(const std::string& lists) {
    return AddRevocationLists(lists, ReadCertificates(authorities), store.get());
  }
  std::string ErrorOf(const std::string& lists) {
    return std::string(Add(lists).status().message());
  }
  ClientCertificates Judge(const std::string& lists) {
    for (const CertificatePtr& one : ReadCertificates(authorities))
      X509_STORE_add_cert(store.get(), one.get());
    const absl::StatusOr<absl::Time> end = Add(lists);
    EXPECT_TRUE(end.ok()) << end.status();
    return {store.get(), *end};
  }

  const TestParty root{"root", nullptr}, other{"other", nullptr};
  std::string authorities = root.pem();
  StorePtr store{X509_STORE_new(), X509_STORE_free};
};

TEST_F(RevocationTest, RefusesTheRevokedAndThoseOfOthers) {
  const TestParty good("good", &root), bad("bad", &root), stranger("stranger", &other),
      ended("ended", &root, {-7200, -10});
  const ClientCertificates clients = Judge(root.List({&bad}));
  for (int i = 0; i < 2; ++i) {  // the second time from memory
    EXPECT_TRUE(clients.Accepts(good.pem(), ""));
    EXPECT_FALSE(clients.Accepts(bad.pem(), ""));
    EXPECT_FALSE(clients.Accepts(stranger.pem(), ""));
    EXPECT_FALSE(clients.Accepts(ended.pem(), ""));
  }
  EXPECT_TRUE(clients.Accepts("", "")) << "who shows none is asked for something else";
  EXPECT_FALSE(clients.Accepts("no certificate", ""));
}

TEST_F(RevocationTest, LooksAtAllOfAChain) {
  const TestParty between("between", &root), client("client", &between);
  authorities += between.pem();
  const std::string fresh = between.List({});
  const ClientCertificates good = Judge(root.List({}) + fresh);
  EXPECT_TRUE(good.Accepts(client.pem(), between.pem()));
  EXPECT_TRUE(good.Accepts(client.pem(), "")) << "the one between is an authority";
  store.reset(X509_STORE_new());
  const ClientCertificates bad = Judge(root.List({&between}) + fresh);
  EXPECT_FALSE(bad.Accepts(client.pem(), between.pem()));
  EXPECT_FALSE(bad.Accepts(client.pem(), ""));
}

TEST_F(RevocationTest, SaysWhatIsWrongWithLists) {
  EXPECT_THAT(ErrorOf("no list"), HasSubstr("holds no revocation list"));
  EXPECT_THAT(ErrorOf(root.pem()), HasSubstr("holds no revocation list"));
  const std::string list = root.List({});
  EXPECT_THAT(ErrorOf(list + list.substr(0, list.size() / 2)), HasSubstr("damaged"));
  EXPECT_EQ(ErrorOf(list + other.List({})),
            "the list of CN=other is not signed by an authority of client_ca_file");
  const TestParty impostor("root", nullptr);
  EXPECT_THAT(ErrorOf(impostor.List({})), HasSubstr("is not signed by an authority"));
  EXPECT_THAT(ErrorOf(root.List({}, {-7200, -10})), HasSubstr("the list of CN=root has ended on"));
  EXPECT_THAT(ErrorOf(root.List({}, {100, 3600})), HasSubstr("is not valid yet"));
  EXPECT_THAT(ErrorOf(root.List({}, {-60, 0})), HasSubstr("nextUpdate"));
  EXPECT_THAT(ErrorOf(root.List({}, {}, /*partial=*/true)), HasSubstr("holds changes alone"));
  authorities += other.pem();
  EXPECT_EQ(ErrorOf(list), "holds no list of the authority CN=other of client_ca_file");
  const absl::StatusOr<absl::Time> end = Add(list + other.List({}, {-60, 100}));
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_LT(*end, absl::Now() + absl::Seconds(200)) << "the first end counts";
}

TEST_F(RevocationTest, FilesAreSwappedWhileTheyAreSoundAndTheirEndIsToldOnce) {
  const TempDir dir;
  const TestParty server("server", &root), client("client", &root);
  int version = 0;
  const auto write = [&](const char* name, const std::string& text) {
    const std::string path = dir.path() + "/" + name, fresh = path + std::to_string(++version);
    std::ofstream(fresh) << text;
    std::rename(fresh.c_str(), path.c_str());
    return path;
  };
  TlsSection tls;
  tls.cert_file = write("cert", server.pem());
  tls.key_file = write("key", server.key_pem());
  tls.client_ca_file = write("ca", root.pem());
  tls.client_crl_file = dir.path() + "/crl";
  std::vector<std::string> lines;
  const AccessLog log = [&](bool, std::string_view line) { lines.emplace_back(line); };
  const auto load = [&] { return TlsFiles::Load(tls, ClientAuth::kOptional, log); };
  EXPECT_THAT(std::string(load().status().message()),
              HasSubstr("tls.client_crl_file: " + tls.client_crl_file + ": cannot be read"));
  write("crl", root.List({}, {-60, 4}));
  const auto files = load();
  ASSERT_TRUE(files.ok()) << files.status();
  const auto accepts = [&] { return (*files)->current()->clients->Accepts(client.pem(), ""); };
  while (absl::Now() < (*files)->current()->clients->lists_end())
    absl::SleepFor(absl::Milliseconds(200));
  EXPECT_FALSE(accepts()) << "its list has ended";
  for (int i = 0; i < 3; ++i) (*files)->Check();
  ASSERT_EQ(lines.size(), 1);
  EXPECT_THAT(lines[0], HasSubstr("tls.client_crl_file: "));
  EXPECT_THAT(lines[0], HasSubstr("has ended on"));
  write("crl", root.List({}));
  (*files)->Check();
  EXPECT_TRUE(accepts());
  write("crl", root.List({&client}));
  (*files)->Check();
  EXPECT_FALSE(accepts());
  write("crl", "half a list");
  for (int i = 0; i < 3; ++i) (*files)->Check();
  EXPECT_FALSE(accepts()) << "the old list stays";
  EXPECT_THAT(lines.back(), HasSubstr("tls.client_crl_file: "));
  write("crl", root.List({}));
  (*files)->Check();
  EXPECT_TRUE(accepts());
}

}  // namespace
}  // namespace penstock
