// docs/configuration.md, from what the schema says of every key.
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/strings.h"
#include "config/config_diff.h"
#include "config/load_config.h"
#include "config/schema.h"

namespace penstock {
namespace {

std::string KindOfField(const ConfigField& field) {
  if (!field.choices.empty()) {
    return absl::StrJoin(field.choices, ", ", [](std::string* text, std::string_view choice) {
      absl::StrAppend(text, "`", ToAbsl(choice), "`");
    });
  }
  return std::visit(
      [&field](const auto* value) -> std::string {
        using T = std::remove_cvref_t<decltype(*value)>;
        if constexpr (std::is_same_v<T, bool>) return "`true`, `false`";
        if constexpr (std::is_same_v<T, int32_t>)
          return field.max == INT32_MAX
                     ? absl::StrCat("whole number from ", field.min)
                     : absl::StrCat("whole number, ", field.min, " to ", field.max);
        if constexpr (std::is_same_v<T, double>) return "number";
        if constexpr (std::is_same_v<T, Share>) return "share";
        if constexpr (std::is_same_v<T, Count>) return "count";
        if constexpr (std::is_same_v<T, std::string>) return "text";
        if constexpr (std::is_same_v<T, Bytes>) return "size";
        if constexpr (std::is_same_v<T, absl::Duration>) return "duration";
        if constexpr (std::is_same_v<T, std::vector<std::string>>) return "list of texts";
        if constexpr (std::is_same_v<T, std::map<std::string, std::string>>) return "texts by name";
        return "lists of texts by name";
      },
      field.ref);
}

/// In a cell of a table.
std::string Cell(std::string_view text) {
  return absl::StrReplaceAll(ToAbsl(text), {{"|", "\\|"}});
}

void PageOfSection(const ConfigSection& section, const std::string& path, std::string_view doc,
                   std::string& out) {
  const auto below = [&path](std::string_view name) {
    return path.empty() ? std::string(name) : absl::StrCat(path, ".", ToAbsl(name));
  };
  if (!section.fields.empty()) {
    const std::string title = path.empty() ? "Top level" : absl::StrCat("`", path, "`");
    absl::StrAppend(&out, "\n## ", title, "\n\n");
    if (!doc.empty()) absl::StrAppend(&out, ToAbsl(doc), "\n\n");
    out += "| key | value | default | reload | meaning |\n|---|---|---|---|---|\n";
    for (const ConfigField& field : section.fields) {
      absl::StrAppend(&out, "| `", ToAbsl(field.name), "` | ", Cell(KindOfField(field)), " | `",
                      Cell(FormatField(field)), "` | ",
                      IsLivePath(below(field.name)) ? "live" : "restart", " | ", Cell(field.doc),
                      " |\n");
    }
  }
  for (const ConfigEntries& entries : section.entries) {
    PageOfSection(entries.add("NAME"),
                  absl::StrCat(below(entries.name), entries.has_names ? ".NAME" : "[]"),
                  entries.doc, out);
  }
  for (const ConfigSection& sub : section.sections)
    PageOfSection(sub, below(sub.name), sub.doc, out);
}

}  // namespace

std::string ConfigMarkdown() {
  std::string out =
      "# Configuration\n\n"
      "Generated: `penstock check-config --configuration > docs/configuration.md`. One YAML file, "
      "strict: an unknown\n"
      "key is an error that names the nearest one. `penstock check-config FILE` reads it as "
      "`serve` would; `--schema`\n"
      "prints its JSON Schema, for editors; [configs/reference.yaml](../configs/reference.yaml) is "
      "the same as here as\n"
      "a file to copy from. Any key can be given as `--set a.b=value`, and all but those of models "
      "by the environment:\n"
      "`PENSTOCK_ENGINE_MAX_LEN=4096`. Flags go before the environment, that before the file.\n\n"
      "*size*: `64MiB`, `2GiB`. *duration*: `500ms`, `30s`, `2m`. *share*: `0.9`, `90%`. *count*: "
      "`2000`, `60k`, `2M`.\n"
      "*live*: a running server takes the change by SIGHUP or when the file changes, all together "
      "or, with any error,\n"
      "none. *restart*: `check-config --against-running` and the reload say that it needs one.\n";
  ServerConfig config;
  PageOfSection(DescribeServer(config), "", "", out);
  ModelEntry model;
  ConfigSection described = DescribeModel(model);
  described.sections.pop_back();  // its engine section repeats the one above
  PageOfSection(
      described, "models.NAME",
      absl::StrCat(
          ToAbsl(described.doc),
          " Its `engine` has the keys of [`engine`](#engine), from which it takes what it does "
          "not say."),
      out);
  return out;
}

}  // namespace penstock
