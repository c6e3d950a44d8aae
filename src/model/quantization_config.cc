#include "model/quantization_config.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/json_text.h"
#include "model/config_reader.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxConfigFileBytes = 64 << 20;
constexpr size_t kMaxPatterns = 16384;
constexpr int32_t kMaxGroup = 1024;
constexpr int32_t kMaxBlock = 4096;

/// Reads one object of the section; `path` leads to it.
class SectionReader {
 public:
  SectionReader(const Json& json, std::string_view what, std::string path)
      : reader_(json, absl::StrCat(ToAbsl(what), ": ", path)),
        what_(what),
        path_(std::move(path)) {}

  ConfigReader& keys() { return reader_; }
  const absl::Status& status() const { return status_.ok() ? reader_.status() : status_; }

  void Unsupported(std::string_view key, std::string_view problem) {
    if (!status().ok()) return;
    status_ = absl::UnimplementedError(
        absl::StrCat(ToAbsl(what_), ": ", path_, ".", ToAbsl(key), ": ", ToAbsl(problem)));
  }
  /// A key whose value, where there is one, must be one of `known`.
  std::string OneOf(std::string_view key, std::string_view fallback,
                    std::initializer_list<std::string_view> known) {
    const std::string value = absl::AsciiStrToLower(reader_.String(key, fallback));
    std::string list;
    for (const std::string_view name : known) {
      if (value == name) return value;
      absl::StrAppend(&list, list.empty() ? "" : ", ", ToAbsl(name));
    }
    Unsupported(key, absl::StrCat("\"", value, "\" is not supported; known are ", list));
    return value;
  }
  /// A key that must be absent, null, empty or false.
  void MustBeUnset(std::string_view key) {
    const Json* value = reader_.Find(key);
    if (value == nullptr || (value->is_boolean() && !value->get<bool>())) return;
    if (value->is_structured() && value->empty()) return;
    Unsupported(key, "is not supported");
  }
  std::vector<NamePattern> Patterns(std::string_view key) {
    std::vector<NamePattern> patterns;
    const Json* list = reader_.Find(key);
    if (list == nullptr) return patterns;
    if (!list->is_array() || list->size() > kMaxPatterns) {
      reader_.Fail(key, absl::StrCat("expected a list of at most ", kMaxPatterns, " strings"));
      return patterns;
    }
    for (const Json& entry : *list) {
      if (!entry.is_string()) {
        reader_.Fail(key, "expected a list of strings");
        return patterns;
      }
      auto pattern = NamePattern::Parse(entry.get_ref<const std::string&>());
      if (!pattern.ok()) {
        reader_.Fail(key, Message(pattern.status()));
        return patterns;
      }
      patterns.push_back(*std::move(pattern));
    }
    return patterns;
  }
  /// Columns of a group, 0 where the key says -1: the row.
  int64_t Group(std::string_view key) {
    const int32_t group = reader_.Int(key, std::nullopt, -1, kMaxGroup);
    if (group == -1) return 0;
    if (group < 16 || (group & (group - 1)) != 0) {
      reader_.Fail(key, absl::StrCat("is ", group, ", expected -1 or a power of two from 16 on"));
    }
    return group;
  }
  /// [rows, columns] that share a scale.
  void Block(std::string_view key, QuantScheme& scheme) {
    const Json* block = reader_.Find(key);
    const auto side = [&](size_t i) -> int64_t {
      if (block == nullptr || !block->is_array() || block->size() != 2) return 0;
      const Json& value = (*block)[i];
      return value.is_number_unsigned() && value.get<uint64_t>() <= kMaxBlock ? value.get<int64_t>()
                                                                              : 0;
    };
    scheme.block_rows = side(0);
    scheme.group = side(1);
    if (scheme.block_rows == 0 || scheme.group < 16) {
      reader_.Fail(key, absl::StrCat("expected [rows, columns] from [1, 16] to [", kMaxBlock, ", ",
                                     kMaxBlock, "]"));
    }
  }
  int32_t Bits(std::string_view key) {
    const int32_t bits = reader_.Int(key, std::nullopt, 1, 16);
    if (bits != 4 && bits != 8) Unsupported(key, absl::StrCat("is ", bits, ", expected 4 or 8"));
    return bits;
  }

 private:
  ConfigReader reader_;
  std::string what_;
  std::string path_;
  absl::Status status_;
};

