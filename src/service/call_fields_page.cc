// docs/api.md.
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/strings.h"
#include "service/call_fields.h"

namespace penstock {
namespace {

struct Column {
  Surface surface;
  const char* title;
};

constexpr Column kColumns[] = {
    {kCompletions, "completions"},
    {kChat, "chat"},
    {kMessages, "messages"},
    {kResponses, "responses"},
    {kEmbeddings, "embeddings"},
    {kRerank, "rerank"},
    {kTokenize, "tokenize"},
    {kDetokenize, "detokenize"},
    {kLoadAdapter, "load_lora_adapter"},
    {kUnloadAdapter, "unload_lora_adapter"},
    {kGrpcGenerate, "Generate"},
    {kGrpcChat, "Chat"},
    {kGrpcEmbed, "Embed"},
    {kGrpcTokenize, "Tokenize"},
    {kGrpcDetokenize, "Detokenize"},
};

std::string Where(uint16_t surfaces) {
  std::vector<std::string> names;
  for (const Column& column : kColumns) {
    if ((surfaces & column.surface) != 0) names.emplace_back(column.title);
  }
  return absl::StrJoin(names, ", ");
}

std::string Cell(std::string_view text) {
  return absl::StrReplaceAll(ToAbsl(text), {{"|", "\\|"}});
}

}  // namespace

std::string CallFieldsMarkdown() {
  std::string page =
      "# Request fields\n\n"
      "Generated: `penstock check-config --api > docs/api.md`. `completions`, `chat`, `messages`, "
      "`responses`, `embeddings`, `rerank`,\n`tokenize`, `detokenize`, `load_lora_adapter` and "
      "`unload_lora_adapter` are the routes of HTTP; `Generate`, `Chat`\nand `Embed` are calls of "
      "`penstock.v1.Inference`, each also the streamed form where there is one. A value of a "
      "wrong "
      "type or out of range is a 400 (INVALID_ARGUMENT) that names the field;\n`null`, as a field "
      "left out, is the default; unknown fields are ignored.\n\n"
      "| field | value | where | meaning |\n|---|---|---|---|\n";
  for (const CallField& field : CallFields()) {
    absl::StrAppend(&page, "| `", ToAbsl(field.name), "` | ", Cell(ExpectedValue(field)), " | ",
                    Where(field.surfaces), " | ", Cell(field.doc), " |\n");
  }
  page +=
      "\n## Refused\n\n"
      "What would change the result and is not supported is a 400 where it is used; empty, false "
      "or null it is ignored.\n\n"
      "| field | where | why, or what instead |\n|---|---|---|\n";
  for (const UnsupportedField& field : UnsupportedFields()) {
    absl::StrAppend(&page, "| `", ToAbsl(field.name), "` | ", Where(field.surfaces), " | ",
                    Cell(field.instead), " |\n");
  }
  return page;
}

}  // namespace penstock
