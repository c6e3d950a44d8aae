// The man page and the shells' completions, made from the commands.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/strings.h"
#include "server/command_tree.h"

namespace penstock {
namespace {

/// A line of text for roff: no character of it is an instruction.
std::string Roff(std::string_view text) {
  std::string out =
      absl::StrReplaceAll(ToAbsl(text), {{"\\", "\\e"}, {"-", "\\-"}, {"'", "\\(aq"}});
  if (out.starts_with('.')) out.insert(0, "\\&");
  return out;
}

std::string Quoted(std::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(ToAbsl(text), {{"'", "'\\''"}}), "'");
}

/// Options and commands that a word after this command may be.
std::vector<std::string> WordsOf(const CommandInfo& command) {
  std::vector<std::string> out = command.subcommands;
  for (const OptionInfo& option : command.options) {
    if (!option.is_positional) out.insert(out.end(), option.names.begin(), option.names.end());
  }
  return out;
}

// The shell follows the words to the command; a place is "/admin/keys". ("path" would be PATH in zsh.)
std::string CaseScript(const std::vector<CommandInfo>& commands, bool zsh) {
  std::string places, lists;
  for (const CommandInfo& command : commands) {
    const std::string place = command.path.empty() ? "" : "/" + command.Name("/");
    if (!place.empty()) absl::StrAppend(&places, places.empty() ? "" : "|", place);
    absl::StrAppend(&lists, "    ", place.empty() ? "''" : place,
                    ") choices=", Quoted(absl::StrJoin(WordsOf(command), " ")), " ;;\n");
  }
  return absl::StrCat(
      zsh ? "#compdef penstock\n" : "# bash completion of penstock\n",
      "_penstock() {\n  local at='' word choices\n  for word in ",
      zsh ? "\"${(@)words[2,CURRENT-1]}\"" : "\"${COMP_WORDS[@]:1:COMP_CWORD-1}\"",
      "; do\n    case \"$at/$word\" in\n      ", places,
      ") at=\"$at/$word\" ;;\n    esac\n  done\n  case \"$at\" in\n", lists, "  esac\n",
      zsh ? "  compadd -- ${=choices}\n  [[ $PREFIX == -* ]] || _files\n}\n"
            "if [[ ${funcstack[1]} == _penstock ]]; then\n  _penstock\nelse\n"
            "  compdef _penstock penstock\nfi\n"
          : "  COMPREPLY=($(compgen -W \"$choices\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n"
            "complete -o bashdefault -o default -F _penstock penstock\n");
}

std::string FishScript(const std::vector<CommandInfo>& commands) {
  std::string paths;
  for (const CommandInfo& command : commands) {
    if (!command.path.empty()) absl::StrAppend(&paths, " ", Quoted("/" + command.Name("/")));
  }
  std::string out = absl::StrCat(
      "# fish completion of penstock\nfunction __penstock_at\n  set -l path ''\n"
      "  for word in (commandline -opc)[2..-1]\n    if contains -- \"$path/$word\"",
      paths,
      "\n      set path \"$path/$word\"\n    end\n  end\n  test \"$path\" = \"$argv[1]\"\nend\n");
  for (const CommandInfo& command : commands) {
    const std::string path = command.path.empty() ? "" : "/" + command.Name("/");
    const std::string begin =
        absl::StrCat("complete -c penstock -n \"__penstock_at '", path, "'\"");
    for (const std::string& name : command.subcommands) {
      const auto child = std::find_if(commands.begin(), commands.end(), [&](const CommandInfo& c) {
        return "/" + c.Name("/") == absl::StrCat(path, "/", name);
      });
      absl::StrAppend(&out, begin, " -f -a ", name, " -d ",
                      Quoted(child == commands.end() ? "" : child->about), "\n");
    }
    for (const OptionInfo& option : command.options) {
      if (option.is_positional) continue;
      absl::StrAppend(&out, begin);
      for (const std::string& name : option.names) {
        const bool is_long = name.starts_with("--");
        absl::StrAppend(&out, is_long ? " -l " : " -s ", name.substr(is_long ? 2 : 1));
      }
      absl::StrAppend(&out, option.takes_value ? " -r" : "", " -d ", Quoted(option.about), "\n");
    }
  }
  return out;
}

}  // namespace

std::string CompletionScript(const std::vector<CommandInfo>& commands, std::string_view shell) {
  if (shell == "bash") return CaseScript(commands, /*zsh=*/false);
  if (shell == "zsh") return CaseScript(commands, /*zsh=*/true);
  if (shell == "fish") return FishScript(commands);
  return "";
}

std::string ManPage(const std::vector<CommandInfo>& commands, std::string_view version) {
  std::string out = absl::StrCat(
      ".TH PENSTOCK 1 \"\" \"penstock ", ToAbsl(version),
      "\" \"User Commands\"\n.SH NAME\npenstock \\- a standalone LLM inference server\n"
      ".SH SYNOPSIS\n.B penstock\n.I COMMAND\n[\\fIOPTIONS\\fR]\n.SH COMMANDS\n");
  for (const CommandInfo& command : commands) {
    if (command.path.empty()) continue;
    absl::StrAppend(&out, ".SS \"penstock ", Roff(command.Name(" ")));
    for (const OptionInfo& option : command.options) {
      if (!option.is_positional) continue;
      absl::StrAppend(&out, option.is_required ? " " : " [", Roff(option.names[0]),
                      option.is_required ? "" : "]");
    }
    absl::StrAppend(&out, "\"\n", Roff(command.about), ".\n");
    for (const OptionInfo& option : command.options) {
      if (std::find(option.names.begin(), option.names.end(), "--help") != option.names.end())
        continue;
      absl::StrAppend(&out, ".TP\n\\fB", Roff(absl::StrJoin(option.names, ", ")), "\\fR",
                      option.takes_value && !option.is_positional ? " \\fIVALUE\\fR" : "", "\n",
                      option.about.empty() ? "\\&" : Roff(option.about), "\n");
    }
    if (!command.example.empty())
      absl::StrAppend(&out, ".PP\nExample:\n.PP\n.nf\n.RS\n", Roff(command.example),
                      "\n.RE\n.fi\n");
  }
  absl::StrAppend(
      &out,
      ".SH EXIT STATUS\n0: done; 1: usage, configuration or a file; 2: what was checked "
      "did not pass; 70: an engine has failed.\n.SH ENVIRONMENT\n"
      "PENSTOCK_API_KEY: the key of a server, or that clients must send.\n"
      "HF_HOME, HF_TOKEN: where models from the hub are kept, and who asks for them.\n");
  return out;
}

}  // namespace penstock