void ReadGptq(SectionReader& section, QuantizationConfig& out) {
  QuantScheme scheme;
  scheme.storage = CodeStorage::kGptq;
  scheme.bits = section.Bits("bits");
  scheme.group = section.Group("group_size");
  scheme.symmetric = section.keys().Bool("sym", true);
  section.keys().Bool("desc_act", false);
  scheme.zero_minus_one = section.OneOf("checkpoint_format", "gptq", {"gptq", "gptq_v2"}) == "gptq";
  section.OneOf("pack_dtype", "int32", {"int32"});
  section.MustBeUnset("dynamic");
  section.MustBeUnset("is_marlin_format");
  out.groups.push_back({{}, scheme});
  out.excluded = section.Patterns("modules_to_not_convert");
}

void ReadAwq(SectionReader& section, QuantizationConfig& out) {
  QuantScheme scheme;
  scheme.storage = CodeStorage::kAwq;
  scheme.bits = section.Bits("bits");
  if (scheme.bits == 8) section.Unsupported("bits", "is 8, expected 4");
  scheme.group = section.Group("group_size");
  scheme.symmetric = false;
  if (!section.keys().Bool("zero_point", true)) {
    section.Unsupported("zero_point", "is false, expected true");
  }
  section.OneOf("version", "gemm", {"gemm"});
  out.groups.push_back({{}, scheme});
  out.excluded = section.Patterns("modules_to_not_convert");
}

void ReadFp8(SectionReader& section, QuantizationConfig& out) {
  QuantScheme scheme;
  scheme.storage = CodeStorage::kFloat8;
  scheme.bits = 8;
  section.OneOf("fmt", "e4m3", {"e4m3", "float8_e4m3fn"});
  section.OneOf("activation_scheme", "dynamic", {"dynamic", "static"});
  if (section.keys().Find("weight_block_size") != nullptr) {
    section.Block("weight_block_size", scheme);
  } else {
    scheme.per_tensor = true;
  }
  out.groups.push_back({{}, scheme});
  out.excluded = section.Patterns("modules_to_not_convert");
  for (NamePattern& pattern : section.Patterns("ignored_layers")) {
    out.excluded.push_back(std::move(pattern));
  }
}

void ReadMxfp4(SectionReader& section, QuantizationConfig& out) {
  QuantScheme scheme;
  scheme.storage = CodeStorage::kMxfp4;
  scheme.group = 32;
  out.groups.push_back({{}, scheme});
  out.excluded = section.Patterns("modules_to_not_convert");
}

/// The `weights` of one of compressed-tensors' config_groups.
QuantScheme ReadWeightArgs(SectionReader& weights, std::string_view format) {
  QuantScheme scheme;
  scheme.bits = weights.Bits("num_bits");
  const bool is_float = weights.OneOf("type", "int", {"int", "float"}) == "float";
  scheme.symmetric = weights.keys().Bool("symmetric", true);
  if (weights.keys().Bool("dynamic", false)) weights.Unsupported("dynamic", "is true");
  weights.OneOf("actorder", "group", {"group", "weight", "static", "dynamic"});
  scheme.storage = format == "pack-quantized" ? CodeStorage::kPacked
                   : is_float                 ? CodeStorage::kFloat8
                                              : CodeStorage::kInt8;
  if (is_float && (scheme.bits != 8 || format == "pack-quantized" || !scheme.symmetric)) {
    weights.Unsupported("type", "is float, expected with 8 bits, symmetric and not packed");
  }
  if (!is_float && format == "float-quantized") {
    weights.Unsupported("type", "is int in format float-quantized");
  }
  const std::string strategy =
      weights.OneOf("strategy", weights.keys().Find("group_size") == nullptr ? "tensor" : "group",
                    {"tensor", "channel", "group", "block"});
  scheme.per_tensor = strategy == "tensor";
  if (strategy == "group") scheme.group = weights.Group("group_size");
  if (strategy == "block") weights.Block("block_structure", scheme);
  return scheme;
}

absl::Status ReadConfigGroup(const Json& json, std::string_view what, const std::string& path,
                             const std::string& default_format, QuantizationConfig& out) {
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(what), ": ", path, ": expected an object"));
  }
  SectionReader section(json, what, path);
  const std::string format =
      section.OneOf("format", default_format,
                    {"pack-quantized", "int-quantized", "float-quantized", "naive-quantized"});
  QuantizationConfig::Group group;
  group.targets = section.Patterns("targets");
  for (const NamePattern& target : group.targets) {
    if (target.text() != "Linear") continue;
    group.targets.clear();
    break;
  }
  RETURN_IF_ERROR(section.status());
  const Json* weights = section.keys().Find("weights");
  if (weights == nullptr) return absl::OkStatus();
  if (!weights->is_object()) section.keys().Fail("weights", "expected an object");
  RETURN_IF_ERROR(section.status());
  SectionReader args(*weights, what, path + ".weights");
  group.scheme = ReadWeightArgs(args, format);
  RETURN_IF_ERROR(args.status());
  out.groups.push_back(std::move(group));
  return absl::OkStatus();
}

