#include "access/signed_token.h"

#include <array>
#include <set>
#include <utility>
#include <vector>

namespace penstock {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 8;

constexpr std::array<int8_t, 256> MakeValues() {
  std::array<int8_t, 256> out{};
  for (int8_t& value : out) value = -1;
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (size_t i = 0; i < kAlphabet.size(); ++i)
    out[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
  return out;
}

absl::Status NoToken(const char* what) { return absl::InvalidArgumentError(what); }

}  // namespace

std::optional<TokenAlgorithm> FindTokenAlgorithm(std::string_view name) {
  if (name == "RS256") return TokenAlgorithm::kRs256;
  if (name == "PS256") return TokenAlgorithm::kPs256;
  if (name == "ES256") return TokenAlgorithm::kEs256;
  if (name == "EdDSA") return TokenAlgorithm::kEdDsa;
  return std::nullopt;
}

std::optional<std::string> DecodeBase64Url(std::string_view text) {
  static constexpr std::array<int8_t, 256> kValues = MakeValues();
  if (text.size() % 4 == 1) return std::nullopt;
  std::string out;
  out.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : text) {
    const int8_t value = kValues[static_cast<unsigned char>(c)];
    if (value < 0) return std::nullopt;
    bits = (bits << 6 | static_cast<uint32_t>(value)) & 0xffff;
    num_bits += 6;
    if (num_bits < 8) continue;
    num_bits -= 8;
    out += static_cast<char>(bits >> num_bits);
  }
  if ((bits & ((1U << num_bits) - 1)) != 0) return std::nullopt;
  return out;
}

std::optional<json> ParseStrictObject(std::string_view text) {
  std::vector<std::set<std::string>> names;
  bool sound = true;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    sound = sound && depth <= kMaxDepth;
    if (event == json::parse_event_t::object_start) names.emplace_back();
    if (event == json::parse_event_t::key)
      sound = sound && names.back().insert(parsed.get<std::string>()).second;
    if (event == json::parse_event_t::object_end) names.pop_back();
    return sound;
  };
  json out = json::parse(text, watch, /*allow_exceptions=*/false);
  if (!sound || !out.is_object()) return std::nullopt;
  return out;
}

absl::StatusOr<SignedToken> SignedToken::Parse(std::string_view text) {
  if (text.size() > kMaxTokenBytes) return NoToken("the token is too long");
  const size_t first = text.find('.'), last = text.rfind('.');
  if (first == text.npos || text.find('.', first + 1) != last || first == last)
    return NoToken("the token has not three parts");
  const std::optional<std::string> header_text = DecodeBase64Url(text.substr(0, first));
  const std::optional<std::string> claims_text =
      DecodeBase64Url(text.substr(first + 1, last - first - 1));
  std::optional<std::string> signature = DecodeBase64Url(text.substr(last + 1));
  if (!header_text || !claims_text || !signature) return NoToken("the token is not base64url");
  const std::optional<json> header = ParseStrictObject(*header_text);
  std::optional<json> claims = ParseStrictObject(*claims_text);
  if (!header || !claims) return NoToken("the token's parts are no JSON objects");
  SignedToken out;
  const auto algorithm = header->find("alg");
  const std::optional<TokenAlgorithm> known =
      algorithm != header->end() && algorithm->is_string()
          ? FindTokenAlgorithm(algorithm->get_ref<const std::string&>())
          : std::nullopt;
  if (!known) return NoToken("the token's algorithm is not RS256, PS256, ES256 or EdDSA");
  out.algorithm = *known;
  // What a header asks for that nobody here knows must not be passed over.
  for (const char* unknown : {"crit", "b64", "zip", "enc"}) {
    if (header->contains(unknown)) return NoToken("the token's header asks for what is not known");
  }
  if (const auto id = header->find("kid"); id != header->end()) {
    if (!id->is_string()) return NoToken("the token's kid is no string");
    out.key_id = id->get<std::string>();
  }
  out.claims = *std::move(claims);
  out.signed_part = text.substr(0, last);
  out.signature = *std::move(signature);
  return out;
}

}  // namespace penstock
