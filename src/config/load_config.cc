#include "config/load_config.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <set>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "config/schema.h"

namespace penstock {
namespace {

std::vector<std::string_view> Names(const ConfigSection& section) {
  std::vector<std::string_view> names;
  for (const ConfigField& field : section.fields) names.push_back(field.name);
  for (const ConfigSection& sub : section.sections) names.push_back(sub.name);
  for (const ConfigEntries& entries : section.entries) names.push_back(entries.name);
  return names;
}

absl::Status UnknownKey(std::string_view where, std::string_view path, std::string_view key,
                        const std::vector<std::string_view>& names) {
  const std::string_view nearest = NearestName(key, names);
  std::string hint;
  if (!nearest.empty()) {
    hint = absl::StrCat(", did you mean '", ToAbsl(nearest), "'?");
  } else {
    hint = absl::StrCat(
        "; known: ",
        absl::StrJoin(names, ", ", [](std::string* s, std::string_view n) { s->append(n); }));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      ToAbsl(where), ToAbsl(path), path.empty() ? "" : ".", ToAbsl(key), ": unknown key", hint));
}

std::string Join(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : absl::StrCat(ToAbsl(path), ".", ToAbsl(key));
}

/// One YAML document applied to descriptions; every message begins with file:line.
class YamlReader {
 public:
  explicit YamlReader(std::string file) : file_(std::move(file)) {}

  absl::Status CheckMap(const YAML::Node& node, std::string_view path) const {
    if (!node.IsMap()) return Error(node, path, "expected a mapping of keys");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) return Error(entry.first, path, "expected plain keys");
      if (!seen.insert(entry.first.Scalar()).second) {
        return Error(entry.first, Join(path, entry.first.Scalar()), "the key is given twice");
      }
    }
    return absl::OkStatus();
  }

  /// `skip`: a key that the caller reads itself.
  absl::Status Apply(const YAML::Node& node, const ConfigSection& section, const std::string& path,
                     std::string_view skip = "") const {
    RETURN_IF_ERROR(CheckMap(node, path));
    for (const auto& entry : node) {
      const std::string key = entry.first.Scalar();
      if (!skip.empty() && key == skip) continue;
      const auto field = std::find_if(section.fields.begin(), section.fields.end(),
                                      [&](const ConfigField& f) { return f.name == key; });
      if (field != section.fields.end()) {
        RETURN_IF_ERROR(Set(*field, entry.second, Join(path, key)));
        continue;
      }
      const auto entries = std::find_if(section.entries.begin(), section.entries.end(),
                                        [&](const ConfigEntries& e) { return e.name == key; });
      if (entries != section.entries.end()) {
        RETURN_IF_ERROR(Add(*entries, entry.second, Join(path, key)));
        continue;
      }
      const auto sub = std::find_if(section.sections.begin(), section.sections.end(),
                                    [&](const ConfigSection& s) { return s.name == key; });
      if (sub == section.sections.end()) {
        std::vector<std::string_view> names = Names(section);
        if (!skip.empty()) names.push_back(skip);
        return UnknownKey(Where(entry.first), path, key, names);
      }
      if (!entry.second.IsNull()) RETURN_IF_ERROR(Apply(entry.second, *sub, Join(path, key)));
    }
    return absl::OkStatus();
  }

 private:
  std::string Where(const YAML::Node& node) const {
    return absl::StrCat(file_, ":", node.Mark().line + 1, ": ");
  }
  absl::Status Error(const YAML::Node& node, std::string_view path, std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(Where(node), ToAbsl(path), path.empty() ? "" : ": ", ToAbsl(what)));
  }

  absl::Status Add(const ConfigEntries& entries, const YAML::Node& node,
                   const std::string& path) const {
    if (node.IsNull()) return absl::OkStatus();
    if (!entries.has_names) {
      if (!node.IsSequence()) return Error(node, path, "expected a list");
      for (size_t i = 0; i < node.size(); ++i)
        RETURN_IF_ERROR(Apply(node[i], entries.add(""), absl::StrCat(path, "[", i, "]")));
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(CheckMap(node, path));
    for (const bool of_all : {true, false}) {  // what the others begin from comes first
      for (const auto& entry : node) {
        const std::string name = entry.first.Scalar();
        if ((name == "*") != of_all) continue;
        RETURN_IF_ERROR(Apply(entry.second, entries.add(name), Join(path, name)));
      }
    }
    return absl::OkStatus();
  }

  absl::Status SetLists(std::map<std::string, std::vector<std::string>>& lists,
                        const YAML::Node& node, const std::string& path) const {
    RETURN_IF_ERROR(CheckMap(node, path));
    lists.clear();
    for (const auto& entry : node) {
      const std::string name = entry.first.Scalar();
      const ConfigField field{name, &lists[name], ""};
      RETURN_IF_ERROR(Set(field, entry.second, Join(path, name)));
    }
    return absl::OkStatus();
  }

  absl::Status Set(const ConfigField& field, const YAML::Node& node,
                   const std::string& path) const {
    if (auto* const* lists =
            std::get_if<std::map<std::string, std::vector<std::string>>*>(&field.ref);
        lists != nullptr && node.IsMap()) {
      return SetLists(**lists, node, path);
    }
    if (auto* const* list = std::get_if<std::vector<std::string>*>(&field.ref);
        list != nullptr && node.IsSequence()) {
      (*list)->clear();
      for (const YAML::Node& item : node) {
        if (!item.IsScalar()) return Error(item, path, "expected a list of strings");
        (*list)->push_back(item.Scalar());
      }
      return absl::OkStatus();
    }
    if (auto* const* names = std::get_if<std::map<std::string, std::string>*>(&field.ref);
        names != nullptr && node.IsMap()) {
      RETURN_IF_ERROR(CheckMap(node, path));
      (*names)->clear();
      for (const auto& entry : node) {
        const std::string name = entry.first.Scalar();
        if (!entry.second.IsScalar())
          return Error(entry.second, Join(path, name), "expected a single value");
        (**names)[name] = entry.second.Scalar();
      }
      return absl::OkStatus();
    }
    if (!node.IsScalar()) return Error(node, path, "expected a single value");
    const absl::Status status = SetField(field, node.Scalar());
    return status.ok() ? status : Error(node, path, Message(status));
  }

  std::string file_;
};

