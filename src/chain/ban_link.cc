#include <re2/re2.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "chain/text_links.h"
#include "chain/texts.h"

namespace penstock {
namespace {

bool IsWordByte(char c) {
  const auto u = static_cast<unsigned char>(c);
  return u >= 0x80 || (u >= '0' && u <= '9') || u == '_' || ((u | 32) >= 'a' && (u | 32) <= 'z');
}

struct Hit {
  size_t begin = 0, end = 0;
};

/// All words as one expression, all patterns as another.
class BanRules {
 public:
  static absl::StatusOr<std::shared_ptr<const BanRules>> Compile(const GuardEntry& settings) {
    auto rules = std::make_shared<BanRules>();
    rules->hold_ = settings.hold;
    std::string words, patterns;
    for (const std::string& word : settings.words) {
      if (word.empty()) return absl::InvalidArgumentError("words: expected no empty one");
      absl::StrAppend(&words, words.empty() ? "" : "|", RE2::QuoteMeta(word));
      // Another case of a letter may have more bytes.
      rules->hold_ = std::max(rules->hold_, word.size() * 2);
    }
    for (const std::string& pattern : settings.patterns) {
      const RE2 alone(pattern, RE2::Quiet);
      if (!alone.ok() || alone.Match("", 0, 0, RE2::ANCHOR_BOTH, nullptr, 0)) {
        return absl::InvalidArgumentError(
            absl::StrCat("patterns: '", pattern,
                         "': ", alone.ok() ? "it matches an empty text" : alone.error()));
      }
      absl::StrAppend(&patterns, patterns.empty() ? "" : "|", "(?:", pattern, ")");
    }
    RE2::Options options;
    options.set_log_errors(false);
    options.set_longest_match(true);
    options.set_max_mem(64 << 20);
    if (!patterns.empty()) rules->patterns_ = std::make_unique<RE2>(patterns, options);
    options.set_case_sensitive(false);
    if (!words.empty()) rules->words_ = std::make_unique<RE2>(words, options);
    for (const auto& made : {rules->patterns_.get(), rules->words_.get()}) {
      if (made != nullptr && !made->ok())
        return absl::InvalidArgumentError(absl::StrCat("all together: ", made->error()));
    }
    return std::shared_ptr<const BanRules>(std::move(rules));
  }

  size_t hold() const { return hold_; }

  /// The leftmost hit in text[from, ...), the longest of those that begin there; what stands before
  /// `from` is seen as what precedes it.
  std::optional<Hit> Find(std::string_view text, size_t from) const {
    std::optional<Hit> best;
    const auto better = [&](const Hit& hit) {
      if (!best || hit.begin < best->begin || (hit.begin == best->begin && hit.end > best->end))
        best = hit;
    };
    re2::StringPiece found;
    const re2::StringPiece all(text.data(), text.size());
    const auto search = [&](const RE2& expression, size_t at) -> std::optional<Hit> {
      if (!expression.Match(all, at, all.size(), RE2::UNANCHORED, &found, 1)) return std::nullopt;
      const auto begin = static_cast<size_t>(found.data() - all.data());
      return Hit{begin, begin + found.size()};
    };
    if (patterns_ != nullptr) {
      for (size_t at = from; at <= text.size();) {
        const std::optional<Hit> hit = search(*patterns_, at);
        if (!hit) break;
        if (hit->end > hit->begin) {
          better(*hit);
          break;
        }
        at = hit->end + 1;  // an empty match is none
      }
    }
    for (size_t at = from; words_ != nullptr && at < text.size();) {
      const std::optional<Hit> hit = search(*words_, at);
      if (!hit) break;
      const bool begins =
          hit->begin == 0 || !IsWordByte(text[hit->begin - 1]) || !IsWordByte(text[hit->begin]);
      const bool ends =
          hit->end >= text.size() || !IsWordByte(text[hit->end]) || !IsWordByte(text[hit->end - 1]);
      if (begins && ends) {
        better(*hit);
        break;
      }
      at = hit->begin + 1;
    }
    return best;
  }

 private:
  size_t hold_ = 32;
  std::unique_ptr<RE2> patterns_, words_;
};

class BanFilter final : public OutputFilter {
 public:
  BanFilter(std::shared_ptr<const BanRules> rules, const GuardEntry& settings)
      : rules_(std::move(rules)), deny_(settings.action == "deny"), mask_(settings.mask) {}

