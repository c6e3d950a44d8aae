// penstock run: a conversation with a model in the terminal, in this process.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "config/load_config.h"
#include "server/commands.h"
#include "server/config_sources.h"
#include "server/line_editor.h"
#include "server/local_talk.h"
#include "server/model_source.h"

namespace penstock {
namespace {

struct RunOptions {
  std::string model, prompt, system, chat_template, device, dtype, quantize;
  std::vector<std::string> assignments;
  TalkSampling sampling;
  bool verbose = false;
};

// Ctrl-C while an answer is being written: it ends, the program does not.
std::atomic<bool> answer_stops{false};

constexpr const char* kRunHelp =
    "/clear  begin again            /system TEXT  a new system message, and begin again\n"
    "/bye    end (or Ctrl-D)        \"\"\"           begin and end a text of several lines\n"
    "Ctrl-C stops an answer. Up and down show what was typed before.\n";

/// What a conversation is made of; prints as it goes.
class TerminalTalk {
 public:
  TerminalTalk(LocalTalk& talk, const RunOptions& options)
      : talk_(talk), options_(options), colours_(isatty(STDOUT_FILENO) != 0) {
    Begin(options.system);
  }

  void Begin(const std::string& system) {
    system_ = system;
    messages_.clear();
    if (!system.empty() && talk_.chats()) messages_.push_back({"system", system});
  }
  void BeginAgain() { Begin(std::string(system_)); }

  /// False where no answer came.
  bool Ask(const std::string& text) {
    messages_.push_back({"user", text});
    std::string answer;
    bool dim = false;
    const auto take = [&](std::string_view piece, bool is_reasoning) {
      if (is_reasoning != dim) {
        dim = is_reasoning;
        if (colours_) std::fputs(dim ? "\x1b[2m" : "\x1b[0m\n", stdout);
      }
      if (is_reasoning && !colours_) return;  // only the answer goes into files and pipes
      if (!is_reasoning) answer += piece;
      Print(piece);
    };
    answer_stops = false;
    const absl::StatusOr<TalkEnd> end =
        talk_.Answer(messages_, options_.sampling, take, [] { return answer_stops.load(); });
    if (dim && colours_) std::fputs("\x1b[0m", stdout);
    std::fputs("\n", stdout);
    std::fflush(stdout);
    if (!end.ok()) {
      std::fprintf(stderr, "penstock: %s\n", std::string(end.status().message()).c_str());
      messages_.pop_back();
      return false;
    }
    messages_.push_back({"assistant", answer});
    if (end->was_stopped) std::fputs("(stopped)\n", stderr);
    if (end->was_cut && colours_)
      std::fputs("(cut: --max-tokens, or the context, is used up)\n", stderr);
    if (options_.verbose) {
      const double streamed = end->seconds - end->first_token_seconds;
      const double speed =
          end->completion_tokens > 1 && streamed > 0 ? (end->completion_tokens - 1) / streamed : 0;
      std::fputs(absl::StrFormat(
                     "(%d tokens of prompt, %d of answer, first after %.3f s, %.1f/s)\n",
                     end->prompt_tokens, end->completion_tokens, end->first_token_seconds, speed)
                     .c_str(),
                 stderr);
    }
    return !end->was_stopped;
  }

 private:
  /// On a terminal a model's words must not steer it.
  void Print(std::string_view text) const {
    if (!colours_) {
      std::fwrite(text.data(), 1, text.size(), stdout);
    } else {
      std::string shown;
      for (size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const bool is_c1 = byte == 0xC2 && i + 1 < text.size() &&
                           static_cast<unsigned char>(text[i + 1]) < 0xA0;  // U+0080 to U+009F
        if (is_c1) {
          ++i;
        } else if (byte >= 0x20 ? byte != 0x7f : text[i] == '\n' || text[i] == '\t') {
          shown += text[i];
        }
      }
      std::fwrite(shown.data(), 1, shown.size(), stdout);
    }
    std::fflush(stdout);
  }

