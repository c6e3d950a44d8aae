#include <unicode/uscript.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "base/utf8.h"
#include "chain/text_links.h"
#include "chain/texts.h"

namespace penstock {
namespace {

using Scripts = std::set<int>;

/// The next code point of `text` at `at`, which is moved behind it.
bool TakeAllowed(std::string_view text, size_t& at, const Scripts& allowed) {
  const DecodedCodePoint point = DecodeUtf8(text, at);
  at += point.length;
  UErrorCode error = U_ZERO_ERROR;
  const UScriptCode script = uscript_getScript(static_cast<UChar32>(point.value), &error);
  if (script == USCRIPT_COMMON || script == USCRIPT_INHERITED || script == USCRIPT_UNKNOWN)
    return true;
  return U_SUCCESS(error) && allowed.contains(script);
}

class LangFilter final : public OutputFilter {
 public:
  LangFilter(const Scripts& allowed, bool deny) : allowed_(allowed), deny_(deny) {}
  LinkResult Append(std::string_view text, std::string& out) override {
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      if (TakeAllowed(text, at, allowed_)) {
        out += text.substr(begin, at - begin);
      } else if (deny_) {
        return LinkResult::Deny(absl::StatusCode::kPermissionDenied,
                                "the answer is in a script that is not allowed here");
      }
    }
    return LinkResult::Pass();
  }
  LinkResult Finish(std::string&) override { return LinkResult::Pass(); }

 private:
  const Scripts allowed_;
  const bool deny_;
};

class LangLink final : public ChainLink {
 public:
  LangLink(std::string name, const GuardEntry& settings, Scripts allowed)
      : ChainLink(std::move(name), settings), allowed_(std::move(allowed)) {}

  LinkResult OnCall(LinkView& view) override {
    if (settings().where == "output") return LinkResult::Pass();
    const bool deny = settings().action == "deny";
    const auto clean = [&](std::string_view text, std::string* kept) {
      for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        const bool allowed = TakeAllowed(text, at, allowed_);
        if (!allowed && kept == nullptr) return false;
        if (allowed && kept != nullptr) *kept += text.substr(begin, at - begin);
      }
      return true;
    };
    const bool passed =
        deny ? VisitTexts(
                   *view.call, view.model,
                   [&](std::string_view, std::string_view text) { return clean(text, nullptr); })
             : EditTexts(*view.call, view.model, [&](std::string_view, std::string& text) {
                 std::string kept;
                 clean(text, &kept);
                 text = std::move(kept);
                 return true;
               });
    if (passed) return LinkResult::Pass();
    return LinkResult::Deny(absl::StatusCode::kPermissionDenied,
                            "the request is in a script that is not allowed here",
                            view.call->chat ? "messages" : "prompt");
  }

  bool filters_output() const override { return settings().where != "prompt"; }
  std::unique_ptr<OutputFilter> NewFilter(const LinkView&) override {
    return std::make_unique<LangFilter>(allowed_, settings().action == "deny");
  }

 private:
  const Scripts allowed_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChainLink>> MakeLangLink(const std::string& name,
                                                        const GuardEntry& settings) {
  Scripts allowed;
  for (const std::string& script : settings.scripts) {
    UScriptCode codes[16];
    UErrorCode error = U_ZERO_ERROR;
    const int32_t count = uscript_getCode(script.c_str(), codes, 16, &error);
    if (U_FAILURE(error) || count <= 0)
      return absl::InvalidArgumentError(absl::StrCat("scripts: '", script, "' is no script"));
    allowed.insert(codes, codes + count);
  }
  return std::unique_ptr<ChainLink>(new LangLink(name, settings, std::move(allowed)));
}

}  // namespace penstock
