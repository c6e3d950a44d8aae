// What the chain costs: CPU time of each link for one request of 2 KB and its answer in 200 pieces.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "chain/chain_set.h"

namespace penstock {
namespace {

constexpr char kScript[] = R"(
function request(body, facts)
  body.max_tokens = math.min(body.max_tokens or 256, 256)
  return body
end
function delta(text) return (string.gsub(text, "%d%d%d%-%d%d%d%d", "[number]")) end
)";

GenerationCall TwoKilobytes() {
  auto messages = std::make_shared<nlohmann::ordered_json>(nlohmann::ordered_json::array());
  std::string text;
  while (text.size() < 250) text += "The quick brown fox jumps over the lazy dog, 12 times. ";
  for (int i = 0; i < 8; ++i)
    messages->push_back({{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", text}});
  GenerationCall call;
  call.chat = true;
  call.messages = std::move(messages);
  call.max_tokens = 200;
  return call;
}

GuardEntry Settings(const std::string& use) {
  GuardEntry settings;
  settings.use = use;
  settings.max_tokens = 4096;
  settings.max_prompt = 100000;
  settings.system = "Be kind.";
  settings.scripts = {"Latn"};
  for (int i = 0; i < 50; ++i) settings.words.push_back("forbidden" + std::to_string(i));
  settings.patterns = {"[0-9]{3}-[0-9]{4}", "[a-z]+@[a-z]+\\.com"};
  settings.file = "/tmp/penstock_chain_bench.lua";
  return settings;
}

std::shared_ptr<ChainLink> Link(const std::string& use) {
  std::ofstream(Settings(use).file) << kScript;
  ServerConfig config;
  config.guards["link"] = Settings(use);
  config.chain = {"link"};
  auto set = ChainSet::Make(config, nullptr, nullptr);
  if (!set.ok()) std::fprintf(stderr, "%s\n", std::string(set.status().message()).c_str());
  return set.ok() ? (*set)->For("anonymous").front() : nullptr;
}

void Request(benchmark::State& state, const std::string& use) {
  const std::shared_ptr<ChainLink> link = Link(use);
  if (link == nullptr) return state.SkipWithError("no link");
  const GenerationCall call = TwoKilobytes();
  for (auto _ : state) {
    GenerationCall copy = call;
    Tags tags;
    LinkView view;
    view.call = &copy;
    view.tags = &tags;
    if (!link->OnCall(view).passed()) return state.SkipWithError("denied");
  }
}

void Answer(benchmark::State& state, const std::string& use) {
  const std::shared_ptr<ChainLink> link = Link(use);
  if (link == nullptr) return state.SkipWithError("no link");
  for (auto _ : state) {
    Tags tags;
    LinkView view;
    view.tags = &tags;
    const std::unique_ptr<OutputFilter> filter = link->NewFilter(view);
    std::string out;
    for (int i = 0; i < 200; ++i) benchmark::DoNotOptimize(filter->Append(" piece", out).passed());
    benchmark::DoNotOptimize(filter->Finish(out).passed());
  }
}

BENCHMARK_CAPTURE(Request, schema, "schema");
BENCHMARK_CAPTURE(Request, limit, "limit");
BENCHMARK_CAPTURE(Request, system_prompt, "template");
BENCHMARK_CAPTURE(Request, ban, "ban");
BENCHMARK_CAPTURE(Request, lang, "lang");
BENCHMARK_CAPTURE(Request, lua, "lua");
BENCHMARK_CAPTURE(Answer, ban_200_pieces, "ban");
BENCHMARK_CAPTURE(Answer, lang_200_pieces, "lang");
BENCHMARK_CAPTURE(Answer, lua_200_pieces, "lua");

}  // namespace
}  // namespace penstock

BENCHMARK_MAIN();
