#include "chain/request_links.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "chain/texts.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

LinkResult Refuse(std::string field, std::string message) {
  return LinkResult::Deny(absl::StatusCode::kInvalidArgument, std::move(message), std::move(field));
}

std::string PromptField(const GenerationCall& call) { return call.chat ? "messages" : "prompt"; }

/// Bytes of all texts beyond settings.max_prompt are refused; so are ids that nothing can show.
LinkResult CheckPromptBytes(const LinkView& view, int32_t most) {
  if (most <= 0) return LinkResult::Pass();
  size_t bytes = 0;
  bool shown = true;
  shown = VisitTexts(*view.call, view.model, [&](std::string_view, std::string_view text) {
    bytes += text.size();
    return bytes <= static_cast<size_t>(most);
  });
  if (shown) return LinkResult::Pass();
  const std::string field = PromptField(*view.call);
  return Refuse(field, absl::StrCat(field, ": more than ", most, " bytes of text are not allowed"));
}

class SchemaLink final : public ChainLink {
 public:
  using ChainLink::ChainLink;
  LinkResult OnCall(LinkView& view) override {
    const GenerationCall& call = *view.call;
    const GuardEntry& s = settings();
    if (!s.fields.empty()) {
      for (const std::string& field : view.fields()) {
        if (std::find(s.fields.begin(), s.fields.end(), field) == s.fields.end())
          return Refuse(field, absl::StrCat(field, " is not allowed here"));
      }
    }
    const auto at_most = [](std::string_view field, int64_t value, int64_t most) {
      if (most <= 0 || value <= most) return LinkResult::Pass();
      return Refuse(std::string(field),
                    absl::StrCat(ToAbsl(field), " must be at most ", most, " here, got ", value));
    };
    const auto asked = call.max_completion_tokens ? call.max_completion_tokens : call.max_tokens;
    const std::string tokens = call.max_completion_tokens ? "max_completion_tokens" : "max_tokens";
    if (view.pooling) return CheckPromptBytes(view, s.max_prompt);
    if (s.max_tokens > 0 && !asked)
      return Refuse("max_tokens", absl::StrCat("max_tokens is missing: at most ", s.max_tokens,
                                               " are allowed here"));
    const size_t messages = call.messages ? call.messages->size() : 0;
    const size_t tools = call.tools && call.tools->is_array() ? call.tools->size() : 0;
    for (LinkResult result :
         {at_most(tokens, asked.value_or(0), s.max_tokens),
          at_most("n", std::max(call.n.value_or(1), call.best_of.value_or(1)), s.max_n),
          at_most("messages", static_cast<int64_t>(messages), s.max_messages),
          at_most("tools", static_cast<int64_t>(tools), s.max_tools)}) {
      if (!result.passed()) return result;
    }
    return CheckPromptBytes(view, s.max_prompt);
  }
};

class LimitLink final : public ChainLink {
 public:
  using ChainLink::ChainLink;
  LinkResult OnCall(LinkView& view) override {
    GenerationCall& call = *view.call;
    if (view.pooling) return CheckPromptBytes(view, settings().max_prompt);
    const auto lower = [](std::optional<int64_t>& value, int64_t most, bool unnamed) {
      if (most <= 0) return;
      if (value ? *value > most : unnamed) value = most;
    };
    lower(call.max_completion_tokens, settings().max_tokens, false);
    lower(call.max_tokens, settings().max_tokens, !call.max_completion_tokens);
    lower(call.n, settings().max_n, false);
    lower(call.best_of, settings().max_n, false);
    return CheckPromptBytes(view, settings().max_prompt);
  }
};

bool IsInstruction(const Json& message) {
  if (!message.is_object() || !message.contains("role")) return false;
  return message["role"] == "system" || message["role"] == "developer";
}

class TemplateLink final : public ChainLink {
 public:
  using ChainLink::ChainLink;
  LinkResult OnCall(LinkView& view) override {
    GenerationCall& call = *view.call;
    if (!call.chat || !call.messages) return LinkResult::Pass();
    const bool has = std::any_of(call.messages->begin(), call.messages->end(), IsInstruction);
    if (has && settings().mode == "missing") return LinkResult::Pass();
    auto messages = std::make_shared<Json>(Json::array());
    std::string system = settings().system;
    for (const Json& message : *call.messages) {
      if (!IsInstruction(message)) continue;
      // One system prompt: many templates take no second.
      if (settings().mode == "add" && message.contains("content") && message["content"].is_string())
        absl::StrAppend(&system, "\n\n", message["content"].get_ref<const std::string&>());
    }
    messages->push_back({{"role", "system"}, {"content", system}});
    for (const Json& message : *call.messages) {
      if (!IsInstruction(message)) messages->push_back(message);
    }
    call.messages = std::move(messages);
    return LinkResult::Pass();
  }
};

/// Drops the oldest turns, each a user's message and what follows it, as few as will do. The last
/// turn and instructions stay.
class TrimLink final : public ChainLink {
 public:
  using ChainLink::ChainLink;
  LinkResult OnCall(LinkView& view) override {
    GenerationCall& call = *view.call;
    if (!call.chat || !call.messages || view.model == nullptr) return LinkResult::Pass();
    const auto whole = call.messages;
    std::vector<size_t> turns;  // where they begin
    for (size_t i = 0; i < whole->size(); ++i) {
      const Json& message = (*whole)[i];
      if (message.is_object() && message.contains("role") && message["role"] == "user")
        turns.push_back(i);
    }
    absl::Status status;
    const auto fits = [&](size_t dropped) {
      if (dropped > 0) call.messages = Without(*whole, turns[dropped]);
      const absl::StatusOr<int64_t> tokens = view.count_tokens();
      if (!tokens.ok()) status = tokens.status();
      return !tokens.ok() || *tokens <= settings().max_tokens;
    };
    if (turns.size() < 2 || fits(0)) return LinkResult::Pass();
    size_t low = 1, high = turns.size() - 1;  // turns to drop
    while (low < high) {
      const size_t middle = (low + high) / 2;
      if (fits(middle)) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    call.messages = Without(*whole, turns[low]);
    if (!status.ok()) {
      call.messages = whole;
      return LinkResult::Fail(absl::StrCat("the prompt cannot be counted: ", status.message()));
    }
    view.tags->emplace_back("trimmed_turns", absl::StrCat(low));
    return LinkResult::Pass();
  }

 private:
  static std::shared_ptr<const Json> Without(const Json& whole, size_t first_kept) {
    auto kept = std::make_shared<Json>(Json::array());
    for (size_t i = 0; i < whole.size(); ++i) {
      if (i >= first_kept || IsInstruction(whole[i])) kept->push_back(whole[i]);
    }
    return kept;
  }
};

}  // namespace

std::unique_ptr<ChainLink> MakeRequestLink(const std::string& name, const GuardEntry& settings) {
  if (settings.use == "schema") return std::make_unique<SchemaLink>(name, settings);
  if (settings.use == "limit") return std::make_unique<LimitLink>(name, settings);
  if (settings.use == "template") return std::make_unique<TemplateLink>(name, settings);
  return std::make_unique<TrimLink>(name, settings);
}

}  // namespace penstock
