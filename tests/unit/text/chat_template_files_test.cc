// Which of a directory's chat templates is taken.
#include "text/chat_template_files.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/time/time.h"
#include "fakes/temp_dir.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

class ChatTemplateFiles : public testing::Test {
 protected:
  ChatTemplateFiles() : dir_(temp_.path()) {
    fs::create_directories(dir_ / "additional_chat_templates");
  }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name) << text;
  }
  // "plain|with tools"
  std::string Load(const nlohmann::json& config, const std::string& file = "") {
    const auto templates = LoadChatTemplates(dir_.string(), config, file);
    if (!templates.ok()) return std::string(templates.status().message());
    const auto render = [](const std::unique_ptr<ChatTemplate>& t) {
      return t == nullptr
                 ? "none"
                 : t->Render(nlohmann::ordered_json::object(), absl::UnixEpoch()).value_or("fails");
    };
    return render(templates->plain) + "|" + render(templates->with_tools);
  }
  const TempDir temp_;
  const fs::path dir_;
};

TEST_F(ChatTemplateFiles, AreTakenInTheOrderOfTransformers) {
  const nlohmann::json text = {{"chat_template", "text"}};
  const nlohmann::json list = nlohmann::json::parse(
      R"({"chat_template": [{"name": "tool_use", "template": "tools"},
          {"name": "rag", "template": "{{ not parsed"}, {"name": "default", "template": "list"}]})");
  EXPECT_EQ(Load(nlohmann::json::object()), "none|none");
  EXPECT_EQ(Load(text), "text|none");
  EXPECT_EQ(Load(list), "list|tools");
  Write("chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(Load(list), "json|none");
  Write("chat_template.jinja", "jinja");
  EXPECT_EQ(Load(list), "jinja|none");
  Write("additional_chat_templates/tool_use.jinja", "more tools");
  EXPECT_EQ(Load(list), "jinja|more tools");
  Write("own", "own");
  EXPECT_EQ(Load(list, (dir_ / "own").string()), "own|none");
}

TEST_F(ChatTemplateFiles, ErrorsSayWhich) {
  EXPECT_EQ(Load({}, (dir_ / "absent").string()), (dir_ / "absent").string() + ": cannot be read");
  EXPECT_NE(Load({{"chat_template", 5}}).find("\"chat_template\""), std::string::npos);
  EXPECT_NE(Load({{"chat_template", {{{"name", "default"}}}}}).find("\"chat_template\""),
            std::string::npos);
  Write("additional_chat_templates/tool_use.jinja", "{{ x");
  EXPECT_NE(Load({}).find("chat template \"tool_use\""), std::string::npos);
}

}  // namespace
}  // namespace penstock
