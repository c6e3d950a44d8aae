// What a server sends to the load generator, as bytes of HTTP/1.1 and as the answer in them. The
// first byte chooses how they are cut into pieces: whatever the cuts, they mean the same. Links
// penstock_bench.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "bench/answer_reader.h"
#include "bench/http_stream.h"

namespace {

using namespace penstock;

struct Outcome {
  bool answer = true;  // no fault of framing
  bool done = false, keep_alive = false;
  int status = 0;
  std::string body, text, fault;

  bool operator==(const Outcome&) const = default;
};

Outcome ReadInPieces(std::string_view bytes, size_t piece) {
  Outcome out;
  HttpStream stream;
  AnswerReader reader(/*stream=*/true, /*max_tokens=*/8, /*exact=*/false);
  for (size_t at = 0; at < bytes.size() && out.answer && !stream.done(); at += piece) {
    const size_t had = stream.body().size();
    out.answer = stream.Feed(bytes.substr(at, piece));
    if (stream.body().size() < had) std::abort();
    reader.Read(stream.body(), stream.done());
  }
  if (out.answer && !stream.done()) stream.FeedEnd();
  if (!out.answer) return {.answer = false};  // where it was seen depends on the cuts
  reader.Read(stream.body(), stream.done());
  out.done = stream.done();
  out.keep_alive = stream.keep_alive();
  out.status = stream.status();
  out.body = stream.body();
  out.text = reader.text();
  out.fault = reader.Fault(stream.status());
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Outcome whole = ReadInPieces(bytes, std::max<size_t>(1, bytes.size()));
  if (whole.done && (whole.status < 100 || whole.status > 999)) std::abort();
  if (whole.body.size() > bytes.size()) std::abort();
  if (!(ReadInPieces(bytes, 1 + data[0] % 64) == whole)) std::abort();
  return 0;
}
