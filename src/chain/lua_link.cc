#include "chain/lua_link.h"

#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "chain/call_json.h"
#include "chain/lua_state.h"
#include "chain/texts.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kPiece = 256;  // bytes of an answer that a script sees at most at once

/// A version of the script.
struct Script {
  std::string source;
  std::set<std::string> functions;
  bool has(const char* name) const { return functions.contains(name); }
};

std::string SignatureOf(const std::string& path) {
  struct stat file {};
  if (stat(path.c_str(), &file) != 0) return "-";
  return absl::StrCat(file.st_dev, ":", file.st_ino, ":", file.st_size, ":", file.st_mtim.tv_sec,
                      ".", file.st_mtim.tv_nsec);
}

class LuaLink final : public ChainLink {
 public:
  using ChainLink::ChainLink;

  absl::Status LoadFile() {
    signature_ = SignatureOf(settings().file);
    absl::StatusOr<std::shared_ptr<const Script>> script = ReadScript();
    if (!script.ok()) return script.status();
    script_ = *std::move(script);
    return absl::OkStatus();
  }

  LinkResult OnCall(LinkView& view) override {
    const std::shared_ptr<const Script> script = Current();
    const bool on_request = script->has("request"), on_prompt = script->has("prompt");
    if (!on_request && !on_prompt) return LinkResult::Pass();
    LinkResult result;
    std::unique_ptr<LuaState> state = Take(*script, result);
    if (state == nullptr) return result;
    if (on_request) {
      std::optional<Json> changed;
      result =
          Ask(*state, "request", CallToJson(*view.call), Facts(view, "request"), view, &changed);
      if (result.passed() && changed) {
        const std::string wrong = CallFromJson(*changed, *view.call);
        if (!wrong.empty()) result = LinkResult::Fail(absl::StrCat("request: ", wrong));
      }
    }
    if (on_prompt && result.passed()) {
      Json facts = Facts(view, "prompt");
      const bool shown =
          EditTexts(*view.call, view.model, [&](std::string_view role, std::string& text) {
            facts["role"] = role;
            result = AskText(*state, "prompt", text, facts, view);
            return result.passed();
          });
      if (!shown && result.passed())
        result = LinkResult::Fail("the prompt is of ids that no tokenizer can show");
    }
    GiveBack(script, std::move(state), result);
    return result;
  }

  bool filters_output() const override { return Current()->has("delta"); }
  std::unique_ptr<OutputFilter> NewFilter(const LinkView& view) override;

  bool takes_response() const override { return Current()->has("response"); }
  LinkResult OnResponse(LinkView& view, Json& body) override {
    return OnJson(view, "response", body);
  }

  bool takes_record() const override { return Current()->has("log"); }
  LinkResult OnRecord(LinkView& view, const RequestRecord& record) override {
    Json body = {{"request_id", record.request_id},
                 {"model", record.model},
                 {"protocol", record.protocol},
                 {"tenant", record.tenant},
                 {"code", record.code},
                 {"finish", record.finish},
                 {"error", record.error},
                 {"stream", record.stream},
                 {"prompt_tokens", record.usage.prompt_tokens},
                 {"cached_tokens", record.usage.cached_tokens},
                 {"completion_tokens", record.usage.completion_tokens},
                 {"total_ms", absl::ToDoubleMilliseconds(record.total_time)}};
    return OnJson(view, "log", body);
  }

  LinkResult OnDelta(LinkView& view, std::string& text) {
    const std::shared_ptr<const Script> script = Current();
    if (!script->has("delta")) return LinkResult::Pass();
    LinkResult result;
    std::unique_ptr<LuaState> state = Take(*script, result);
    if (state == nullptr) return result;
    result = AskText(*state, "delta", text, Facts(view, "delta"), view);
    GiveBack(script, std::move(state), result);
    return result;
  }

