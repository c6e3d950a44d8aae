// Words, patterns and scripts: what is found, and that no split of a stream changes it.
#include "chain/text_links.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "chain/request_links.h"
#include "test_seed.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

std::unique_ptr<ChainLink> Ban(GuardEntry settings) {
  settings.use = "ban";
  auto made = MakeBanLink("words", settings);
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

/// Output of a text in pieces that end at `cuts`; "!" at the end where it was denied.
std::string Filtered(ChainLink& link, const std::string& text, const std::vector<size_t>& cuts) {
  const std::unique_ptr<OutputFilter> filter = link.NewFilter({});
  std::string out;
  size_t from = 0;
  for (size_t cut : cuts) {
    if (!filter->Append(std::string_view(text).substr(from, cut - from), out).passed())
      return out + "!";
    from = cut;
  }
  if (!filter->Append(std::string_view(text).substr(from), out).passed()) return out + "!";
  return filter->Finish(out).passed() ? out : out + "!";
}

GenerationCall Chat(const Json& messages) {
  GenerationCall call;
  call.chat = true;
  call.messages = std::make_shared<const Json>(messages);
  return call;
}

Json Said(const Json& content) {
  return Json::array({Json{{"role", "user"}, {"content", content}}});
}

TEST(BanLink, MasksWholeWordsInAnyCase) {
  GuardEntry settings;
  settings.words = {"cat", "Grüße"};
  settings.action = "mask";
  const auto link = Ban(settings);
  EXPECT_EQ(Filtered(*link, "A Cat, concatenate cat", {}), "A ***, concatenate ***");
  EXPECT_EQ(Filtered(*link, "viele GRÜßE an dich", {}), "viele *** an dich");
  EXPECT_EQ(Filtered(*link, "cat", {}), "***");
  EXPECT_EQ(Filtered(*link, "", {}), "");
}

TEST(BanLink, DeniesWithWhatCameBefore) {
  GuardEntry settings;
  settings.patterns = {"[0-9]{3}-[0-9]{4}"};
  const auto link = Ban(settings);
  EXPECT_EQ(Filtered(*link, "call 555-1234 now", {}), "call !");
  EXPECT_EQ(Filtered(*link, "call 555-123 now", {}), "call 555-123 now");
}

TEST(BanLink, AnySplitGivesTheSame) {
  std::mt19937 random(TestSeed());
  GuardEntry settings;
  settings.words = {"secret", "öl"};
  settings.patterns = {"[a-c]{2,9}d", "x+y"};
  settings.hold = 12;
  for (const char* action : {"mask", "deny"}) {
    settings.action = action;
    const auto link = Ban(settings);
    const std::vector<std::string> parts = {"secret", "SECRET ", "öl", " ", "abd", "abcabcd", "xx",
                                            "y",      "é",       "cd", "a", ",",   "secre",   "t"};
    for (int round = 0; round < 2000; ++round) {
      std::string text;
      const size_t count = random() % (action == std::string("deny") ? 12 : 40);
      for (size_t i = 0; i < count; ++i) text += parts[random() % parts.size()];
      const std::string whole = Filtered(*link, text, {});
      std::vector<size_t> cuts;
      for (size_t at = 1; at < text.size(); ++at) {
        if (random() % 3 == 0) cuts.push_back(at);
      }
      ASSERT_EQ(Filtered(*link, text, cuts), whole) << text;
    }
  }
}

// Against a plain search over the whole text, by hand: all hits are short and apart.
TEST(BanLink, MissesNothingThatFitsInWhatIsHeld) {
  std::mt19937 random(TestSeed());
  GuardEntry settings;
  settings.words = {"forbidden"};
  settings.action = "mask";
  settings.hold = 1;
  const auto link = Ban(settings);
  for (int round = 0; round < 500; ++round) {
    std::string text, expected;
    for (int i = 0; i < 20; ++i) {
      const std::string filler(random() % 30, 'z');
      text += filler + " forbidden ";
      expected += filler + " *** ";
    }
    std::vector<size_t> cuts;
    for (size_t at = 1; at < text.size(); at += 1 + random() % 5) cuts.push_back(at);
    ASSERT_EQ(Filtered(*link, text, cuts), expected);
  }
}

TEST(BanLink, HoldsBackABoundedNumberOfBytes) {
  GuardEntry settings;
  settings.words = {"abc"};
  settings.hold = 16;
  const auto link = Ban(settings);
  const std::unique_ptr<OutputFilter> filter = link->NewFilter({});
  std::string out;
  for (size_t i = 1; i <= 1000; ++i) {
    ASSERT_TRUE(filter->Append("z", out).passed());
    ASSERT_GE(out.size() + 32, i);
  }
}

TEST(BanLink, LooksAtEveryTextOfAPrompt) {
  GuardEntry settings;
  settings.words = {"bomb"};
  const auto link = Ban(settings);
  const auto denied = [&](GenerationCall call) {
    LinkView view;
    view.call = &call;
    return link->OnCall(view).outcome == LinkOutcome::kDenied;
  };
  EXPECT_FALSE(denied(Chat(Said("hello"))));
  EXPECT_TRUE(denied(Chat(Said("a bomb"))));
  EXPECT_TRUE(denied(Chat(Said(Json::array({Json{{"type", "text"}, {"text", "bomb"}}})))));
  GenerationCall tools = Chat(Said("hello"));
  const Json function = {{"name", "f"}, {"description", "bomb"}};
  tools.tools = std::make_shared<const Json>(Json::array({Json{{"function", function}}}));
  EXPECT_TRUE(denied(tools));
  GenerationCall text;
  text.prompts.push_back({"the bomb", {}, false});
  EXPECT_TRUE(denied(text));
  GenerationCall ids;  // which nothing can show
  ids.prompts.push_back({"", {1, 2}, true});
  EXPECT_TRUE(denied(ids));
}

TEST(BanLink, RefusesPatternsThatItCannotKeep) {
  GuardEntry settings;
  for (const char* pattern : {"(", "a*", "(?=x)y", "\\1"}) {
    settings.patterns = {pattern};
    EXPECT_FALSE(MakeBanLink("words", settings).ok()) << pattern;
  }
}

TEST(LangLink, AllowsScriptsAndWhatBelongsToNone) {
  GuardEntry settings;
  settings.scripts = {"Latn", "Grek"};
  auto made = MakeLangLink("scripts", settings);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(Filtered(**made, "Ärger 12, λόγος \xF0\x9F\x98\x80!", {}),
            "Ärger 12, λόγος \xF0\x9F\x98\x80!");
  EXPECT_EQ(Filtered(**made, "ok Привет", {}), "ok !");
  settings.action = "mask";
  made = MakeLangLink("scripts", settings);
  EXPECT_EQ(Filtered(**made, "a Привет b 漢字", {}), "a  b ");
  settings.scripts = {"Klingon"};
  EXPECT_FALSE(MakeLangLink("scripts", settings).ok());
}

LinkResult Enter(const GuardEntry& settings, GenerationCall& call,
                 std::vector<std::string> fields = {}) {
  static const ServedModel model;
  const auto link = MakeRequestLink("guard", settings);
  LinkView view;
  Tags tags;
  view.call = &call;
  view.tags = &tags;
  view.model = &model;
  view.fields = [&] { return fields; };
  view.count_tokens = [&]() -> absl::StatusOr<int64_t> {
    return call.messages ? static_cast<int64_t>(call.messages->dump().size()) : 0;
  };
  return link->OnCall(view);
}

TEST(SchemaLink, RefusesWhatIsOutsideItsBounds) {
  GuardEntry settings;
  settings.use = "schema";
  settings.fields = {"messages", "max_tokens"};
  settings.max_tokens = 100;
  settings.max_messages = 2;
  settings.max_prompt = 10;
  GenerationCall call = Chat(Said("hello"));
  EXPECT_EQ(Enter(settings, call).error.param, "max_tokens");  // missing
  call.max_tokens = 100;
  EXPECT_TRUE(Enter(settings, call, {"messages"}).passed());
  EXPECT_EQ(Enter(settings, call, {"messages", "seed"}).error.param, "seed");
  call.max_tokens = 101;
  EXPECT_EQ(Enter(settings, call).error.param, "max_tokens");
  call = Chat(Said("hello hello hello"));
  call.max_tokens = 1;
  EXPECT_EQ(Enter(settings, call).error.param, "messages");
}

TEST(LimitLink, LowersWhatIsTooMuch) {
  GuardEntry settings;
  settings.use = "limit";
  settings.max_tokens = 50;
  settings.max_n = 2;
  GenerationCall call = Chat(Said("hello"));
  call.n = 5;
  EXPECT_TRUE(Enter(settings, call).passed());
  EXPECT_EQ(call.max_tokens, 50);
  EXPECT_EQ(call.n, 2);
  call.max_tokens = 20;
  EXPECT_TRUE(Enter(settings, call).passed());
  EXPECT_EQ(call.max_tokens, 20);
}

TEST(TemplateLink, PutsASystemPromptInFront) {
  GuardEntry settings;
  settings.use = "template";
  settings.system = "Be kind.";
  const Json user = {{"role", "user"}, {"content", "hi"}};
  const Json own = {{"role", "system"}, {"content", "Be rude."}};
  for (const auto& [mode, with, without] : {std::tuple("replace", "Be kind.", "Be kind."),
                                            {"add", "Be kind.\n\nBe rude.", "Be kind."},
                                            {"missing", "Be rude.", "Be kind."}}) {
    settings.mode = mode;
    GenerationCall call = Chat(Json::array({own, user}));
    EXPECT_TRUE(Enter(settings, call).passed());
    EXPECT_EQ((*call.messages)[0]["content"], with) << mode;
    EXPECT_EQ(call.messages->size(), 2u);
    call = Chat(Json::array({user}));
    EXPECT_TRUE(Enter(settings, call).passed());
    EXPECT_EQ((*call.messages)[0]["content"], without) << mode;
    EXPECT_EQ((*call.messages)[1], user);
  }
}

TEST(TrimLink, DropsAsFewOfTheOldestTurnsAsWillDo) {
  GuardEntry settings;
  settings.use = "trim";
  Json messages = Json::array({Json{{"role", "system"}, {"content", "s"}}});
  for (int i = 0; i < 9; ++i) {
    messages.push_back({{"role", "user"}, {"content", std::string(20, 'a' + i)}});
    messages.push_back({{"role", "assistant"}, {"content", "ok"}});
  }
  messages.push_back({{"role", "user"}, {"content", "last"}});
  for (int most : {10, 200, 400, 600, 100000}) {
    settings.max_tokens = most;
    GenerationCall call = Chat(messages);
    ASSERT_TRUE(Enter(settings, call).passed());
    const Json& kept = *call.messages;
    EXPECT_EQ(kept.front()["role"], "system");
    EXPECT_EQ(kept.back()["content"], "last");
    EXPECT_EQ(kept[1]["role"], "user");
    const auto size = static_cast<int>(kept.dump().size());
    if (kept.size() > 2) {
      EXPECT_LE(size, most);
    }
    if (kept.size() < messages.size()) {  // one turn more would be too many
      Json more = kept;
      const size_t dropped = messages.size() - kept.size();
      more.insert(more.begin() + 1, messages[dropped]);
      more.insert(more.begin() + 1, messages[dropped - 1]);
      EXPECT_GT(static_cast<int>(more.dump().size()), most);
    }
  }
}

}  // namespace
}  // namespace penstock
