// What a request costs in front of the engine: CPU time of each part for a chat message of 256 bytes
// and for each further KB, and of the whole by way of a socket.
//   request_bench MODEL_DIR TEXT_FILE [RESULT_JSON]
// MODEL_DIR has tokenizer.json and tokenizer_config.json; messages are pieces of TEXT_FILE.
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "api/http/response_head.h"
#include "api/openai/answer_writer.h"
#include "api/openai/call_codec.h"
#include "base/thread_cpu.h"
#include "request_rig.h"
#include "service/call_fields.h"
#include "service/prompt.h"
#include "service/sampling.h"
#include "service/wire_json.h"

namespace penstock {
namespace {

constexpr size_t kSmall = 256, kLarge = 256 + 8 * 1024;
constexpr double kFurtherKb = 8;

/// Microseconds of CPU per call of `work`, which takes the number of the call: the median of rounds.
template <class Work>
double Micros(int calls, Work work) {
  constexpr int kRounds = 9;
  std::vector<double> rounds;
  int call = 0;
  for (int round = 0; round <= kRounds; ++round) {
    const absl::Duration begin = ThreadCpuTime();
    for (int i = 0; i < calls; ++i) work(call++);
    const double took = absl::ToDoubleMicroseconds(ThreadCpuTime() - begin) / calls;
    if (round > 0) rounds.push_back(took);  // the first one warms up
  }
  return Median(std::move(rounds));
}

struct Part {
  std::string name;
  double small = 0, per_kb = 0;
};

GenerationCall Read(const std::string& text) {
  GenerationCall call;
  const auto body = WireDocument::Parse(text);
  if (!body.ok() || !ReadCall(body->root(), kChat, call).ok()) std::abort();
  return call;
}

class Bench {
 public:
  explicit Bench(RequestRig& rig) : rig_(rig) {}

  std::vector<Part> Parts() {
    Add("JSON", [&](size_t size) {
      const auto bodies = Bodies(size);
      return Micros(200, [&](int i) { Keep(Read(bodies[i % bodies.size()])); });
    });
    Add("checks", [&](size_t size) {
      const auto calls = Calls(size);
      return Micros(200, [&](int i) {
        GenerationCall call = calls[i % calls.size()];
        if (!CheckFieldRanges(call).ok() || !CheckFieldsTogether(call, rig_.model(), 16).ok() ||
            !ResolveTexts(call, rig_.model()).ok())
          std::abort();
        Keep(MakeRequest(call, rig_.model(), 100).ok());
      });
    });
    Add("template", [&](size_t size) {
      const auto calls = Calls(size);
      return Micros(200, [&](int i) { Keep(RenderChat(calls[i % calls.size()], rig_.model())); });
    });
    Add("tokenizer", [&](size_t size) {
      std::vector<std::string> texts;
      for (const GenerationCall& call : Calls(size))
        texts.push_back(*RenderChat(call, rig_.model()));
      return Micros(
          50, [&](int i) { Keep(rig_.model().tokenizer->Encode(texts[i % texts.size()], false)); });
    });
    Add("authorisation",
        [&](size_t) { return Micros(2000, [&](int) { Keep(rig_.Admit().ok()); }); });
    Add("limits", [&](size_t) {
      return Micros(2000, [&](int) {
        auto reserved = rig_.limits().Reserve("t", rig_.rules(), 300);
        if (!reserved.ok()) std::abort();
        (*reserved)->Settle(200);
      });
    });
    Add("chain", [&](size_t size) {
      const auto calls = Calls(size);
      return Micros(500, [&](int i) {
        GenerationCall call = calls[i % calls.size()];
        rig_.PassChain(call);
      });
    });
    return parts_;
  }