 private:
  static Json Facts(const LinkView& view, const char* phase) {
    Json facts = {{"phase", phase}, {"request_id", view.request_id}, {"tenant", view.tenant}};
    if (view.model != nullptr) facts["model"] = view.model->name;
    return facts;
  }

  absl::StatusOr<std::shared_ptr<const Script>> ReadScript() const {
    std::ifstream in(settings().file, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    if (!in) return absl::InvalidArgumentError(absl::StrCat(settings().file, ": cannot be read"));
    auto script = std::make_shared<Script>();
    script->source = text.str();
    ASSIGN_OR_RETURN(const std::unique_ptr<LuaState> state, NewState(*script));
    script->functions = state->functions();
    if (script->functions.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          settings().file, ": expected a function request, prompt, delta, response or log"));
    }
    return script;
  }

  absl::StatusOr<std::unique_ptr<LuaState>> NewState(const Script& script) const {
    LuaBounds bounds;
    bounds.cpu = settings().timeout;
    return LuaState::Load(script.source, settings().file, bounds);
  }

  /// The script as the file has it now, looked at five times a second at most.
  std::shared_ptr<const Script> Current() const {
    const int64_t now = std::chrono::duration_cast<std::chrono::milliseconds>(
                            std::chrono::steady_clock::now().time_since_epoch())
                            .count();
    const std::lock_guard lock(mutex_);
    if (now < next_look_) return script_;
    next_look_ = now + 200;
    std::string signature = SignatureOf(settings().file);
    if (signature == signature_) return script_;
    signature_ = std::move(signature);
    absl::StatusOr<std::shared_ptr<const Script>> fresh = ReadScript();
    if (!fresh.ok()) {
      errors.Add();
      if (log) log(name(), absl::StrCat("the old script stays: ", fresh.status().message()));
      return script_;
    }
    script_ = *std::move(fresh);
    idle_.clear();
    return script_;
  }

  std::unique_ptr<LuaState> Take(const Script& script, LinkResult& result) {
    std::unique_ptr<LuaState> state;
    {
      const std::lock_guard lock(mutex_);
      if (&script == script_.get() && !idle_.empty()) {
        state = std::move(idle_.back());
        idle_.pop_back();
      }
    }
    if (state == nullptr) {
      absl::StatusOr<std::unique_ptr<LuaState>> made = NewState(script);
      if (!made.ok()) {
        result = LinkResult::Fail(std::string(made.status().message()));
        return nullptr;
      }
      state = *std::move(made);
    }
    state->Begin(settings().timeout);
    return state;
  }

  void GiveBack(const std::shared_ptr<const Script>& script, std::unique_ptr<LuaState> state,
                const LinkResult& result) {
    if (result.outcome == LinkOutcome::kRunaway) return;
    const std::lock_guard lock(mutex_);
    if (script == script_) idle_.push_back(std::move(state));
  }

  LinkResult OnJson(LinkView& view, const char* phase, Json& body) {
    const std::shared_ptr<const Script> script = Current();
    if (!script->has(phase)) return LinkResult::Pass();
    LinkResult result;
    std::unique_ptr<LuaState> state = Take(*script, result);
    if (state == nullptr) return result;
    std::optional<Json> changed;
    result = Ask(*state, phase, body, Facts(view, phase), view, &changed);
    GiveBack(script, std::move(state), result);
    if (result.passed() && changed) body = *std::move(changed);
    return result;
  }

  LinkResult AskText(LuaState& state, const char* phase, std::string& text, const Json& facts,
                     LinkView& view) {
    std::optional<Json> changed;
    const LinkResult result = Ask(state, phase, text, facts, view, &changed);
    if (!result.passed() || !changed) return result;
    if (!changed->is_string()) return LinkResult::Fail(absl::StrCat(phase, ": expected a text"));
    text = changed->get<std::string>();
    return result;
  }

  static LinkResult Ask(LuaState& state, const char* phase, const Json& argument, const Json& facts,
                        LinkView& view, std::optional<Json>* changed) {
    LuaAnswer said = state.Call(phase, argument, facts);
    if (said.outcome == LuaAnswer::kError) return LinkResult::Fail(std::move(said.error));
    if (said.outcome == LuaAnswer::kRunaway) {
      LinkResult result = LinkResult::Deny(absl::StatusCode::kInternal,
                                           "chain_limit: a guard's script took more than it may");
      result.outcome = LinkOutcome::kRunaway;
      return result;
    }
    for (auto& tag : said.tags) view.tags->push_back(std::move(tag));
    if (said.denied)
      return LinkResult::Deny(CodeOfDenial(said.denied->first), RepairUtf8(said.denied->second));
    *changed = std::move(said.value);
    if (!said.route || view.call == nullptr) return LinkResult::Pass();
    view.call->model = *said.route;
    if (*changed && (*changed)->is_object() && view.call != nullptr)
      (**changed)["model"] = *said.route;
    return LinkResult::Pass();
  }

  mutable std::mutex mutex_;       // guards from here
  mutable int64_t next_look_ = 0;  // milliseconds of the steady clock
  mutable std::string signature_;
  mutable std::shared_ptr<const Script> script_;
  mutable std::vector<std::unique_ptr<LuaState>> idle_;  // of script_
};

