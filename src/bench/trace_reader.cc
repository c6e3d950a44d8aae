#include "bench/trace_reader.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr int32_t kMostTraceTokens = 1 << 24;
constexpr double kMostTraceSeconds = 1e13;  // from the epoch; the difference of any two is a number

bool ReadTime(absl::string_view text, double& seconds) {
  if (absl::SimpleAtod(text, &seconds)) return std::abs(seconds) <= kMostTraceSeconds;
  absl::Time time;
  std::string error;
  for (const char* form : {"%Y-%m-%d %H:%M:%E*S", "%Y-%m-%d %H:%M:%E*S%Ez", absl::RFC3339_full}) {
    if (!absl::ParseTime(form, text, &time, &error)) continue;
    seconds = absl::ToDoubleSeconds(time - absl::UnixEpoch());
    return std::abs(seconds) <= kMostTraceSeconds;  // there are dates that are infinite
  }
  return false;
}

bool ReadTokens(absl::string_view text, int32_t& tokens) {
  double number = 0;  // some files have 374.0
  if (!absl::SimpleAtod(text, &number) || !(number >= 0 && number <= kMostTraceTokens))
    return false;
  tokens = static_cast<int32_t>(number);
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TraceReader>> TraceReader::Open(const std::string& path) {
  auto file = std::make_unique<std::ifstream>(path);
  if (!*file) return absl::NotFoundError(path + ": cannot be read");
  return Read(std::move(file), path);
}

absl::StatusOr<std::unique_ptr<TraceReader>> TraceReader::Read(std::unique_ptr<std::istream> file,
                                                               const std::string& path) {
  std::unique_ptr<TraceReader> reader(new TraceReader);
  reader->file_ = std::move(file);
  RETURN_IF_ERROR(reader->ReadHeader(path));
  return reader;
}

/// False: the end. What of a line is too long is passed over.
bool TraceReader::ReadLine() {
  file_->getline(buffer_.get(), static_cast<std::streamsize>(kMostTraceLine) + 1);
  const auto taken = static_cast<size_t>(file_->gcount());
  const bool cut = file_->rdstate() == std::ios::failbit && taken == kMostTraceLine;
  if (file_->fail() && !cut) return false;
  too_long_ = cut;
  const bool ended = !cut && !file_->eof();  // by a line break, which counts as taken
  line_ = {buffer_.get(), taken - (ended ? 1 : 0)};
  ++line_number_;
  if (cut) {
    file_->clear();
    file_->ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return true;
}

absl::Status TraceReader::ReadHeader(const std::string& path) {
  const int first = (*file_ >> std::ws).peek();
  if (first == '{') {
    json_ = true;
    return absl::OkStatus();
  }
  ReadLine();
  if (too_long_) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ":1: expected names of columns in at most ", kMostTraceLine, " bytes"));
  }
  int column = 0;
  for (const absl::string_view raw : absl::StrSplit(ToAbsl(line_), ',')) {
    const std::string name = absl::AsciiStrToLower(absl::StripAsciiWhitespace(raw));
    if (name == "timestamp") time_column_ = column;
    if (name == "contexttokens" || name == "request tokens") prompt_column_ = column;
    if (name == "generatedtokens" || name == "response tokens") output_column_ = column;
    ++column;
  }
  const auto missing = [&](const char* what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ":1: no column ", what,
                                                   "; expected CSV with TIMESTAMP, ContextTokens, "
                                                   "GeneratedTokens, or JSON lines"));
  };
  if (time_column_ < 0) return missing("TIMESTAMP");
  if (prompt_column_ < 0) return missing("ContextTokens");
  if (output_column_ < 0) return missing("GeneratedTokens");
  return absl::OkStatus();
}

bool TraceReader::ReadCsv(std::string_view line, TraceRow& row) {
  int column = 0;
  int found = 0;
  for (const absl::string_view raw : absl::StrSplit(ToAbsl(line), ',')) {
    const absl::string_view cell = absl::StripAsciiWhitespace(raw);
    if (column == time_column_) found += ReadTime(cell, row.at) ? 1 : 0;
    if (column == prompt_column_) found += ReadTokens(cell, row.prompt_tokens) ? 1 : 0;
    if (column == output_column_) found += ReadTokens(cell, row.output_tokens) ? 1 : 0;
    ++column;
  }
  return found == 3;
}

bool TraceReader::ReadJson(std::string_view line, TraceRow& row) {
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return false;
  const auto number = [&](const char* key, double most, double& out) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number()) return false;
    out = found->get<double>();
    return std::abs(out) <= most;
  };
  double prompt = 0, output = 0;
  if (!number("timestamp", kMostTraceSeconds * 1e3, row.at) ||
      !number("input_length", kMostTraceTokens, prompt) ||
      !number("output_length", kMostTraceTokens, output) || prompt < 0 || output < 0)
    return false;
  row.at /= 1e3;
  row.prompt_tokens = static_cast<int32_t>(prompt);
  row.output_tokens = static_cast<int32_t>(output);
  if (const auto ids = json.find("hash_ids"); ids != json.end() && ids->is_array()) {
    for (const auto& id : *ids) {
      if (id.is_number_integer()) row.blocks.push_back(id.get<uint64_t>());
    }
  }
  return true;
}

std::optional<TraceRow> TraceReader::Next() {
  while (ReadLine()) {
    if (absl::StripAsciiWhitespace(ToAbsl(line_)).empty()) continue;
    TraceRow row;
    const bool read = !too_long_ && (json_ ? ReadJson(line_, row) : ReadCsv(line_, row));
    if (read && !begin_.has_value()) begin_ = row.at;
    const bool late = read && row.at - *begin_ < last_;
    if ((!read || late) && faults_.first_line == 0) faults_.first_line = line_number_;
    if (late) ++faults_.out_of_order;
    if (!read) {
      ++faults_.unreadable;
      continue;
    }
    row.at = last_ = std::max(last_, row.at - *begin_);
    return row;
  }
  return std::nullopt;
}

}  // namespace penstock