/// Sets `path` (split) below `section`.
absl::Status Assign(const ConfigSection& section, absl::Span<const std::string> path,
                    std::string_view value, const std::string& whole) {
  for (const ConfigField& field : section.fields) {
    if (path.size() == 1 && field.name == path[0]) return Annotate(SetField(field, value), whole);
  }
  for (const ConfigSection& sub : section.sections) {
    if (path.size() > 1 && sub.name == path[0]) return Assign(sub, path.subspan(1), value, whole);
  }
  return UnknownKey(absl::StrCat(whole, ": "), "", path[0], Names(section));
}

struct Assignment {
  std::vector<std::string> path;
  std::string value;
  std::string whole;  // the path as it was written
};

absl::StatusOr<std::vector<Assignment>> ParseAssignments(const std::vector<std::string>& texts) {
  std::vector<Assignment> out;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    if (equals == text.npos || equals == 0) {
      return absl::InvalidArgumentError(absl::StrCat("--set ", text, ": expected key.path=value"));
    }
    const std::string path = text.substr(0, equals);
    out.push_back({absl::StrSplit(path, '.'), text.substr(equals + 1), path});
  }
  return out;
}

/// PENSTOCK_<SECTION>_<FIELD>; other PENSTOCK_ variables are none of ours.
absl::Status ApplyEnvironment(const ConfigSection& root,
                              const std::vector<std::pair<std::string, std::string>>& environment) {
  for (const auto& variable : environment) {
    const std::string &name = variable.first, &value = variable.second;
    std::function<absl::Status(const ConfigSection&, const std::string&)> apply =
        [&](const ConfigSection& section, const std::string& prefix) -> absl::Status {
      for (const ConfigField& field : section.fields) {
        if (name == prefix + absl::AsciiStrToUpper(ToAbsl(field.name)))
          return Annotate(SetField(field, value), name);
      }
      for (const ConfigSection& sub : section.sections) {
        const std::string sub_prefix =
            absl::StrCat(prefix, absl::AsciiStrToUpper(ToAbsl(sub.name)), "_");
        if (name.starts_with(sub_prefix)) return apply(sub, sub_prefix);
      }
      if (section.name.empty()) return absl::OkStatus();
      const std::string key = absl::AsciiStrToLower(name.substr(prefix.size()));
      return UnknownKey(absl::StrCat(name, ": "), section.name, key, Names(section));
    };
    RETURN_IF_ERROR(apply(root, "PENSTOCK_"));
  }
  return absl::OkStatus();
}

