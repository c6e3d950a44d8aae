#include "access/certificates.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <ctime>

namespace penstock {

BioPtr ReadMemory(std::string_view text) {
  return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free};
}

int NoPassword(char*, int, int, void*) { return 0; }

std::vector<CertificatePtr> ReadCertificates(std::string_view pem) {
  std::vector<CertificatePtr> out;
  const BioPtr bio = ReadMemory(pem);
  while (X509* one = PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr))
    out.emplace_back(one, X509_free);
  ERR_clear_error();
  return out;
}

absl::Time TimeOf(const ASN1_TIME* time) {
  std::tm tm{};
  if (ASN1_TIME_to_tm(time, &tm) != 1) return absl::InfinitePast();
  return absl::FromTM(tm, absl::UTCTimeZone());
}

}  // namespace penstock
