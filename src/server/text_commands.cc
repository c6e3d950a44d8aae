// `penstock tokenize` and `penstock render-chat`: JSON lines in, JSON lines out, so that scripts
// reach both parts.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/commands.h"
#include "server/model_instance.h"
#include "text/chat_template.h"
#include "text/tokenizer_loader.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

// What a line may nest; deeper JSON is not built.
constexpr int kMaxJsonDepth = 200;

absl::StatusOr<Json> ParseLine(const std::string& line) {
  bool too_deep = false;
  const auto watch = [&too_deep](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxJsonDepth;
    return !too_deep;
  };
  Json value = Json::parse(line, watch, /*allow_exceptions=*/false);
  if (too_deep) return absl::InvalidArgumentError("the line's JSON nests too deeply");
  if (value.is_discarded()) return absl::InvalidArgumentError("the line is not JSON");
  if (!value.is_object()) return absl::InvalidArgumentError("expected a JSON object");
  return value;
}

absl::StatusOr<std::string> StringMember(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": expected a string"));
  }
  return it->get<std::string>();
}

absl::StatusOr<Json> TokenizeLine(const Tokenizer& tokenizer, const Json& line) {
  ASSIGN_OR_RETURN(const std::string text, StringMember(line, "text"));
  const std::vector<TokenId> ids = tokenizer.Encode(text, /*add_special=*/false);
  const std::vector<TokenId> ids_special = tokenizer.Encode(text, /*add_special=*/true);
  Json out;
  out["ids"] = ids;
  out["ids_special"] = ids_special;
  out["decoded"] = tokenizer.Decode(ids, /*skip_special=*/false);
  out["decoded_skip"] = tokenizer.Decode(ids_special, /*skip_special=*/true);
  return out;
}

// "now" is ISO 8601 without a zone or a number of seconds since 1970; without it, the time is that
// of the clock.
absl::StatusOr<absl::Time> NowOf(const Json& line) {
  const auto it = line.find("now");
  if (it == line.end() || it->is_null()) return absl::Now();
  if (it->is_number()) return absl::UnixEpoch() + absl::Seconds(it->get<double>());
  absl::Time now;
  std::string error;
  if (it->is_string()) {
    for (const char* format :
         {"%Y-%m-%dT%H:%M:%E*S", "%Y-%m-%d %H:%M:%E*S", "%Y-%m-%d", absl::RFC3339_full}) {
      if (absl::ParseTime(format, it->get<std::string>(), &now, &error)) return now;
    }
  }
  return absl::InvalidArgumentError("\"now\": expected a time such as 2024-07-26T12:34:56");
}

absl::StatusOr<Json> RenderLine(const Json& line) {
  ASSIGN_OR_RETURN(const std::string source, StringMember(line, "template"));
  ASSIGN_OR_RETURN(const absl::Time now, NowOf(line));
  ASSIGN_OR_RETURN(const ChatTemplate chat_template, ChatTemplate::Parse(source));
  const auto context = line.find("context");
  ASSIGN_OR_RETURN(
      std::string text,
      chat_template.Render(context == line.end() || context->is_null() ? Json::object() : *context,
                           now));
  Json out;
  out["text"] = std::move(text);
  return out;
}

// One answer per line; a line that fails is answered by {"error"} and the next one is read.
template <class Answer>
void AnswerLines(Answer answer) {
  std::string line;
  while (std::getline(std::cin, line)) {
    const absl::StatusOr<Json> parsed = ParseLine(line);
    const absl::StatusOr<Json> result = parsed.ok() ? answer(*parsed) : parsed.status();
    Json out;
    if (result.ok()) {
      out = *result;
    } else {
      out["error"] = std::string(Message(result.status()));
    }
    std::cout << out.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }
}

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerAt(const std::string& path) {
  if (!path.ends_with(".gguf")) return LoadTokenizer(path);
  ASSIGN_OR_RETURN(TextAssets assets, LoadGgufTextAssets(path, ""));
  if (assets.tokenizer == nullptr)
    return absl::InvalidArgumentError(absl::StrCat(path, ": the file has no vocabulary"));
  return std::move(assets.tokenizer);
}

int RunTokenize(const std::string& path) {
  const absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = TokenizerAt(path);
  if (!tokenizer.ok()) {
    std::cerr << "penstock: " << Message(tokenizer.status()) << "\n";
    return 1;
  }
  AnswerLines([&](const Json& line) { return TokenizeLine(**tokenizer, line); });
  return 0;
}

}  // namespace

void AddTextCommands(CLI::App& app, int& exit_code) {
  CLI::App* tokenize = app.add_subcommand(
      "tokenize",
      "JSON lines {\"text\"} in, {\"ids\",\"ids_special\",\"decoded\",\"decoded_skip\"} out");
  auto path = std::make_shared<std::string>();
  tokenize->add_option("--tokenizer", *path, "A tokenizer.json, or a GGUF file")->required();
  tokenize->callback([path, &exit_code] { exit_code = RunTokenize(*path); });

  CLI::App* render = app.add_subcommand(
      "render-chat",
      "JSON lines {\"template\",\"context\",\"now\"} in, {\"text\"} or {\"error\"} out");
  render->callback([&exit_code] {
    AnswerLines(RenderLine);
    exit_code = 0;
  });
}

}  // namespace penstock