/// Hands a script the text line by line, long lines in pieces, wherever the text was split before.
class LuaFilter final : public OutputFilter {
 public:
  LuaFilter(LuaLink* link, const LinkView& view) : link_(link), view_(view) {}

  LinkResult Append(std::string_view text, std::string& out) override {
    held_ += text;
    while (true) {
      size_t end = held_.find('\n');
      end = end == held_.npos ? held_.size() + 1 : end + 1;
      if (end > kPiece && held_.size() >= kPiece) {
        end = kPiece;
        while (end > 1 && (held_[end] & 0xC0) == 0x80 && end < held_.size()) --end;
        if (held_.size() == kPiece) end -= IncompleteUtf8Suffix(held_);
      }
      if (end > held_.size() || end == 0) return LinkResult::Pass();
      const LinkResult result = Hand(held_.substr(0, end), out);
      held_.erase(0, end);
      if (!result.passed()) return result;
    }
  }
  LinkResult Finish(std::string& out) override {
    if (held_.empty()) return LinkResult::Pass();
    return Hand(std::exchange(held_, {}), out);
  }

 private:
  LinkResult Hand(std::string piece, std::string& out) {
    std::string changed = piece;
    const LinkResult result = link_->OnDelta(view_, changed);
    if (result.passed()) out += changed;
    if (result.outcome == LinkOutcome::kFailed && link_->settings().on_error == "skip")
      out += piece;
    return result;
  }

  LuaLink* const link_;
  LinkView view_;
  std::string held_;
};

std::unique_ptr<OutputFilter> LuaLink::NewFilter(const LinkView& view) {
  return std::make_unique<LuaFilter>(this, view);
}

}  // namespace

absl::StatusCode CodeOfDenial(int status) {
  switch (status) {
    case 400:
      return absl::StatusCode::kInvalidArgument;
    case 404:
      return absl::StatusCode::kNotFound;
    case 408:
      return absl::StatusCode::kDeadlineExceeded;
    case 429:
      return absl::StatusCode::kResourceExhausted;
    case 500:
      return absl::StatusCode::kInternal;
    case 501:
      return absl::StatusCode::kUnimplemented;
    case 503:
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kPermissionDenied;
  }
}

absl::StatusOr<std::unique_ptr<ChainLink>> MakeLuaLink(const std::string& name,
                                                       const GuardEntry& settings) {
  auto link = std::make_unique<LuaLink>(name, settings);
  RETURN_IF_ERROR(link->LoadFile());
  return std::unique_ptr<ChainLink>(std::move(link));
}

}  // namespace penstock