/// Hears where documents begin, and no more.
class DocumentStarts final : public YAML::EventHandler {
 public:
  int line() const { return line_; }  // of the last one, from 1
  void OnDocumentStart(const YAML::Mark& mark) override { line_ = mark.line + 1; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  int line_ = 0;
};

/// 0: there is one document at most. What the library would read as the second may never end, so no
/// more than two are begun.
int SecondDocumentLine(const std::string& text) {
  std::istringstream in(text);
  YAML::Parser parser(in);
  DocumentStarts starts;
  if (!parser.HandleNextDocument(starts) || !parser.HandleNextDocument(starts)) return 0;
  return std::max(1, starts.line());
}

absl::Status ReadModels(const YAML::Node& models, const YamlReader& reader, ServerConfig& config) {
  RETURN_IF_ERROR(reader.CheckMap(models, "models"));
  for (const auto& entry : models) {
    const std::string name = entry.first.Scalar();
    ModelEntry model;
    model.engine = config.engine;
    RETURN_IF_ERROR(reader.Apply(entry.second, DescribeModel(model), Join("models", name)));
    config.models[name] = std::move(model);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ServerConfig> LoadConfig(const ConfigSources& sources) {
  ServerConfig config;
  ConfigSection root = DescribeServer(config);
  YAML::Node document;
  if (!sources.file_text.empty()) {
    try {
      document = YAML::Load(sources.file_text);
      if (const int line = SecondDocumentLine(sources.file_text); line > 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(sources.file_name, ":", line, ": a second document begins: expected one"));
      }
    } catch (const YAML::Exception& e) {
      return absl::InvalidArgumentError(
          absl::StrCat(sources.file_name, ":", e.mark.line + 1, ": ", e.msg));
    }
  }
  const YamlReader reader(sources.file_name);
  const bool has_file = document.IsDefined() && !document.IsNull();
  if (has_file) RETURN_IF_ERROR(reader.Apply(document, root, "", "models"));
  RETURN_IF_ERROR(ApplyEnvironment(root, sources.environment));
  ASSIGN_OR_RETURN(const std::vector<Assignment> assignments,
                   ParseAssignments(sources.assignments));
  // The models copy the engine section, so it must be complete before any of them is read.
  for (const Assignment& a : assignments) {
    if (a.path[0] != "models") RETURN_IF_ERROR(Assign(root, a.path, a.value, a.whole));
  }
  if (has_file && document["models"])
    RETURN_IF_ERROR(ReadModels(document["models"], reader, config));
  for (const Assignment& a : assignments) {
    if (a.path[0] != "models") continue;
    if (a.path.size() < 3) {
      return absl::InvalidArgumentError(
          absl::StrCat(a.whole, ": expected models.<name>.<key>=value"));
    }
    ModelEntry fresh;
    fresh.engine = config.engine;
    ModelEntry& model = config.models.try_emplace(a.path[1], std::move(fresh)).first->second;
    RETURN_IF_ERROR(
        Assign(DescribeModel(model), absl::MakeConstSpan(a.path).subspan(2), a.value, a.whole));
  }
  return config;
}

}  // namespace penstock
