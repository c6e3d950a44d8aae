// Signed tokens: the parser, the keys and what an issuer's tokens must say. Signatures are made here
// with OpenSSL's signing side, and one is the example of RFC 8037.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "absl/strings/escaping.h"
#include "access/token_issuers.h"

namespace penstock {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

std::string Encode(std::string_view bytes) {
  std::string out = absl::WebSafeBase64Escape(absl::string_view(bytes.data(), bytes.size()));
  while (out.ends_with('=')) out.pop_back();
  return out;
}

struct KeyPair {
  KeyPair(EVP_PKEY* made, json public_part)
      : owner(made, EVP_PKEY_free), key(made), jwk(std::move(public_part)) {}
  std::shared_ptr<EVP_PKEY> owner;
  EVP_PKEY* key;
  json jwk;
};

std::string NumberOf(EVP_PKEY* key, const char* name, int pad = 0) {
  BIGNUM* number = nullptr;
  EVP_PKEY_get_bn_param(key, name, &number);
  std::string out(std::max(pad, BN_num_bytes(number)), '\0');
  BN_bn2binpad(number, reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(out.size()));
  BN_free(number);
  return out;
}

KeyPair MakeRsa(const char* id, int bits = 2048) {
  EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", static_cast<size_t>(bits));
  return {key,
          {{"kty", "RSA"},
           {"kid", id},
           {"n", Encode(NumberOf(key, "n"))},
           {"e", Encode(NumberOf(key, "e"))}}};
}
KeyPair MakeEc(const char* id) {
  EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256");
  return {key,
          {{"kty", "EC"},
           {"crv", "P-256"},
           {"kid", id},
           {"x", Encode(NumberOf(key, OSSL_PKEY_PARAM_EC_PUB_X, 32))},
           {"y", Encode(NumberOf(key, OSSL_PKEY_PARAM_EC_PUB_Y, 32))}}};
}
KeyPair MakeEd(const char* id) {
  EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  std::string x(32, '\0');
  size_t size = x.size();
  EVP_PKEY_get_raw_public_key(key, reinterpret_cast<unsigned char*>(x.data()), &size);
  return {key, {{"kty", "OKP"}, {"crv", "Ed25519"}, {"kid", id}, {"x", Encode(x)}}};
}

std::string Sign(const std::string& text, EVP_PKEY* key, bool pss) {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  EVP_PKEY_CTX* options = nullptr;
  const bool ed = EVP_PKEY_is_a(key, "ED25519") == 1;
  EVP_DigestSignInit(context, &options, ed ? nullptr : EVP_sha256(), nullptr, key);
  if (pss) {
    EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING);
    EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST);
  }
  std::string out(1024, '\0');
  size_t size = out.size();
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  EXPECT_EQ(EVP_DigestSign(context, reinterpret_cast<unsigned char*>(out.data()), &size, bytes,
                           text.size()),
            1);
  EVP_MD_CTX_free(context);
  out.resize(size);
  if (EVP_PKEY_is_a(key, "EC") != 1) return out;
  const auto* der = reinterpret_cast<const unsigned char*>(out.data());
  ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &der, static_cast<long>(size));
  std::string raw(64, '\0');
  auto* to = reinterpret_cast<unsigned char*>(raw.data());
  BN_bn2binpad(ECDSA_SIG_get0_r(pair), to, 32);
  BN_bn2binpad(ECDSA_SIG_get0_s(pair), to + 32, 32);
  ECDSA_SIG_free(pair);
  return raw;
}

