// The ids that calls of functions get, and real chat templates that are shown them again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "service/chat_messages.h"
#include "service/ids.h"
#include "service/prompt.h"
#include "text/chat_template.h"
#include "text/reply/reply_format.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

CallIdForm FormOf(std::string_view format) {
  for (const CallFormat& one : CallFormats()) {
    if (one.name == format) return one.ids;
  }
  ADD_FAILURE() << format;
  return CallIdForm::kAny;
}

TEST(CallIds, HaveTheFormOfTheModelsFamily) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = MakeCallId(FormOf("mistral"), "f", i);
    EXPECT_EQ(id.size(), 9u);
    for (const char c : id) EXPECT_TRUE(absl::ascii_isalnum(static_cast<unsigned char>(c))) << id;
    ids.insert(id);
    const std::string other = MakeCallId(FormOf("hermes"), "f", i);
    EXPECT_EQ(other.size(), 29u);
    EXPECT_EQ(other.substr(0, 5), "call_");
    ids.insert(other);
  }
  EXPECT_EQ(ids.size(), 2000u);
  EXPECT_EQ(MakeCallId(FormOf("kimi_k2"), "get_weather", 0), "functions.get_weather:0");
  EXPECT_EQ(MakeCallId(FormOf("kimi_k2"), "now", 12), "functions.now:12");
}

/// A chat in which the model called a function under `id`, as a client sends it.
absl::StatusOr<std::string> RenderedWithCall(const ChatTemplate& chat_template,
                                             const std::string& id) {
  Json messages = Json::array({
      {{"role", "user"}, {"content", "How is it in Oslo?"}},
      {{"role", "assistant"},
       {"content", ""},
       {"tool_calls",
        Json::array(
            {{{"id", id},
              {"type", "function"},
              {"function", {{"name", "get_weather"}, {"arguments", R"({"city": "Oslo"})"}}}}})}},
      {{"role", "tool"}, {"name", "get_weather"}, {"tool_call_id", id}, {"content", "Sun."}},
  });
  GenerationCall call;
  call.chat = true;
  const absl::Status read = ReadChatField("messages", messages, call);
  if (!read.ok()) return read;
  ServedModel model;
  model.chat_template = &chat_template;
  model.bos_token = "<s>";
  model.eos_token = "</s>";
  return RenderChat(call, model);
}

TEST(CallIds, AreTakenBackByRealTemplates) {
  std::ifstream file(PENSTOCK_SHARED_DATA "/chat/chat_goldens.json");
  if (!file) GTEST_SKIP() << "the shared data is not there";
  const Json templates = Json::parse(file)["templates"];
  int num_mistral = 0, num_strict = 0, num_kimi = 0;
  for (const auto& [name, value] : templates.items()) {
    const std::string& source = value.get_ref<const std::string&>();
    const CallFormat* format = CallFormatOf(source);
    if (format == nullptr || format->ids == CallIdForm::kAny) continue;
    const absl::StatusOr<ChatTemplate> compiled = ChatTemplate::Parse(source);
    ASSERT_TRUE(compiled.ok()) << name;
    const std::string id = MakeCallId(format->ids, "get_weather", 0);
    const absl::StatusOr<std::string> own = RenderedWithCall(*compiled, id);
    if (source.find("ids.append(") != std::string::npos) {  // which the sandbox forbids, as Jinja's
      EXPECT_THAT(std::string(own.status().message()), HasSubstr("'append' of 'list'")) << name;
      continue;
    }
    ASSERT_TRUE(own.ok()) << name << ": " << own.status();
    EXPECT_THAT(*own, HasSubstr("Sun.")) << name;
    if (format->name == "kimi_k2") {
      EXPECT_THAT(*own, HasSubstr("## Return of functions.get_weather:0")) << name;
      ++num_kimi;
      continue;
    }
    ++num_mistral;
    // Another server's id is the template's to judge: it is shown as it is, or refused.
    const absl::StatusOr<std::string> foreign = RenderedWithCall(*compiled, "call_0123456789ab");
    if (source.find("length != 9") == std::string::npos) {
      EXPECT_TRUE(foreign.ok()) << name << ": " << foreign.status();
      continue;
    }
    ++num_strict;
    EXPECT_THAT(*own, HasSubstr(id)) << name;
    EXPECT_EQ(foreign.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(foreign.status().message()), HasSubstr("9")) << name;
  }
  EXPECT_GE(num_mistral, 12);
  EXPECT_GE(num_strict, 5);
  EXPECT_GE(num_kimi, 1);
}

}  // namespace
}  // namespace penstock
