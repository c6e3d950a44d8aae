#include "server/command_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

namespace penstock {
namespace {

using ::testing::HasSubstr;

struct Commands {
  Commands() : app("about", "penstock") {
    CLI::App* serve = app.add_subcommand("serve", "Serve a model");
    serve->add_option("MODEL", text, "What is served");
    serve->add_option("--port,-p", number, "The user's port");
    serve->add_flag("--quiet", flag, ".Says nothing");
    app.add_subcommand("admin", "Operate")->add_subcommand("keys", "Keys");
  }
  std::string text;
  int number = 0;
  bool flag = false;
  CLI::App app;
};

TEST(CommandTree, TellsAllCommandsAndOptions) {
  Commands commands;
  const std::vector<CommandInfo> all = DescribeCommands(commands.app);
  ASSERT_EQ(all.size(), 4);
  EXPECT_EQ(all[1].Name(" "), "serve");
  EXPECT_EQ(all[3].Name("/"), "admin/keys");
  ASSERT_EQ(all[1].options.size(), 4);  // with --help
  EXPECT_TRUE(all[1].options[1].is_positional);
  EXPECT_EQ(all[1].options[1].names[0], "MODEL");
  EXPECT_THAT(all[1].options[2].names, testing::ElementsAre("--port", "-p"));
  EXPECT_TRUE(all[1].options[2].takes_value);
  EXPECT_FALSE(all[1].options[3].takes_value);
}

TEST(CommandTree, NamesTheNearestWord) {
  Commands commands;
  const auto explain = [&](const std::vector<std::string>& words) {
    return ExplainWords(commands.app, words);
  };
  EXPECT_EQ(explain({"serv"}), "penstock has no command serv; did you mean serve?");
  EXPECT_EQ(explain({"admin", "kyes"}), "penstock admin has no command kyes; did you mean keys?");
  EXPECT_EQ(explain({"serve", "--prot=1"}),
            "penstock serve has no option --prot; did you mean --port?");
  EXPECT_EQ(explain({"utterly-different"}), "penstock has no command utterly-different");
  EXPECT_EQ(explain({"foo"}), "penstock has no command foo");
  EXPECT_EQ(explain({"serve", "any-model", "--port", "serv", "--quiet"}), "");
  EXPECT_EQ(explain({"serve", "--", "--prot"}), "");
}

TEST(CommandTree, TheManPageHoldsNoInstructionsOfItsTexts) {
  Commands commands;
  const std::string page = ManPage(DescribeCommands(commands.app), "1.0");
  EXPECT_THAT(page, HasSubstr("\n\\&.Says nothing\n"));
  EXPECT_THAT(page, HasSubstr("The user\\(aqs port"));
  EXPECT_THAT(page, HasSubstr("\\fB\\-\\-port, \\-p\\fR \\fIVALUE\\fR"));
}

TEST(CommandTree, ScriptsAreMadeForThreeShells) {
  Commands commands;
  const std::vector<CommandInfo> all = DescribeCommands(commands.app);
  EXPECT_THAT(CompletionScript(all, "bash"), HasSubstr("/serve|/admin|/admin/keys)"));
  EXPECT_THAT(CompletionScript(all, "zsh"), HasSubstr("#compdef penstock"));
  EXPECT_THAT(CompletionScript(all, "fish"), HasSubstr("-l port -s p -r -d 'The user'\\''s port'"));
  EXPECT_EQ(CompletionScript(all, "tcsh"), "");
}

}  // namespace
}  // namespace penstock
