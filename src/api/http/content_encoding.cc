#include "api/http/content_encoding.h"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr int kAnyFormat = 15 + 32;                                // gzip or zlib, by the header
constexpr size_t kLeastGrowth = 64 << 10, kMostGrowth = 16 << 20;  // bytes

struct EndInflate {
  void operator()(z_stream* stream) const {
    inflateEnd(stream);
    delete stream;
  }
};
using InflateStream = std::unique_ptr<z_stream, EndInflate>;

InflateStream MakeInflateStream(const std::string& bytes) {
  InflateStream stream(new z_stream{});
  if (bytes.size() > std::numeric_limits<uInt>::max() ||
      inflateInit2(stream.get(), kAnyFormat) != Z_OK) {
    return nullptr;
  }
  // zlib reads only, but says so in later versions alone.
  stream->next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream->avail_in = static_cast<uInt>(bytes.size());
  return stream;
}

enum class Inflated : uint8_t { kAll, kBroken, kTooLarge };

Inflated Inflate(const std::string& bytes, size_t max_bytes, std::string& out) {
  const InflateStream stream = MakeInflateStream(bytes);
  if (stream == nullptr) return Inflated::kBroken;
  size_t used = 0;
  while (true) {
    if (used == out.size())
      out.resize(std::min(max_bytes + 1, used + std::clamp(used, kLeastGrowth, kMostGrowth)));
    stream->next_out = reinterpret_cast<Bytef*>(out.data() + used);
    stream->avail_out = static_cast<uInt>(out.size() - used);
    const int result = inflate(stream.get(), Z_NO_FLUSH);
    used = out.size() - stream->avail_out;
    if (used > max_bytes) return Inflated::kTooLarge;
    if (result == Z_STREAM_END && stream->avail_in == 0) {
      out.resize(used);
      return Inflated::kAll;
    }
    // Z_BUF_ERROR as well: the input ends too soon. Further members are more of the same body.
    if (result != Z_OK && (result != Z_STREAM_END || inflateReset(stream.get()) != Z_OK))
      return Inflated::kBroken;
  }
}

}  // namespace

std::optional<EncodingRefusal> DecodeBody(HttpRequest& request, size_t max_bytes) {
  const std::string_view encoding = request.content_encoding;
  if (request.body.empty() || encoding.empty() ||
      absl::EqualsIgnoreCase(ToAbsl(encoding), "identity"))
    return {};
  const bool known = absl::EqualsIgnoreCase(ToAbsl(encoding), "gzip") ||
                     absl::EqualsIgnoreCase(ToAbsl(encoding), "x-gzip") ||
                     absl::EqualsIgnoreCase(ToAbsl(encoding), "deflate");
  if (!known) {
    return EncodingRefusal{415, absl::StrCat("the Content-Encoding \"", ToAbsl(encoding),
                                             "\" is not supported: gzip and deflate are")};
  }
  std::string body;
  const Inflated inflated = Inflate(request.body, max_bytes, body);
  if (inflated == Inflated::kTooLarge) {
    return EncodingRefusal{413,
                           absl::StrCat("the inflated body is larger than ", max_bytes, " bytes")};
  }
  if (inflated == Inflated::kBroken) {
    return EncodingRefusal{400, absl::StrCat("the body is no valid ", ToAbsl(encoding))};
  }
  request.body = std::move(body);
  request.content_encoding.clear();
  return {};
}

}  // namespace penstock
