// Megabytes of text that one thread encodes per second of its time, and how the time of hostile
// texts grows with their size. Prints JSON lines.
//   tokenizer_bench TOKENIZER [TEXT_FILE [CHAT_TEMPLATE]]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "text/chat_template.h"
#include "text/tokenizer_loader.h"

namespace penstock {
namespace {

// Of this thread's own work, so that neighbours on the machine do not count.
double Seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

// The best and the median of a few runs, the first one apart.
void Measure(const Tokenizer& tokenizer, const std::string& name, const std::string& text) {
  std::vector<double> seconds;
  size_t num_tokens = 0;
  double first = 0;
  const double start = Seconds();
  for (int run = 0; run < 9 && (run < 2 || Seconds() - start < 4); ++run) {
    const double begin = Seconds();
    num_tokens = tokenizer.Encode(text, false).size();
    (run == 0 ? first : seconds.emplace_back()) = Seconds() - begin;
  }
  std::sort(seconds.begin(), seconds.end());
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  std::printf(
      "{\"name\": \"%s\", \"mb_per_s\": %.1f, \"mb_per_s_best\": %.1f, \"mb_per_s_first\": %.1f, "
      "\"bytes\": %zu, \"tokens\": %zu}\n",
      name.c_str(), megabytes / seconds[seconds.size() / 2], megabytes / seconds.front(),
      megabytes / first, text.size(), num_tokens);
  std::fflush(stdout);
}

std::string Repeat(const std::string& part, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += part;
  return text;
}

// Texts that make of a whole input one word, one run or one cluster.
constexpr std::pair<const char*, const char*> kHostile[] = {
    {"one letter", "a"},
    {"two letters", "ab"},
    {"blanks", " "},
    {"line breaks", "\n"},
    {"digits", "7"},
    {"dashes", "-"},
    {"combining marks", "\u0301"},
    {"combining marks out of order", "\u0301\u0316"},
    {"a letter without blanks", "\u4e2d"}};

// The time for a quarter, a half, one and two megabytes: per byte it stays what it is. `growth` is
// the exponent e of time ~ size^e over the whole range.
void MeasureGrowth(const Tokenizer& tokenizer, const std::string& name, const std::string& part) {
  constexpr size_t kSizes[] = {250000, 500000, 1000000, 2000000};
  std::vector<double> best;
  for (const size_t size : kSizes) {
    const std::string text = Repeat(part, size);
    double least = 1e9;
    for (int run = 0; run < 4; ++run) {
      const double begin = Seconds();
      tokenizer.Encode(text, false);
      least = std::min(least, Seconds() - begin);
    }
    best.push_back(least);
  }
  std::printf(
      "{\"name\": \"%s\", \"mb_per_s\": %.1f, \"ms\": [%.1f, %.1f, %.1f, %.1f], "
      "\"growth\": %.2f}\n",
      name.c_str(), 1 / best[2], best[0] * 1e3, best[1] * 1e3, best[2] * 1e3, best[3] * 1e3,
      std::log2(best[3] / best[0]) / 3);
  std::fflush(stdout);
}

absl::Status MeasureTurn(const Tokenizer& tokenizer, const std::string& text,
                         const std::string& template_path) {
  ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplate::Parse(ReadAll(template_path)));
  nlohmann::ordered_json context = {{"add_generation_prompt", true}};
  context["messages"] = {{{"role", "system"}, {"content", "You are a helpful assistant."}},
                         {{"role", "user"}, {"content", text.substr(0, 2048)}}};
  std::vector<double> seconds;
  for (int run = 0; run < 200; ++run) {
    const double begin = Seconds();
    ASSIGN_OR_RETURN(const std::string prompt, chat.Render(context, absl::Now()));
    tokenizer.Encode(prompt, false);
    seconds.push_back(Seconds() - begin);
  }
  std::sort(seconds.begin(), seconds.end());
  std::printf("{\"name\": \"render and encode a turn of 2 KB\", \"us\": %.1f, \"us_p99\": %.1f}\n",
              seconds[seconds.size() / 2] * 1e6, seconds[seconds.size() * 99 / 100] * 1e6);
  return absl::OkStatus();
}

absl::Status Run(int argc, char** argv) {
  if (argc < 2)
    return absl::InvalidArgumentError(
        "usage: tokenizer_bench TOKENIZER [TEXT_FILE [CHAT_TEMPLATE]]");
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, LoadTokenizer(argv[1]));
  constexpr size_t kMegabyte = 1000000;
  std::string text = argc > 2 ? ReadAll(argv[2]) : "The water was cold, and they said nothing. ";
  if (text.empty()) return absl::NotFoundError("the text file is empty or cannot be read");
  text = Repeat(text, kMegabyte);
  Measure(*tokenizer, "text", text);
  for (const auto& [name, part] : kHostile) MeasureGrowth(*tokenizer, name, part);
  return argc > 3 ? MeasureTurn(*tokenizer, text, argv[3]) : absl::OkStatus();
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  const absl::Status status = penstock::Run(argc, argv);
  if (!status.ok())
    std::fprintf(stderr, "tokenizer_bench: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
