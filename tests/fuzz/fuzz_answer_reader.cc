// The body of an answer as the load generator reads it. The first byte says whether it is a stream,
// and into which pieces it is cut: whatever the cuts, it means the same. Links penstock_bench.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <tuple>

#include "bench/answer_reader.h"

namespace {

using namespace penstock;

auto ReadBody(std::string_view body, bool stream, size_t piece) {
  AnswerReader reader(stream, /*max_tokens=*/8, /*exact=*/false);
  int pieces = 0;
  for (size_t end = piece; end < body.size(); end += piece)
    pieces += reader.Read(body.substr(0, end), /*whole=*/false);
  pieces += reader.Read(body, /*whole=*/true);
  if (pieces < 0) std::abort();
  const std::string fault = reader.Fault(200);
  // An answer without a fault is one that can be counted.
  if (fault.empty() && (reader.prompt_tokens() < 0 || reader.completion_tokens() < 0 ||
                        reader.completion_tokens() > 8)) {
    std::abort();
  }
  return std::tuple(pieces, reader.text(), fault, reader.prompt_tokens(),
                    reader.completion_tokens(), reader.cached_tokens());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool stream = data[0] % 2 == 0;
  const size_t piece = 1 + data[0] / 2;
  if (ReadBody(body, stream, piece) != ReadBody(body, stream, body.size() + 1)) std::abort();
  return 0;
}
