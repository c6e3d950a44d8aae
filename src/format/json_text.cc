#include "format/json_text.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr int kMaxDepth = 64;

using Json = nlohmann::json;

/// Builds the document through nlohmann's own DOM parser; watches depth and keys on the way.
class Watch {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) {
      error_ = absl::StrCat("nested deeper than ", kMaxDepth, " levels");
      throw Stop{};
    }
    switch (event) {
      case Json::parse_event_t::object_start:
        keys_.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        if (!keys_.empty()) keys_.pop_back();
        break;
      case Json::parse_event_t::key:
        if (!keys_.empty() && !keys_.back().insert(parsed.get<std::string>()).second) {
          error_ = absl::StrCat("key \"", parsed.get<std::string>(), "\" appears twice");
          throw Stop{};
        }
        break;
      default:
        break;
    }
    return true;
  }

  struct Stop {};
  const std::string& error() const { return error_; }

 private:
  std::vector<std::set<std::string>> keys_;
  std::string error_;
};

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, std::string_view what) {
  Watch watch;
  try {
    return Json::parse(text, std::ref(watch));
  } catch (const Watch::Stop&) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), ": ", watch.error()));
  } catch (const Json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), ": not JSON: ", e.what()));
  }
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t max_bytes) {
  ASSIGN_OR_RETURN(const MmapFile file, MmapFile::Open(path));
  if (file.bytes().size() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", file.bytes().size(), " bytes, expected at most ", max_bytes));
  }
  std::string text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  RETURN_IF_ERROR(file.Intact());
  return text;
}

}  // namespace penstock
