#include "text/chat_template_files.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
using Sources = std::map<std::string, std::string>;  // by name

std::optional<std::string> ReadTemplateFile(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return std::nullopt;
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

Sources SourcesFromFiles(const fs::path& dir) {
  Sources sources;
  if (std::optional<std::string> text = ReadTemplateFile(dir / "chat_template.jinja"))
    sources["default"] = *std::move(text);
  std::error_code error;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(dir / "additional_chat_templates", error)) {
    if (entry.path().extension() != ".jinja") continue;
    if (std::optional<std::string> text = ReadTemplateFile(entry.path()))
      sources[entry.path().stem().string()] = *std::move(text);
  }
  return sources;
}

// A text, or a list of named ones.
absl::StatusOr<Sources> SourcesFromJson(const nlohmann::json& config) {
  Sources sources;
  const auto it = config.find("chat_template");
  if (it == config.end() || it->is_null()) return sources;
  if (it->is_string()) {
    sources["default"] = it->get<std::string>();
    return sources;
  }
  const absl::Status wrong = absl::InvalidArgumentError(
      "\"chat_template\": expected a text or a list of {\"name\", \"template\"}");
  if (!it->is_array()) return wrong;
  for (const nlohmann::json& entry : *it) {
    if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() ||
        !entry.contains("template") || !entry["template"].is_string()) {
      return wrong;
    }
    sources[entry["name"].get<std::string>()] = entry["template"].get<std::string>();
  }
  return sources;
}

absl::StatusOr<Sources> FindSources(const std::string& dir, const nlohmann::json& config,
                                    const std::string& file) {
  if (!file.empty()) {
    std::optional<std::string> text = ReadTemplateFile(file);
    if (!text) return absl::NotFoundError(absl::StrCat(file, ": cannot be read"));
    return Sources{{"default", *std::move(text)}};
  }
  Sources sources = SourcesFromFiles(dir);
  if (!sources.empty()) return sources;
  if (const std::optional<std::string> text =
          ReadTemplateFile(fs::path(dir) / "chat_template.json")) {
    const nlohmann::json json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (json.is_object() && json.contains("chat_template")) return SourcesFromJson(json);
  }
  return config.is_object() ? SourcesFromJson(config) : sources;
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> Compile(const Sources& sources,
                                                      const std::string& name) {
  const auto it = sources.find(name);
  if (it == sources.end() || it->second.empty()) return nullptr;
  absl::StatusOr<ChatTemplate> parsed = ChatTemplate::Parse(it->second);
  if (!parsed.ok()) {
    return Annotate(parsed.status(), name == "default"
                                         ? "chat template"
                                         : absl::StrCat("chat template \"", name, "\""));
  }
  return std::make_unique<ChatTemplate>(*std::move(parsed));
}

}  // namespace

absl::StatusOr<ChatTemplates> LoadChatTemplates(const std::string& dir,
                                                const nlohmann::json& tokenizer_config,
                                                const std::string& file) {
  ASSIGN_OR_RETURN(const Sources sources, FindSources(dir, tokenizer_config, file));
  ChatTemplates templates;
  ASSIGN_OR_RETURN(templates.plain, Compile(sources, "default"));
  ASSIGN_OR_RETURN(templates.with_tools, Compile(sources, "tool_use"));
  return templates;
}

}  // namespace penstock
