#include "access/token_keys.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

using nlohmann::json;

constexpr int kLeastRsaBits = 2048, kMostRsaBits = 8192;
constexpr size_t kMaxKeys = 64;
constexpr size_t kCoordinate = 32;  // bytes of P-256 and Ed25519

template <class T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

Owned<BIGNUM> Number(const std::string& bytes) {
  return {BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                    static_cast<int>(bytes.size()), nullptr),
          BN_free};
}

/// A member of a key in base64url; empty: it is missing or no such text.
std::string MemberOf(const json& key, const char* name) {
  const auto it = key.find(name);
  if (it == key.end() || !it->is_string()) return "";
  return DecodeBase64Url(it->get_ref<const std::string&>()).value_or("");
}

std::string WordOf(const json& key, const char* name) {
  const auto it = key.find(name);
  return it == key.end() || !it->is_string() ? "" : it->get<std::string>();
}

std::shared_ptr<EVP_PKEY> Build(const char* type, OSSL_PARAM_BLD* builder) {
  const Owned<OSSL_PARAM> params(OSSL_PARAM_BLD_to_param(builder), OSSL_PARAM_free);
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr),
                                    EVP_PKEY_CTX_free);
  EVP_PKEY* key = nullptr;
  if (params == nullptr || context == nullptr || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
    ERR_clear_error();
    return nullptr;
  }
  return {key, EVP_PKEY_free};
}

std::shared_ptr<EVP_PKEY> RsaKey(const json& json) {
  const std::string modulus = MemberOf(json, "n"), exponent = MemberOf(json, "e");
  if (modulus.empty() || modulus.size() > kMostRsaBits / 8 || exponent.empty() ||
      exponent.size() > 4 || (exponent.back() & 1) == 0 || exponent == "\x01")
    return nullptr;
  const Owned<BIGNUM> n = Number(modulus), e = Number(exponent);
  const Owned<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new(), OSSL_PARAM_BLD_free);
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  std::shared_ptr<EVP_PKEY> key = Build("RSA", builder.get());
  return key != nullptr && EVP_PKEY_get_bits(key.get()) >= kLeastRsaBits ? key : nullptr;
}

std::shared_ptr<EVP_PKEY> P256Key(const json& json) {
  const std::string x = MemberOf(json, "x"), y = MemberOf(json, "y");
  if (x.size() != kCoordinate || y.size() != kCoordinate) return nullptr;
  const std::string point = "\x04" + x + y;
  const Owned<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new(), OSSL_PARAM_BLD_free);
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                   point.size());
  std::shared_ptr<EVP_PKEY> key = Build("EC", builder.get());  // refuses what is not on the curve
  if (key == nullptr) return nullptr;
  const Owned<EVP_PKEY_CTX> check(EVP_PKEY_CTX_new_from_pkey(nullptr, key.get(), nullptr),
                                  EVP_PKEY_CTX_free);
  return EVP_PKEY_public_check(check.get()) == 1 ? key : nullptr;
}

std::shared_ptr<EVP_PKEY> Ed25519Key(const json& json) {
  const std::string x = MemberOf(json, "x");
  if (x.size() != kCoordinate) return nullptr;
  return {EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr,
                                      reinterpret_cast<const unsigned char*>(x.data()), x.size()),
          EVP_PKEY_free};
}

/// r and s side by side, as tokens have them, in the form that OpenSSL reads; empty: no such.
std::string DerSignature(const std::string& raw) {
  if (raw.size() != 2 * kCoordinate) return "";
  const Owned<ECDSA_SIG> signature(ECDSA_SIG_new(), ECDSA_SIG_free);
  Owned<BIGNUM> r = Number(raw.substr(0, kCoordinate)), s = Number(raw.substr(kCoordinate));
  if (ECDSA_SIG_set0(signature.get(), r.get(), s.get()) != 1) return "";
  static_cast<void>(r.release());  // the signature's from here on
  static_cast<void>(s.release());
  unsigned char* bytes = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &bytes);
  if (size <= 0) return "";
  std::string out(reinterpret_cast<const char*>(bytes), size);
  OPENSSL_free(bytes);
  return out;
}