  LinkResult Append(std::string_view text, std::string& out) override {
    held_ += text;
    size_t at = 0;
    // Where a window begins and what is seen of it follows from the text alone.
    while (held_.size() - at >= window()) {
      const LinkResult result = Advance(held_.substr(at, window()), at, out);
      if (!result.passed()) return result;
    }
    held_.erase(0, at);
    return LinkResult::Pass();
  }

  LinkResult Finish(std::string& out) override {
    size_t at = 0;
    while (at < held_.size()) {
      const LinkResult result = Advance(held_.substr(at, window()), at, out);
      if (!result.passed()) return result;
    }
    held_.clear();
    return LinkResult::Pass();
  }

 private:
  size_t window() const { return 2 * rules_->hold(); }

  /// Decides what begins in the window's first half (all of it at the end of the text).
  LinkResult Advance(const std::string& window_text, size_t& at, std::string& out) {
    const bool last = window_text.size() < window();
    size_t decided = last ? window_text.size() : rules_->hold();
    // A character stays whole; what begins within it is looked at from its first byte.
    while (!last && decided > 1 && (window_text[decided] & 0xC0) == 0x80) --decided;
    const size_t shift = before_.size();
    std::optional<Hit> hit = rules_->Find(before_ + window_text, shift);
    if (hit) *hit = {hit->begin - shift, hit->end - shift};
    if (!hit || hit->begin >= decided) {
      Emit(std::string_view(window_text).substr(0, decided), out);
      at += decided;
      return LinkResult::Pass();
    }
    Emit(std::string_view(window_text).substr(0, hit->begin), out);
    if (deny_) {
      held_.clear();
      return LinkResult::Deny(absl::StatusCode::kPermissionDenied,
                              "the answer contains what is not allowed here");
    }
    out += mask_;
    before_ = window_text.substr(hit->end - 1, 1);
    at += hit->end;
    return LinkResult::Pass();
  }

  void Emit(std::string_view text, std::string& out) {
    out += text;
    if (!text.empty()) before_ = text.substr(text.size() - 1);
  }

  const std::shared_ptr<const BanRules> rules_;
  const bool deny_;
  const std::string mask_;
  std::string held_;
  std::string before_;  // the byte before held_, if there is one
};

class BanLink final : public ChainLink {
 public:
  BanLink(std::string name, const GuardEntry& settings, std::shared_ptr<const BanRules> rules)
      : ChainLink(std::move(name), settings), rules_(std::move(rules)) {}

  LinkResult OnCall(LinkView& view) override {
    if (settings().where == "output") return LinkResult::Pass();
    const LinkResult denied = LinkResult::Deny(absl::StatusCode::kPermissionDenied,
                                               "the request contains what is not allowed here",
                                               view.call->chat ? "messages" : "prompt");
    if (settings().action == "deny") {
      const bool clean = VisitTexts(
          *view.call, view.model,
          [&](std::string_view, std::string_view text) { return !rules_->Find(text, 0); });
      return clean ? LinkResult::Pass() : denied;
    }
    const bool shown = EditTexts(*view.call, view.model, [&](std::string_view, std::string& text) {
      std::string out;
      size_t from = 0;
      while (const std::optional<Hit> hit = rules_->Find(text, from)) {
        out.append(text, from, hit->begin - from);
        out += settings().mask;
        from = hit->end;
      }
      if (from > 0) text = out.append(text, from);
      return true;
    });
    return shown ? LinkResult::Pass() : denied;
  }

  bool filters_output() const override { return settings().where != "prompt"; }
  std::unique_ptr<OutputFilter> NewFilter(const LinkView&) override {
    return std::make_unique<BanFilter>(rules_, settings());
  }

 private:
  const std::shared_ptr<const BanRules> rules_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChainLink>> MakeBanLink(const std::string& name,
                                                       const GuardEntry& settings) {
  absl::StatusOr<std::shared_ptr<const BanRules>> rules = BanRules::Compile(settings);
  if (!rules.ok()) return rules.status();
  return std::unique_ptr<ChainLink>(new BanLink(name, settings, *std::move(rules)));
}

}  // namespace penstock
