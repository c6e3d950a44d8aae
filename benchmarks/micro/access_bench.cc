// What it costs to find out who calls: microseconds of CPU per request for each kind of credential.
#include <openssl/evp.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "access/access_control.h"
#include "access/digest.h"
#include "access/key_text.h"

namespace penstock {
namespace {

constexpr int kRuns = 200'000;

std::string Encode(const std::string& bytes) {
  std::string out = absl::WebSafeBase64Escape(bytes);
  while (out.ends_with('=')) out.pop_back();
  return out;
}

template <class Call>
void Measure(const char* what, int runs, Call call) {
  const auto begin = std::chrono::steady_clock::now();
  int admitted = 0;
  for (int i = 0; i < runs; ++i) admitted += call(i);
  const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - begin;
  std::printf("%-34s %8.2f us  (%d of %d admitted)\n", what, time.count() / runs, admitted, runs);
}

int Main() {
  ServerConfig config;
  config.auth.api_keys = {"shared-secret"};
  config.auth.key_file.pepper_file = "pepper";
  config.auth.jwt.emplace_back();
  AccessControl control(*MakeAccessRules(config));

  const std::string pepper(32, 'p');
  std::vector<KeyRecord> records(10'000);
  std::vector<std::string> keys;
  for (KeyRecord& record : records) {
    keys.push_back(MakeKeyText());
    const KeyText text = *KeyText::Parse(keys.back());
    record.id = std::string(text.id);
    record.digest = HmacSha256(pepper, text.secret);
    record.tenant = "t";
    record.roles = {"user"};
    record.cidrs = {"10.0.0.0/8"};
  }
  control.SetKeys(std::make_shared<const std::vector<KeyRecord>>(std::move(records)), pepper);

  EVP_PKEY* const key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  std::string x(32, '\0');
  size_t size = x.size();
  EVP_PKEY_get_raw_public_key(key, reinterpret_cast<unsigned char*>(x.data()), &size);
  TokenIssuerSection section;
  section.issuer = "i";
  section.audience = "a";
  section.roles = {"user"};
  const auto issuers = [&] {
    return std::make_shared<const TokenIssuers>(std::vector<TokenIssuer>{
        {section, *TokenKeys::Parse(absl::StrCat(R"({"keys":[{"kty":"OKP","crv":"Ed25519","x":")",
                                                 Encode(x), "\"}]}"))}});
  };
  control.SetIssuers(issuers());
  const std::string text =
      absl::StrCat(Encode(R"({"alg":"EdDSA"})"), ".",
                   Encode(absl::StrCat(R"({"iss":"i","aud":"a","sub":"ann","exp":)",
                                       absl::ToUnixSeconds(absl::Now()) + 3600, "}")));
  std::string signature(64, '\0');
  size = signature.size();
  EVP_MD_CTX* const context = EVP_MD_CTX_new();
  EVP_DigestSignInit(context, nullptr, nullptr, nullptr, key);
  EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &size,
                 reinterpret_cast<const unsigned char*>(text.data()), text.size());
  EVP_MD_CTX_free(context);
  const std::string token = absl::StrCat("Bearer ", text, ".", Encode(signature));

  const IpAddress address = *IpAddress::Parse("10.1.2.3");
  const auto ask = [&](const std::string& credential) {
    const Caller caller = {credential, address};
    return control.Admit(caller, RouteAccess::Needs(Permission::kInfer), "/v1/models").ok() ? 1 : 0;
  };
  Measure("shared key", kRuns, [&](int) { return ask("Bearer shared-secret"); });
  Measure("API key, one of 10,000", kRuns, [&](int i) { return ask(keys[i % keys.size()]); });
  Measure("API key that is mistyped", kRuns,
          [&](int i) { return ask(keys[i % keys.size()] + "x"); });
  Measure("token, seen before", kRuns, [&](int) { return ask(token); });
  Measure("token, for the first time", 2'000, [&](int) {
    control.SetIssuers(issuers());
    return ask(token);
  });
  return 0;
}

}  // namespace
}  // namespace penstock

int main() { return penstock::Main(); }