bool SignatureFits(const SignedToken& token, EVP_PKEY* key) {
  const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_PKEY_CTX* options = nullptr;  // the context's
  const bool pure = token.algorithm == TokenAlgorithm::kEdDsa;
  if (EVP_DigestVerifyInit(context.get(), &options, pure ? nullptr : EVP_sha256(), nullptr, key) !=
      1)
    return false;
  if (token.algorithm == TokenAlgorithm::kPs256 &&
      (EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) != 1 ||
       EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST) != 1))
    return false;
  const std::string signature =
      token.algorithm == TokenAlgorithm::kEs256 ? DerSignature(token.signature) : token.signature;
  return !signature.empty() &&
         EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()),
                          signature.size(),
                          reinterpret_cast<const unsigned char*>(token.signed_part.data()),
                          token.signed_part.size()) == 1;
}

}  // namespace

absl::StatusOr<TokenKeys::Key> TokenKeys::ParseKey(const json& json, bool* skip) {
  const std::string type = WordOf(json, "kty"), curve = WordOf(json, "crv"),
                    use = WordOf(json, "use"), alg = WordOf(json, "alg");
  Key out;
  out.id = WordOf(json, "kid");
  if (type == "RSA") {
    out.algorithms = {TokenAlgorithm::kRs256, TokenAlgorithm::kPs256};
  } else if (type == "EC" && curve == "P-256") {
    out.algorithms = {TokenAlgorithm::kEs256};
  } else if (type == "OKP" && curve == "Ed25519") {
    out.algorithms = {TokenAlgorithm::kEdDsa};
  }
  if (!alg.empty()) {
    const std::optional<TokenAlgorithm> only = FindTokenAlgorithm(alg);
    std::erase_if(out.algorithms, [&](TokenAlgorithm a) { return a != only; });
  }
  *skip = out.algorithms.empty() || (!use.empty() && use != "sig");
  if (*skip) return out;
  out.key = type == "RSA" ? RsaKey(json) : type == "EC" ? P256Key(json) : Ed25519Key(json);
  if (out.key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("the key '", out.id, "' is damaged or too weak (RSA: 2048 bits at least)"));
  }
  return out;
}

absl::StatusOr<TokenKeys> TokenKeys::Parse(std::string_view text) {
  const std::optional<json> set = ParseStrictObject(text);
  const auto keys = set ? set->find("keys") : json::const_iterator();
  if (!set || keys == set->end() || !keys->is_array() || keys->size() > kMaxKeys)
    return absl::InvalidArgumentError("expected a JSON Web Key Set: {\"keys\": [...]}");
  TokenKeys out;
  for (const json& entry : *keys) {
    if (!entry.is_object()) return absl::InvalidArgumentError("a key is no JSON object");
    bool skip = false;
    ASSIGN_OR_RETURN(Key key, ParseKey(entry, &skip));
    if (skip) continue;
    for (const Key& other : out.keys_) {
      if (other.id == key.id && !key.id.empty())
        return absl::InvalidArgumentError(absl::StrCat("two keys are called '", key.id, "'"));
    }
    out.keys_.push_back(std::move(key));
  }
  if (out.keys_.empty())
    return absl::InvalidArgumentError("no key is for RS256, PS256, ES256 or EdDSA signatures");
  return out;
}

bool TokenKeys::Knows(const SignedToken& token) const {
  return token.key_id.empty() || std::any_of(keys_.begin(), keys_.end(), [&](const Key& key) {
           return key.id == token.key_id;
         });
}

absl::Status TokenKeys::Verify(const SignedToken& token) const {
  const Key* found = nullptr;
  for (const Key& key : keys_) {
    const bool fits = std::find(key.algorithms.begin(), key.algorithms.end(), token.algorithm) !=
                      key.algorithms.end();
    if (token.key_id.empty() ? !fits : key.id != token.key_id) continue;
    if (!fits) return absl::UnauthenticatedError("the token's key is not for its algorithm");
    if (found != nullptr) return absl::UnauthenticatedError("the token does not name its key");
    found = &key;
  }
  if (found == nullptr) return absl::UnauthenticatedError("the token's key is not known");
  const bool fits = SignatureFits(token, found->key.get());
  ERR_clear_error();
  return fits ? absl::OkStatus() : absl::UnauthenticatedError("the token's signature is wrong");
}

}  // namespace penstock
