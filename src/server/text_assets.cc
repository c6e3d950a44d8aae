#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/status_macros.h"
#include "base/strings.h"
#include "server/model_instance.h"
#include "service/generation_config.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_loader.h"
#include "text/vocabulary_directory.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::optional<std::string> ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

/// An object; an empty one where the file is absent.
absl::StatusOr<Json> ReadJson(const fs::path& path) {
  const std::optional<std::string> text = ReadFile(path);
  if (!text) return Json::object();
  return ParseJsonObject(*text, path.string());
}

/// tokenizer.json, else a SentencePiece model, else a tiktoken file; empty where there is none.
fs::path TokenizerFile(const fs::path& dir) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tiktoken.model", "spiece.model",
                           "sentencepiece.bpe.model"}) {
    if (fs::exists(dir / name)) return dir / name;
  }
  fs::path found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir, error)) {
    const bool is_first = found.empty() || entry.path() < found;
    if (entry.path().extension() == ".tiktoken" && is_first) found = entry.path();
  }
  return found;
}

/// With those of added_tokens.json where the configuration has none of its own.
absl::StatusOr<TokenizerOptions> TokenizerOptionsOf(const Json& config, const fs::path& path) {
  ASSIGN_OR_RETURN(TokenizerOptions options, ReadTokenizerOptions(config, path.string()));
  if (config.contains("added_tokens_decoder")) return options;
  const fs::path added_path = path.parent_path() / "added_tokens.json";
  ASSIGN_OR_RETURN(const Json added, ReadJson(added_path));
  ASSIGN_OR_RETURN(const Json map, ReadJson(path.parent_path() / "special_tokens_map.json"));
  ASSIGN_OR_RETURN(options.added_tokens,
                   ReadAddedTokensFile(added, added_path.string(), config, map));
  return options;
}

absl::StatusOr<GenerationDefaults> ReadGeneration(const fs::path& dir) {
  const fs::path path = dir / "generation_config.json";
  ASSIGN_OR_RETURN(const Json json, ReadJson(path));
  ASSIGN_OR_RETURN(GenerationDefaults out, ReadGenerationDefaults(json, path.string()));
  if (!out.eos_token_ids.empty()) return out;
  const fs::path config_path = dir / "config.json";
  ASSIGN_OR_RETURN(const Json config, ReadJson(config_path));
  RETURN_IF_ERROR(ReadEosTokenIds(config, config_path.string(), out.eos_token_ids));
  if (out.eos_token_ids.empty() && config.contains("text_config") &&
      config["text_config"].is_object()) {
    RETURN_IF_ERROR(
        ReadEosTokenIds(config["text_config"], config_path.string(), out.eos_token_ids));
  }
  return out;
}

}  // namespace

absl::StatusOr<TextAssets> LoadTextAssets(const std::string& dir,
                                          const std::string& chat_template) {
  if (dir.ends_with(".gguf")) return LoadGgufTextAssets(dir, chat_template);
  TextAssets assets;
  ASSIGN_OR_RETURN(assets.defaults, ReadGeneration(dir));
  const fs::path config_path = fs::path(dir) / "tokenizer_config.json";
  ASSIGN_OR_RETURN(const Json config, ReadJson(config_path));
  if (const fs::path file = TokenizerFile(dir); !file.empty()) {
    ASSIGN_OR_RETURN(const TokenizerOptions options, TokenizerOptionsOf(config, config_path));
    ASSIGN_OR_RETURN(assets.tokenizer, LoadTokenizer(file.string(), options));
  } else if (HasVocabularyFiles(dir)) {
    ASSIGN_OR_RETURN(const TokenizerOptions options, TokenizerOptionsOf(config, config_path));
    ASSIGN_OR_RETURN(assets.tokenizer, LoadVocabularyFiles(dir, config, options));
  }
  assets.bos_token = TokenText(config, "bos_token");
  assets.eos_token = TokenText(config, "eos_token");
  if (assets.tokenizer != nullptr && assets.defaults.eos_token_ids.empty()) {
    if (const auto id = assets.tokenizer->TokenToId(assets.eos_token))
      assets.defaults.eos_token_ids.push_back(*id);
  }
  absl::StatusOr<ChatTemplates> templates = LoadChatTemplates(dir, config, chat_template);
  if (!templates.ok()) {
    return Annotate(templates.status(), chat_template.empty() ? dir : "--chat-template");
  }
  assets.chat_templates = *std::move(templates);
  return assets;
}

}  // namespace penstock