absl::Status ReadCompressedTensors(SectionReader& section, std::string_view what,
                                   const std::string& path, QuantizationConfig& out) {
  const std::string format = section.keys().String("format", "");
  out.excluded = section.Patterns("ignore");
  section.MustBeUnset("transform_config");
  const Json* sparsity = section.keys().Find("sparsity_config");
  if (sparsity != nullptr && sparsity->is_object() && sparsity->contains("format") &&
      (*sparsity)["format"] != "dense") {
    section.Unsupported("sparsity_config", "is not supported");
  }
  const Json* groups = section.keys().Find("config_groups");
  if (groups == nullptr || !groups->is_object()) {
    section.keys().Fail("config_groups", "expected an object");
  }
  RETURN_IF_ERROR(section.status());
  for (const auto& [name, group] : groups->items()) {
    RETURN_IF_ERROR(
        ReadConfigGroup(group, what, absl::StrCat(path, ".config_groups.", name), format, out));
  }
  return absl::OkStatus();
}

/// The section, or null where the file has none.
const Json* FindSection(const Json& json, std::string& path) {
  for (const char* parent : {"", "text_config"}) {
    const auto nested = json.find(parent);
    if (*parent != 0 && (nested == json.end() || !nested->is_object())) continue;
    const Json& object = *parent == 0 ? json : *nested;
    for (const char* key : {"quantization_config", "compression_config"}) {
      const auto found = object.find(key);
      if (found == object.end() || found->is_null()) continue;
      path = *parent == 0 ? key : absl::StrCat(parent, ".", key);
      return &*found;
    }
  }
  return nullptr;
}

}  // namespace

const QuantScheme* QuantizationConfig::SchemeOf(std::string_view layer) const {
  for (const NamePattern& pattern : excluded) {
    if (pattern.Matches(layer)) return nullptr;
  }
  const QuantScheme* of_all = nullptr;  // names come before "every layer"
  for (const Group& group : groups) {
    if (group.targets.empty() && of_all == nullptr) of_all = &group.scheme;
    for (const NamePattern& pattern : group.targets) {
      if (pattern.Matches(layer)) return &group.scheme;
    }
  }
  return of_all;
}

namespace {

/// `usual`: the method where the section does not say.
absl::StatusOr<QuantizationConfig> ParseSection(const Json& json, std::string_view what,
                                                const std::string& path, std::string_view usual) {
  QuantizationConfig out;
  SectionReader section(json, what, path);
  out.method =
      section.OneOf("quant_method", usual, {"gptq", "awq", "compressed-tensors", "fp8", "mxfp4"});
  RETURN_IF_ERROR(section.status());
  if (out.method == "gptq") ReadGptq(section, out);
  if (out.method == "awq") ReadAwq(section, out);
  if (out.method == "fp8") ReadFp8(section, out);
  if (out.method == "mxfp4") ReadMxfp4(section, out);
  if (out.method == "compressed-tensors") {
    RETURN_IF_ERROR(ReadCompressedTensors(section, what, path, out));
  }
  RETURN_IF_ERROR(section.status());
  return out;
}

}  // namespace

absl::StatusOr<QuantizationConfig> ParseQuantizationConfig(std::string_view text,
                                                           std::string_view what) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, what));
  std::string path;
  const Json* found = json.is_object() ? FindSection(json, path) : nullptr;
  if (found == nullptr) return QuantizationConfig();
  if (!found->is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(what), ": ", path, ": expected an object"));
  }
  return ParseSection(*found, what, path,
                      found->contains("config_groups") ? "compressed-tensors" : "");
}

absl::StatusOr<QuantizationConfig> LoadQuantizationConfig(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/config.json");
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxConfigFileBytes));
  ASSIGN_OR_RETURN(QuantizationConfig config, ParseQuantizationConfig(text, path));
  const std::string own = absl::StrCat(dir, "/quantize_config.json");
  if (!config.method.empty() || !std::filesystem::exists(own)) return config;
  ASSIGN_OR_RETURN(const std::string own_text, ReadTextFile(own, kMaxConfigFileBytes));
  ASSIGN_OR_RETURN(const Json json, ParseJson(own_text, own));
  if (!json.is_object())
    return absl::InvalidArgumentError(absl::StrCat(own, ": expected an object"));
  return ParseSection(json, own, "quantize_config", "gptq");
}

}  // namespace penstock