json Claims() {
  return {{"iss", "https://idp"},      {"aud", "penstock"}, {"sub", "ann"},
          {"exp", 1'800'000'300},      {"org", "clinic"},   {"roles", {"user"}},
          {"nested", {{"team", "t7"}}}};
}

std::string Token(const KeyPair& pair, const char* alg, const json& claims,
                  json header = json::object()) {
  header["alg"] = alg;
  if (!header.contains("kid")) header["kid"] = pair.jwk["kid"];
  if (header["kid"].is_null()) header.erase("kid");
  const std::string text = Encode(header.dump()) + "." + Encode(claims.dump());
  return text + "." + Encode(Sign(text, pair.key, std::string_view(alg) == "PS256"));
}

class TokensTest : public ::testing::Test {
 protected:
  static TokenIssuerSection Section() {
    TokenIssuerSection section;
    section.issuer = "https://idp";
    section.audience = "penstock";
    section.tenant_claim = "org";
    section.roles_claim = "roles";
    return section;
  }
  static std::shared_ptr<TokenIssuers> Issuers(const json& keys,
                                               TokenIssuerSection section = Section()) {
    auto parsed = TokenKeys::Parse(json{{"keys", keys}}.dump());
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    return std::make_shared<TokenIssuers>(std::vector<TokenIssuer>{{section, *parsed}});
  }
  absl::StatusOr<PrincipalPtr> Verify(const std::string& token, absl::Time now = kNow) {
    return issuers_->Verify(token, roles_, now);
  }
  void Refused(const std::string& token, const char* why, absl::Time now = kNow) {
    const auto result = Verify(token, now);
    ASSERT_FALSE(result.ok()) << token;
    EXPECT_EQ(result.status().code(), absl::StatusCode::kUnauthenticated);
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(why)) << token;
  }
  static inline const KeyPair rsa_ = MakeRsa("r"), ec_ = MakeEc("e"), ed_ = MakeEd("d");
  const RoleTable roles_ = *RoleTable::Make({{"user", {"infer"}}, {"ops", {"operate"}}});
  std::shared_ptr<TokenIssuers> issuers_ = Issuers({rsa_.jwk, ec_.jwk, ed_.jwk});
};

TEST_F(TokensTest, OfTheFourAlgorithmsAreTaken) {
  for (const auto& [pair, alg] :
       {std::pair(&rsa_, "RS256"), {&rsa_, "PS256"}, {&ec_, "ES256"}, {&ed_, "EdDSA"}}) {
    const std::string token = Token(*pair, alg, Claims());
    EXPECT_TRUE(TokenIssuers::LooksLikeOne(token));
    const auto who = Verify(token);
    ASSERT_TRUE(who.ok()) << alg << who.status();
    EXPECT_EQ((*who)->tenant, "clinic");
    EXPECT_EQ((*who)->key_id, "ann");
    EXPECT_EQ((*who)->proof, Proof::kToken);
    EXPECT_TRUE((*who)->may(Permission::kInfer));
    EXPECT_FALSE((*who)->may(Permission::kOperate));
    EXPECT_EQ(*Verify(token), *who) << "remembered";
  }
}