  /// Of one token of a stream, and of a whole answer of 256 bytes.
  double EventMicros() {
    AnswerShape shape;
    shape.chat = shape.stream = true;
    AnswerWriter writer(shape, Start());
    std::string events, out;
    Delta delta;
    delta.text = " word";
    return Micros(20000, [&](int) {
      events.clear();
      out.clear();
      writer.AppendEvent(events, delta);
      AppendChunk(out, events);
    });
  }
  double BodyMicros() {
    AnswerShape shape;
    shape.chat = true;
    std::vector<Delta> choices(1);
    choices[0].text = rig_.Piece(0, 256);
    choices[0].finish = FinishReason::kLength;
    return Micros(5000, [&](int) {
      AnswerWriter writer(shape, Start());
      Keep(writer.Body(choices, {}));
    });
  }

 private:
  ResponseStart Start() const {
    ResponseStart start;
    start.model_name = "demo";
    start.request_id = "0123456789abcdef0123456789abcdef";
    start.num_choices = 1;
    start.prompt_ids.resize(1);
    return start;
  }
  template <class T>
  void Keep(const T& value) {
    asm volatile("" : : "g"(&value) : "memory");
  }
  std::vector<std::string> Bodies(size_t size) const {
    std::vector<std::string> bodies;
    for (int i = 0; i < 64; ++i) bodies.push_back(rig_.Body(i, size, false, 64));
    return bodies;
  }
  std::vector<GenerationCall> Calls(size_t size) const {
    std::vector<GenerationCall> calls;
    for (const std::string& body : Bodies(size)) calls.push_back(Read(body));
    return calls;
  }
  template <class Measure>
  void Add(const char* name, Measure measure) {
    const double small = measure(kSmall), large = measure(kLarge);
    parts_.push_back({name, small, (large - small) / kFurtherKb});
  }

  RequestRig& rig_;
  std::vector<Part> parts_;
};

int Main(const std::string& dir, const std::string& text, const std::string& result) {
  absl::StatusOr<std::unique_ptr<RequestRig>> made = RequestRig::Make(dir, text);
  if (!made.ok()) return std::fprintf(stderr, "%s\n", std::string(made.status().message()).c_str());
  RequestRig& rig = **made;
  setvbuf(stdout, nullptr, _IOLBF, 0);
  Bench bench(rig);
  nlohmann::ordered_json out;
  const auto show = [&](const std::string& name, double small, double per_kb) {
    std::printf("%-44s %9.2f %9.2f\n", name.c_str(), small, per_kb);
    out["parts"].push_back({{"part", name}, {"us", small}, {"us_per_further_kb", per_kb}});
  };
  std::printf("%-44s %9s %9s\n", "microseconds of CPU", "256 bytes", "1 KB more");
  for (const Part& part : bench.Parts()) show(part.name, part.small, part.per_kb);
  show("answer of 256 bytes", bench.BodyMicros(), 0);

  constexpr int kFew = 16, kMany = 144;  // tokens
  for (const bool chained : {false, true}) {
    rig.Serve(chained);
    for (const int clients : {1, 32}) {
      const std::string with =
          absl::StrCat(clients, clients == 1 ? " client" : " clients", chained ? ", chain" : "");
      const FrontCost small = rig.Whole(kSmall, 1, false, clients);
      const FrontCost large = rig.Whole(kLarge, 1, false, clients);
      const FrontCost few = rig.Whole(kSmall, kFew, true, clients);
      const FrontCost many = rig.Whole(kSmall, kMany, true, clients);
      show("whole, " + with, small.total(), (large.total() - small.total()) / kFurtherKb);
      const double token = (many.total() - few.total()) / (kMany - kFew);
      const double user = (many.user - few.user) / (kMany - kFew);
      std::printf("%-44s %9.2f (%.2f outside the kernel)\n", ("token, " + with).c_str(), token,
                  user);
      out["tokens"].push_back(
          {{"clients", clients}, {"chain", chained}, {"us", token}, {"us_outside_kernel", user}});
    }
  }
  const double event = bench.EventMicros();
  std::printf("%-44s %9.2f\n", "event of a token: JSON and chunk alone", event);
  out["event_us"] = event;
  if (!result.empty()) std::ofstream(result) << out.dump(1) << "\n";
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "request_bench MODEL_DIR TEXT_FILE [RESULT_JSON]\n");
  return penstock::Main(argv[1], argv[2], argc > 3 ? argv[3] : "");
}
