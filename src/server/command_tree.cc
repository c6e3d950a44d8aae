#include "server/command_tree.h"

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/strings.h"
#include "config/schema.h"

namespace penstock {
namespace {

constexpr std::pair<std::string_view, std::string_view> kExamples[] = {
    {"", "penstock serve models/demo"},
    {"serve", "penstock serve org/name --port 8000 --set engine.max_len=8192"},
    {"run", "penstock run models/demo \"Tell me of the sea.\" --max-tokens 60"},
    {"top", "penstock top --target http://127.0.0.1:8000"},
    {"plan", "penstock plan org/name --set engine.device=cuda --gpu-memory 80GiB"},
    {"doctor", "penstock doctor --config penstock.yaml"},
    {"check-config", "penstock check-config penstock.yaml"},
    {"admin", "penstock admin usage --config penstock.yaml"},
    {"admin config", "penstock admin config --socket /run/penstock/admin.sock"},
    {"admin reload", "penstock admin reload --socket /run/penstock/admin.sock"},
    {"admin drain", "penstock admin drain --socket /run/penstock/admin.sock"},
    {"admin keys", "penstock admin keys list --config penstock.yaml"},
    {"admin keys create",
     "penstock admin keys create --config penstock.yaml --tenant clinic --role user --expires-in "
     "90d"},
    {"admin keys rotate", "penstock admin keys rotate ID --overlap 24h --config penstock.yaml"},
    {"admin keys revoke", "penstock admin keys revoke ID --config penstock.yaml"},
    {"admin keys list", "penstock admin keys list --config penstock.yaml --json"},
    {"admin breakglass",
     "penstock admin breakglass --socket /run/penstock/admin.sock --reason \"the issuer is down\""},
    {"admin usage", "penstock admin usage --config penstock.yaml --tenant clinic"},
    {"admin backup", "penstock admin backup --config penstock.yaml --to /backup/state.db"},
    {"admin audit", "penstock admin audit verify --config penstock.yaml"},
    {"admin audit verify", "penstock admin audit verify --config penstock.yaml"},
    {"admin audit search", "penstock admin audit search --config penstock.yaml --tenant clinic"},
    {"admin audit export", "penstock admin audit export --config penstock.yaml --to lines.json"},
    {"admin alias", "penstock admin alias list --socket /run/penstock/admin.sock"},
    {"admin alias list", "penstock admin alias list --socket /run/penstock/admin.sock"},
    {"admin alias set",
     "penstock admin alias set chat chat-v13 --if-match chat-v12 --reason \"passed its gate\" "
     "--socket /run/penstock/admin.sock"},
    {"admin alias delete", "penstock admin alias delete chat --socket /run/penstock/admin.sock"},
    {"admin alias history", "penstock admin alias history chat --socket /run/penstock/admin.sock"},
    {"admin rollback",
     "penstock admin rollback chat --reason \"slower\" --socket /run/penstock/admin.sock"},
    {"bench", "penstock bench serve --target 127.0.0.1:8000"},
    {"bench serve", "penstock bench serve benchmarks/serving/demo.yaml --target 127.0.0.1:8000"},
    {"bench sweep", "penstock bench sweep --set goal_ttft=0.5 --target 127.0.0.1:8000"},
    {"bench compare", "penstock bench compare both.json"},
    {"bench report", "penstock bench report figures.json --output page.html"},
    {"bench kernels", "penstock bench kernels --filter 'linear/int8/.*/m:1$'"},
    {"bench offline",
     "penstock bench offline models/demo --requests 64 --set engine.quantize=int8"},
    {"eval", "penstock eval org/name --text FILE --quantize int4"},
    {"check-model", "penstock check-model models/demo --dtype float32"},
    {"inspect", "penstock inspect org/name --json"},
    {"tokenize", "echo '{\"text\": \"The sea\"}' | penstock tokenize --tokenizer tokenizer.json"},
    {"render-chat",
     "echo '{\"template\": \"{{ a }}\", \"context\": {\"a\": 1}}' | penstock render-chat"},
    {"completion", "penstock completion bash > /etc/bash_completion.d/penstock"},
    {"help", "penstock help admin keys; penstock help --man | man -l -"},
    {"version", "penstock version"},
};

std::string_view ExampleFor(std::string_view path) {
  for (const auto& [name, example] : kExamples) {
    if (name == path) return example;
  }
  return "";
}

std::vector<std::string> NamesOf(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  return names;
}

// CLI11 gives lists only of apps that may be changed, and its const ones by filter.
std::vector<const CLI::App*> ChildrenOf(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::vector<const CLI::Option*> OptionsOf(const CLI::App& app) {
  return app.get_options([](const CLI::Option*) { return true; });
}

void Describe(const CLI::App& app, std::vector<std::string> path, std::vector<CommandInfo>& out) {
  CommandInfo info;
  info.path = path;
  info.about = app.get_description();
  info.example = std::string(ExampleFor(absl::StrJoin(path, " ")));
  for (const CLI::Option* option : OptionsOf(app)) {
    OptionInfo one;
    one.names = NamesOf(*option);
    one.about = option->get_description();
    one.takes_value = option->get_items_expected_max() > 0;
    one.is_required = option->get_required();
    if (option->get_positional()) {
      OptionInfo positional = one;
      positional.is_positional = true;
      positional.names = {option->get_name(/*positional=*/true)};
      const size_t end = positional.names[0].find(',');
      if (end != std::string::npos) positional.names[0].resize(end);
      info.options.push_back(positional);
    }
    if (!one.names.empty()) info.options.push_back(one);
  }
  for (const CLI::App* child : ChildrenOf(app)) info.subcommands.push_back(child->get_name());
  out.push_back(std::move(info));
  for (const CLI::App* child : ChildrenOf(app)) {
    std::vector<std::string> below = path;
    below.push_back(child->get_name());
    Describe(*child, std::move(below), out);
  }
}

void AddExamplesFrom(CLI::App& app, const std::string& path) {
  const std::string_view example = ExampleFor(path);
  if (app.get_footer().empty() && !example.empty())
    app.footer(absl::StrCat("Example:\n  ", ToAbsl(example)));
  for (CLI::App* child : app.get_subcommands(nullptr))
    AddExamplesFrom(*child, path.empty() ? child->get_name() : path + " " + child->get_name());
}

std::string Nearest(std::string_view word, const std::vector<std::string>& known) {
  const std::vector<std::string_view> views(known.begin(), known.end());
  const std::string_view nearest = NearestName(word, views);
  // Two letters of a short word are most of it.
  const bool is_far = nearest.empty() || (word.size() <= 3 && word[0] != nearest[0]);
  return is_far ? "" : absl::StrCat("; did you mean ", ToAbsl(nearest), "?");
}

}  // namespace

std::string CommandInfo::Name(std::string_view separator) const {
  return absl::StrJoin(path, ToAbsl(separator));
}

std::vector<CommandInfo> DescribeCommands(const CLI::App& app) {
  std::vector<CommandInfo> out;
  Describe(app, {}, out);
  return out;
}

void AddExamples(CLI::App& app) { AddExamplesFrom(app, ""); }

std::string ExplainWords(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* at = &app;
  std::string path = "penstock";
  bool takes_value = false;  // the word is an option's value
  for (const std::string& word : words) {
    if (std::exchange(takes_value, false)) continue;
    if (word == "--") break;
    std::vector<std::string> known;
    bool has_positionals = false;
    if (word.starts_with('-') && word.size() > 1) {
      const std::string name = word.substr(0, word.find('='));
      bool found = false;
      for (const CLI::Option* option : OptionsOf(*at)) {
        for (const std::string& one : NamesOf(*option)) {
          if (one.starts_with("--")) known.push_back(one);
          if (one != name) continue;
          found = true;
          takes_value = option->get_items_expected_max() > 0 && name.size() == word.size();
        }
      }
      if (found || !word.starts_with("--")) continue;
      return absl::StrCat(path, " has no option ", name, Nearest(name, known));
    }
    for (const CLI::Option* option : OptionsOf(*at)) has_positionals |= option->get_positional();
    const CLI::App* next = nullptr;
    for (const CLI::App* child : ChildrenOf(*at)) {
      known.push_back(child->get_name());
      if (child->get_name() == word) next = child;
    }
    if (next != nullptr) {
      at = next;
      absl::StrAppend(&path, " ", word);
    } else if (!known.empty() && !has_positionals) {
      return absl::StrCat(path, " has no command ", word, Nearest(word, known));
    }
  }
  return "";
}

}  // namespace penstock
