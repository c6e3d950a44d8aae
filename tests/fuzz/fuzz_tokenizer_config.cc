// libFuzzer target: any bytes as a tokenizer_config.json; its "added" and "special", where it has
// them, as the files that older directories have beside it. What they say goes on as from a
// directory: to a tokenizer, and to the chat templates.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/chat_template_files.h"
#include "text/tokenizer_config.h"

namespace {

using penstock::AddedToken;

void CheckAdded(const std::vector<AddedToken>& tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const AddedToken& token = tokens[i];
    if (token.content.empty() || token.id < 0 || token.id > penstock::kMaxAddedTokenId)
      std::abort();
    if (i > 0 && tokens[i - 1].id > token.id) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = penstock::ParseJsonObject(text, "fuzz");
  if (!config.ok()) return 0;
  for (const char* key : {"bos_token", "eos_token"}) (void)penstock::TokenText(*config, key);
  const auto options = penstock::ReadTokenizerOptions(*config, "fuzz");
  if (options.ok()) CheckAdded(options->added_tokens);
  const auto part = [&](const char* key) {
    const auto it = config->find(key);
    return it != config->end() && it->is_object() ? *it : nlohmann::json::object();
  };
  const auto added = penstock::ReadAddedTokensFile(part("added"), "fuzz", *config, part("special"));
  if (added.ok()) CheckAdded(*added);
  const auto templates = penstock::LoadChatTemplates("/nowhere", *config, "");
  if (templates.ok() && templates->plain != nullptr && !config->contains("chat_template"))
    std::abort();
  return 0;
}