  LocalTalk& talk_;
  const RunOptions& options_;
  const bool colours_;
  std::string system_;
  std::vector<TalkMessage> messages_;
};

/// A text of several lines, between """ and """. False: the input has ended.
bool ReadRest(LineEditor& editor, std::string& text) {
  text.erase(0, 3);
  while (!absl::EndsWith(text, "\"\"\"")) {
    std::string line;
    const LineEditor::Outcome outcome = editor.Read("... ", line);
    if (outcome == LineEditor::Outcome::kEnd) return false;
    if (outcome == LineEditor::Outcome::kInterrupted) {
      text.clear();
      return true;
    }
    absl::StrAppend(&text, text.empty() ? "" : "\n", line);
  }
  text.resize(text.size() - 3);
  return true;
}

void Converse(LocalTalk& talk, TerminalTalk& terminal) {
  std::printf("%s. /? says what there is besides talking.\n", talk.name().c_str());
  LineEditor editor;
  while (true) {
    std::string text;
    const LineEditor::Outcome outcome = editor.Read(">>> ", text);
    if (outcome == LineEditor::Outcome::kEnd) return;
    if (outcome == LineEditor::Outcome::kInterrupted) continue;
    if (text.starts_with("\"\"\"") && !ReadRest(editor, text)) return;
    if (absl::StripAsciiWhitespace(text).empty()) continue;
    editor.Remember(text);
    if (text == "/bye" || text == "/exit" || text == "/quit") return;
    if (text == "/?" || text == "/help") {
      std::fputs(kRunHelp, stdout);
    } else if (text == "/clear") {
      terminal.BeginAgain();
    } else if (text.starts_with("/system ")) {
      terminal.Begin(text.substr(8));
    } else if (text.starts_with('/') && text.find(' ') == text.npos) {
      std::printf("There is no %s; /? says what there is.\n", text.c_str());
    } else {
      terminal.Ask(text);
    }
  }
}

absl::StatusOr<ServerConfig> ConfigOf(const RunOptions& options) {
  std::vector<std::string> assignments = options.assignments;
  if (!options.device.empty()) assignments.push_back("engine.device=" + options.device);
  if (!options.dtype.empty()) assignments.push_back("engine.dtype=" + options.dtype);
  if (!options.quantize.empty()) assignments.push_back("engine.quantize=" + options.quantize);
  ASSIGN_OR_RETURN(ServerConfig config, ReadConfig("", assignments));
  ModelEntry entry;
  entry.path = options.model;
  entry.engine = config.engine;
  entry.chat_template = options.chat_template;
  config.models.clear();
  config.models.emplace(DefaultModelName(options.model), std::move(entry));
  config.auth = {};  // nobody else is here
  RETURN_IF_ERROR(ValidateConfig(config, /*serving=*/false));
  return config;
}

absl::StatusOr<int> Run(const RunOptions& options) {
  std::string prompt = options.prompt;
  const bool from_pipe = isatty(STDIN_FILENO) == 0;
  if (from_pipe) {
    std::string piped((std::istreambuf_iterator<char>(std::cin)), std::istreambuf_iterator<char>());
    if (piped.ends_with('\n')) piped.pop_back();
    if (!piped.empty()) absl::StrAppend(&prompt, prompt.empty() ? "" : "\n\n", piped);
    if (prompt.empty()) return absl::InvalidArgumentError("there is no prompt, and no input");
  }
  ASSIGN_OR_RETURN(ServerConfig config, ConfigOf(options));
  ASSIGN_OR_RETURN(const std::unique_ptr<LocalTalk> talk, LocalTalk::Load(std::move(config)));
  TerminalTalk terminal(*talk, options);
  std::signal(SIGINT, [](int) { answer_stops = true; });
  if (!prompt.empty()) return terminal.Ask(prompt) ? 0 : 1;
  Converse(*talk, terminal);
  return 0;
}

}  // namespace

void AddRunCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command =
      app.add_subcommand("run", "Talk to a model in the terminal; input from a pipe is one prompt");
  command->add_option("MODEL", options->model, "A directory, .gguf file or org/name[@rev]")
      ->required();
  command->add_option("PROMPT", options->prompt, "Answer this and end");
  command->add_option("--system", options->system, "The system message");
  command->add_option("--max-tokens", options->sampling.max_tokens, "Tokens of an answer at most")
      ->check(CLI::Range(1, 1 << 24));
  command->add_option("--temperature", options->sampling.temperature, "0 is greedy")
      ->check(CLI::Range(0.0, 2.0));
  command->add_option("--top-p", options->sampling.top_p, "Nucleus sampling")
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--top-k", options->sampling.top_k, "The k most likely tokens");
  command->add_option("--seed", options->sampling.seed, "Same seed, same answer");
  command->add_flag("--ignore-eos", options->sampling.ignore_eos,
                    "Answers end at --max-tokens or the context alone");
  command->add_option("--chat-template", options->chat_template,
                      "A Jinja file instead of the model's own");
  command->add_option("--device", options->device, "auto, cpu, cuda:N or cuda-emulated");
  command->add_option("--dtype", options->dtype, "auto, float32, bfloat16 or float16");
  command->add_option("--quantize", options->quantize,
                      "Round weights at load: none, int8, int8-channel, int4 or int4-128");
  command->add_option("--set", options->assignments, "key.path=value, as for serve")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_flag("--verbose", options->verbose, "Say how fast answers were, on stderr");
  command->callback([options, &exit_code] {
    const absl::StatusOr<int> code = Run(*options);
    exit_code = code.ok() ? *code : 1;
    if (!code.ok())
      std::fprintf(stderr, "penstock: %s\n", std::string(code.status().message()).c_str());
  });
}

}  // namespace penstock
