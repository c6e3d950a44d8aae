#include "api/openai/response_items.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "api/http/response_head.h"
#include "base/status_macros.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using ItemsJson = nlohmann::ordered_json;

constexpr int64_t kMostItems = 100;
// What OpenAI's clients may ask for. An item is kept as it was sent, so nothing is added.
constexpr std::array<std::string_view, 8> kIncludable = {"file_search_call.results",
                                                         "web_search_call.results",
                                                         "web_search_call.action.sources",
                                                         "message.input_image.image_url",
                                                         "computer_call_output.output.image_url",
                                                         "code_interpreter_call.outputs",
                                                         "reasoning.encrypted_content",
                                                         "message.output_text.logprobs"};

struct ItemsPage {
  int64_t limit = 20;
  bool ascending = false;
  std::optional<std::string> after;
};

absl::Status ReadPart(const std::string& name, const std::string& value, ItemsPage& page) {
  if (name == "limit") {
    if (!absl::SimpleAtoi(value, &page.limit) || page.limit < 1 || page.limit > kMostItems)
      return InvalidField(name, absl::StrCat("limit must be a number from 1 to ", kMostItems));
  } else if (name == "order") {
    if (value != "asc" && value != "desc")
      return InvalidField(name, "order must be \"asc\" or \"desc\"");
    page.ascending = value == "asc";
  } else if (name == "after") {
    page.after = value;
  } else if (name == "include" || name == "include[]") {
    if (std::find(kIncludable.begin(), kIncludable.end(), value) == kIncludable.end())
      return InvalidField("include", absl::StrCat("include: \"", value, "\" is not known"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ItemsPage> ReadPage(std::string_view query) {
  ItemsPage page;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    std::string part(query.substr(0, end));
    query.remove_prefix(std::min(end + 1, query.size()));
    std::replace(part.begin(), part.end(), '+', ' ');
    const size_t equals = std::min(part.find('='), part.size());
    const std::string value = equals < part.size() ? part.substr(equals + 1) : "";
    RETURN_IF_ERROR(ReadPart(PercentDecode(part.substr(0, equals)), PercentDecode(value), page));
  }
  return page;
}

}  // namespace

absl::StatusOr<nlohmann::ordered_json> PageOfItems(const nlohmann::ordered_json& items,
                                                   std::string_view response_id,
                                                   std::string_view query) {
  ASSIGN_OR_RETURN(const ItemsPage page, ReadPage(query));
  const std::string_view number = response_id.substr(response_id.find('_') + 1);
  ItemsJson all = items;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!all[i].contains("id") || !all[i]["id"].is_string())
      all[i]["id"] = absl::StrCat("item_", std::string(number), "_", i);
  }
  if (!page.ascending) std::reverse(all.begin(), all.end());
  auto begin = all.begin();
  if (page.after) {
    begin = std::find_if(all.begin(), all.end(),
                         [&](const ItemsJson& item) { return item["id"] == *page.after; });
    if (begin == all.end()) {
      return InvalidField("after", absl::StrCat("after: the input has no item with the id \"",
                                                Shown(*page.after), "\""));
    }
    ++begin;
  }
  const auto end = begin + std::min<int64_t>(page.limit, all.end() - begin);
  ItemsJson data = ItemsJson::array();
  std::copy(begin, end, std::back_inserter(data));
  const ItemsJson first = data.empty() ? ItemsJson() : data.front()["id"];
  const ItemsJson last = data.empty() ? ItemsJson() : data.back()["id"];
  const bool more = end != all.end();
  ItemsJson list = ItemsJson::object();
  list["object"] = "list";
  list["data"] = std::move(data);
  list["first_id"] = first;
  list["last_id"] = last;
  list["has_more"] = more;
  return list;
}

}  // namespace penstock
