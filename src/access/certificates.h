// X.509 certificates in PEM form, read with OpenSSL.
// Owns nothing. Must not know files.
// Threads: any.
#pragma once

#include <openssl/x509.h>

#include <memory>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace penstock {

using BioPtr = std::unique_ptr<BIO, decltype(&BIO_free)>;
using CertificatePtr = std::unique_ptr<X509, decltype(&X509_free)>;

/// Reads from `text`, which outlives it.
BioPtr ReadMemory(std::string_view text);
/// As a callback of OpenSSL: what asks for a password is an error and no question on the terminal.
int NoPassword(char*, int, int, void*);
/// Those before the first that is damaged, or the end.
std::vector<CertificatePtr> ReadCertificates(std::string_view pem);
/// InfinitePast for what is no time.
absl::Time TimeOf(const ASN1_TIME* time);

}  // namespace penstock