TEST(TokenKeys, FitTheExampleOfRfc8037) {
  const auto keys = TokenKeys::Parse(
      R"({"keys":[{"kty":"OKP","crv":"Ed25519",
          "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]})");
  ASSERT_TRUE(keys.ok());
  SignedToken token;
  token.algorithm = TokenAlgorithm::kEdDsa;
  token.signed_part = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
  token.signature = *DecodeBase64Url(
      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
  EXPECT_TRUE(keys->Verify(token).ok());
  token.signed_part = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmd";
  EXPECT_FALSE(keys->Verify(token).ok());
}

TEST_F(TokensTest, EveryClaimIsHeld) {
  const auto with = [](const char* name, const json& value) {
    json claims = Claims();
    if (value.is_null())
      claims.erase(name);
    else
      claims[name] = value;
    return Token(ed_, "EdDSA", claims);
  };
  Refused(with("iss", "https://other"), "issuer is not known");
  Refused(with("iss", nullptr), "issuer is not known");
  Refused(with("iss", 7), "issuer is not known");
  Refused(with("aud", "other"), "another audience");
  Refused(with("aud", nullptr), "another audience");
  Refused(with("aud", json::array({"a", "b"})), "another audience");
  Refused(with("exp", nullptr), "never expires");
  Refused(with("exp", "1800000300"), "no number");
  Refused(with("exp", 1e300), "out of range");
  Refused(with("exp", 1'799'999'939), "expired");
  Refused(with("nbf", 1'800'000'061), "not valid yet");
  Refused(with("nbf", "soon"), "no number");
  Refused(with("org", nullptr), "no tenant");
  Refused(with("org", ""), "no tenant");
  Refused(with("org", "a b"), "no tenant");
  Refused(with("org", 5), "no tenant");
  EXPECT_TRUE(Verify(with("aud", json::array({"a", "penstock"}))).ok());
  EXPECT_TRUE(Verify(with("exp", 1'799'999'941)).ok()) << "within the leeway";
  EXPECT_TRUE(Verify(with("nbf", 1'800'000'059)).ok()) << "within the leeway";
  EXPECT_FALSE((*Verify(with("roles", json::array({"king"}))))->may(Permission::kInfer));
  EXPECT_FALSE((*Verify(with("roles", nullptr)))->may(Permission::kInfer));
  EXPECT_TRUE((*Verify(with("roles", "ops user")))->may(Permission::kOperate));
}

TEST_F(TokensTest, AreNoLongerTakenWhenTheyExpireThoughRemembered) {
  const std::string token = Token(ed_, "EdDSA", Claims());
  EXPECT_TRUE(Verify(token).ok());
  EXPECT_TRUE(Verify(token, kNow + absl::Seconds(359)).ok());
  Refused(token, "expired", kNow + absl::Seconds(360));
  const RoleTable stricter = *RoleTable::Make({{"user", {}}});
  EXPECT_FALSE((*issuers_->Verify(token, stricter, kNow))->may(Permission::kInfer));
}

TEST_F(TokensTest, WithoutSignatureOrUnderAnotherKeyAreRefused) {
  const std::string good = Token(rsa_, "RS256", Claims());
  const std::string part = good.substr(0, good.rfind('.'));
  const std::string claims = Encode(Claims().dump());
  for (const char* none :
       {"none", "None", "NONE", "nOnE", "", "HS256", "HS512", "RS512", "ES384"}) {
    const std::string head = Encode(json{{"alg", none}, {"kid", "r"}}.dump());
    Refused(head + "." + claims + ".", "algorithm is not");
    Refused(head + "." + claims + "." + Encode("x"), "algorithm is not");
  }
  Refused(part + ".", "signature is wrong");
  Refused(part + "." + Encode(std::string(256, '\0')), "signature is wrong");
  // Another key under a name that is known, a name that is not, another kind of key.
  const KeyPair thief = MakeRsa("r");
  Refused(Token(thief, "RS256", Claims()), "signature is wrong");
  Refused(Token(rsa_, "RS256", Claims(), {{"kid", "x"}}), "key is not known");
  Refused(Token(rsa_, "RS256", Claims(), {{"kid", "e"}}), "not for its algorithm");
  Refused(Token(rsa_, "RS256", Claims(), {{"kid", 7}}), "kid is no string");
  // A key that the token brings itself.
  Refused(Token(thief, "RS256", Claims(), {{"kid", "x"}, {"jwk", thief.jwk}}), "key is not known");
  Refused(Token(thief, "RS256", Claims(), {{"jwk", thief.jwk}}), "signature is wrong");
  Refused(Token(rsa_, "RS256", Claims(), {{"crit", {"exp"}}}), "what is not known");
  // PKCS #1 under the name of PSS, and a signature cut in two.
  json head = {{"alg", "PS256"}, {"kid", "r"}};
  const std::string text = Encode(head.dump()) + "." + claims;
  Refused(text + "." + Encode(Sign(text, rsa_.key, false)), "signature is wrong");
  for (const KeyPair* pair : {&ec_, &ed_}) {
    const char* alg = pair == &ec_ ? "ES256" : "EdDSA";
    const std::string token = Token(*pair, alg, Claims());
    const std::string signature = *DecodeBase64Url(token.substr(token.rfind('.') + 1));
    const std::string begin = token.substr(0, token.rfind('.') + 1);
    Refused(begin + Encode(signature.substr(0, 63)), "signature is wrong");
    Refused(begin + Encode(signature + '\0'), "signature is wrong");
    Refused(begin + Encode(std::string(64, '\0')), "signature is wrong");
    Refused(begin, "signature is wrong");
  }
}

TEST_F(TokensTest, ASharedSecretMadeOfThePublicKeyIsRefused) {
  std::string pem(4096, '\0');
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PUBKEY(bio, rsa_.key);
  pem.resize(BIO_read(bio, pem.data(), static_cast<int>(pem.size())));
  BIO_free(bio);
  for (const std::string& secret : {pem, rsa_.jwk.dump(), std::string()}) {
    const std::string text = Encode(R"({"alg":"HS256","kid":"r"})") + "." + Encode(Claims().dump());
    unsigned char mac[32];
    unsigned size = 0;
    HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size);
    Refused(text + "." + Encode({reinterpret_cast<char*>(mac), size}), "algorithm is not");
  }
}

TEST_F(TokensTest, ChangedInAnyByteAreRefused) {
  const std::string good = Token(ed_, "EdDSA", Claims());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = bad[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(Verify(bad).ok()) << i;
    EXPECT_FALSE(Verify(good.substr(0, i)).ok()) << i;
  }
  EXPECT_FALSE(Verify(good + ".").ok());
  EXPECT_FALSE(Verify(good + "=").ok());
  EXPECT_FALSE(Verify("." + good).ok());
}

TEST_F(TokensTest, WithMembersGivenTwiceAreRefused) {
  std::string claims = Claims().dump();
  claims.insert(1, R"("org":"other",)");
  const std::string text = Encode(R"({"alg":"EdDSA","kid":"d"})") + "." + Encode(claims);
  Refused(text + "." + Encode(Sign(text, ed_.key, false)), "no JSON objects");
}

TEST_F(TokensTest, WithoutKidNeedTheOnlyKeyOfTheirAlgorithm) {
  EXPECT_TRUE(Verify(Token(ec_, "ES256", Claims(), {{"kid", nullptr}})).ok());
  issuers_ = Issuers({ec_.jwk, MakeEc("e2").jwk});
  Refused(Token(ec_, "ES256", Claims(), {{"kid", nullptr}}), "does not name its key");
}

TEST_F(TokensTest, OfIssuersDoNotCountForEachOther) {
  TokenIssuerSection other = Section();
  other.issuer = "https://other";
  issuers_ = std::make_shared<TokenIssuers>(std::vector<TokenIssuer>{
      {Section(), *TokenKeys::Parse(json{{"keys", json::array({ec_.jwk})}}.dump())},
      {other, *TokenKeys::Parse(json{{"keys", json::array({ed_.jwk})}}.dump())}});
  EXPECT_TRUE(Verify(Token(ec_, "ES256", Claims())).ok());
  Refused(Token(ed_, "EdDSA", Claims()), "key is not known");
  TokenIssuerSection nested = Section();
  nested.tenant_claim = "nested.team";
  issuers_ = Issuers(json::array({ed_.jwk}), nested);
  EXPECT_EQ((*Verify(Token(ed_, "EdDSA", Claims())))->tenant, "t7");
}

TEST_F(TokensTest, KeySetsAreHeldToTheirRules) {
  const auto bad = [](const json& keys, const char* why) {
    const auto result = TokenKeys::Parse(json{{"keys", keys}}.dump());
    ASSERT_FALSE(result.ok()) << keys;
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(why)) << keys;
  };
  const auto with = [](json key, const char* name, const json& value) {
    key[name] = value;
    return json::array({key});
  };
  bad(json::array(), "no key is for");
  bad(json::array({{{"kty", "oct"}, {"k", "c2VjcmV0"}, {"kid", "r"}}}), "no key is for");
  bad(with(ec_.jwk, "use", "enc"), "no key is for");
  bad(with(ec_.jwk, "alg", "ES384"), "no key is for");
  bad(with(ec_.jwk, "y", Encode(std::string(32, 'y'))), "damaged");
  bad(with(ec_.jwk, "x", Encode(std::string(31, 'x'))), "damaged");
  bad(with(ed_.jwk, "x", "!"), "damaged");
  bad(with(rsa_.jwk, "e", Encode("\x01")), "damaged");
  bad(json::array({MakeRsa("small", 1024).jwk}), "too weak");
  bad(json::array({ec_.jwk, ec_.jwk}), "two keys");
  bad(json::array({7}), "no JSON object");
  for (const char* text : {"", "[]", "{}", R"({"keys":{}})", R"({"keys":[]})", "{\"keys\":[}"})
    EXPECT_FALSE(TokenKeys::Parse(text).ok()) << text;
  // A key that says its algorithm is for that one alone.
  issuers_ = Issuers(with(rsa_.jwk, "alg", "PS256"));
  EXPECT_TRUE(Verify(Token(rsa_, "PS256", Claims())).ok());
  Refused(Token(rsa_, "RS256", Claims()), "not for its algorithm");
}

TEST(Base64Url, HasOneSpellingForEachValue) {
  EXPECT_EQ(DecodeBase64Url("Zm9vYg"), "foob");
  EXPECT_EQ(DecodeBase64Url("-_8"), "\xfb\xff");
  EXPECT_EQ(DecodeBase64Url(""), "");
  for (const char* bad : {"Zm9vYh", "Zm9vYg==", "Z", "Zm9v\n", "Zm9+", "Zm9/", "Zm 9"})
    EXPECT_FALSE(DecodeBase64Url(bad)) << bad;
}

}  // namespace
}  // namespace penstock
