#include "server/config_sources.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "config/load_config.h"

namespace penstock {
namespace {

constexpr size_t kLeastPepper = 32;  // bytes

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in || std::filesystem::is_directory(path))
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  return text.str();
}

/// Secrets are file references relative to the configuration file.
std::string Beside(const std::string& config_file, const std::string& path) {
  return (std::filesystem::path(config_file).parent_path() / path).string();
}

}  // namespace

absl::StatusOr<ServerConfig> ReadConfig(const std::string& file,
                                        const std::vector<std::string>& assignments) {
  ConfigSources sources;
  sources.file_name = file;
  if (!file.empty()) {
    ASSIGN_OR_RETURN(sources.file_text, ReadFile(file));
  }
  sources.environment = PenstockEnvironment();
  sources.assignments = assignments;
  ASSIGN_OR_RETURN(ServerConfig config, LoadConfig(sources));
  if (const char* key = std::getenv("PENSTOCK_API_KEY"); key != nullptr && *key != '\0')
    config.auth.api_keys.push_back(key);
  if (!config.auth.api_key_file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(Beside(file, config.auth.api_key_file)));
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      line = absl::StripAsciiWhitespace(line);
      if (!line.empty() && line[0] != '#') config.auth.api_keys.emplace_back(line);
    }
    if (config.auth.api_keys.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("auth.api_key_file: ", config.auth.api_key_file, " holds no key"));
    }
  }
  const auto beside = [&](std::string& path) {
    if (!path.empty()) path = Beside(file, path);
  };
  beside(config.tls.cert_file);
  beside(config.tls.key_file);
  beside(config.tls.client_ca_file);
  beside(config.tls.client_crl_file);
  for (auto& [name, guard] : config.guards) {
    for (std::string* path : {&guard.file, &guard.cert_file, &guard.key_file, &guard.ca_file})
      beside(*path);
  }
  for (TokenIssuerSection& issuer : config.auth.jwt) beside(issuer.jwks_file);
  if (const std::string& pepper_file = config.auth.key_file.pepper_file; !pepper_file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(Beside(file, pepper_file)));
    config.auth.key_file.pepper = std::string(absl::StripAsciiWhitespace(text));
    if (config.auth.key_file.pepper.size() < kLeastPepper) {
      return absl::InvalidArgumentError(absl::StrCat("auth.api_keys.pepper_file: ", pepper_file,
                                                     " holds less than ", kLeastPepper,
                                                     " bytes: openssl rand -hex 32 makes enough"));
    }
  }
  beside(config.audit.sign_key_file);
  if (SharedLimitsSection& shared = config.limits.shared; !shared.password_file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(Beside(file, shared.password_file)));
    shared.password = std::string(absl::StripAsciiWhitespace(text));
  }
  return config;
}

std::set<std::string> ConfigFiles(const std::string& file, const ServerConfig& config) {
  std::set<std::string> out;
  if (!file.empty()) out.insert(file);
  if (!config.auth.api_key_file.empty()) out.insert(Beside(file, config.auth.api_key_file));
  return out;
}

}  // namespace penstock
