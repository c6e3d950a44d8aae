#include "api/http/content_encoding.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr int kAnyFormat = 15 + 32;                                // gzip or zlib, by the header
constexpr size_t kLeastGrowth = 64 << 10, kMostGrowth = 16 << 20;  // bytes
constexpr int kMaxWindowLog =
    23;  // of zstd: 8 MiB, what RFC 9659 asks of decoders, is all it takes
constexpr size_t kWorthCompressing = 4096;  // bytes; below, packets are as many either way
constexpr int kFastLevel = 1;               // of both formats: an answer is sent once

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

void GrowFor(std::string& out, size_t used, size_t max_bytes) {
  if (used == out.size())
    out.resize(std::min(max_bytes + 1, used + std::clamp(used, kLeastGrowth, kMostGrowth)));
}

Inflated Inflate(const std::string& bytes, size_t max_bytes, std::string& out) {
  const InflateStream stream = MakeInflateStream(bytes);
  if (stream == nullptr) return Inflated::kBroken;
  size_t used = 0;
  while (true) {
    GrowFor(out, used, max_bytes);
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

struct FreeZstd {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

Inflated InflateZstd(const std::string& bytes, size_t max_bytes, std::string& out) {
  const std::unique_ptr<ZSTD_DCtx, FreeZstd> context(ZSTD_createDCtx());
  if (context == nullptr || ZSTD_isError(ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax,
                                                                kMaxWindowLog)) != 0) {
    return Inflated::kBroken;
  }
  ZSTD_inBuffer in = {bytes.data(), bytes.size(), 0};
  size_t used = 0;
  while (true) {
    GrowFor(out, used, max_bytes);
    ZSTD_outBuffer to = {out.data(), out.size(), used};
    const size_t before = in.pos;
    const size_t result = ZSTD_decompressStream(context.get(), &to, &in);
    if (ZSTD_isError(result) != 0) return Inflated::kBroken;
    const bool stuck = in.pos == before && to.pos == used;
    used = to.pos;
    if (used > max_bytes) return Inflated::kTooLarge;
    if (result == 0 && in.pos == in.size) {  // the end of a frame, and no further one
      out.resize(used);
      return Inflated::kAll;
    }
    if (stuck) return Inflated::kBroken;  // the input ends too soon
  }
}

bool Deflate(const std::string& body, std::string& out) {
  z_stream raw{};
  if (body.size() > std::numeric_limits<uInt>::max() ||
      deflateInit2(&raw, kFastLevel, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    return false;
  }
  out.resize(deflateBound(&raw, body.size()));
  raw.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
  raw.avail_in = static_cast<uInt>(body.size());
  raw.next_out = reinterpret_cast<Bytef*>(out.data());
  raw.avail_out = static_cast<uInt>(out.size());
  const bool whole = deflate(&raw, Z_FINISH) == Z_STREAM_END;
  out.resize(raw.total_out);
  deflateEnd(&raw);
  return whole;
}

bool DeflateZstd(const std::string& body, std::string& out) {
  const std::unique_ptr<ZSTD_CCtx, FreeZstd> context(ZSTD_createCCtx());
  if (context == nullptr) return false;
  out.resize(ZSTD_compressBound(body.size()));
  const size_t size = ZSTD_compressCCtx(context.get(), out.data(), out.size(), body.data(),
                                        body.size(), kFastLevel);
  if (ZSTD_isError(size) != 0) return false;
  out.resize(size);
  return true;
}

// "gzip;q=0.5" -> the name, and how much it is liked in [0, 1]; 0 for what cannot be read.
std::pair<std::string_view, double> ReadPreference(absl::string_view item) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(item, absl::MaxSplits(';', 1));
  const absl::string_view name = absl::StripAsciiWhitespace(parts.first);
  absl::string_view weight = absl::StripAsciiWhitespace(parts.second);
  double quality = 1;
  if (!weight.empty()) {
    const bool is_quality =
        absl::ConsumePrefix(&weight, "q=") || absl::ConsumePrefix(&weight, "Q=");
    if (!is_quality || !absl::SimpleAtod(weight, &quality) || !(quality >= 0 && quality <= 1))
      quality = 0;
  }
  return {std::string_view(name.data(), name.size()), quality};
}

}  // namespace

std::string_view ChooseEncoding(std::string_view accept_encoding) {
  double zstd = 0, gzip = 0;
  for (absl::string_view item : absl::StrSplit(ToAbsl(accept_encoding), ',')) {
    const auto [name, quality] = ReadPreference(item);
    if (absl::EqualsIgnoreCase(ToAbsl(name), "zstd")) zstd = quality;
    if (absl::EqualsIgnoreCase(ToAbsl(name), "gzip")) gzip = quality;
  }
  if (zstd == 0 && gzip == 0) return "";
  return zstd >= gzip ? "zstd" : "gzip";
}

void EncodeBody(std::string_view accept_encoding, HttpResponse& response) {
  if (response.body.size() < kWorthCompressing) return;
  response.headers.emplace_back("Vary", "Accept-Encoding");
  const std::string_view encoding = ChooseEncoding(accept_encoding);
  if (encoding.empty()) return;
  std::string small;
  if (!(encoding == "zstd" ? DeflateZstd : Deflate)(response.body, small)) return;
  response.body = std::move(small);
  response.headers.emplace_back("Content-Encoding", std::string(encoding));
}

std::optional<EncodingRefusal> DecodeBody(HttpRequest& request, size_t max_bytes) {
  const std::string_view encoding = request.content_encoding;
  if (request.body.empty() || encoding.empty() ||
      absl::EqualsIgnoreCase(ToAbsl(encoding), "identity"))
    return {};
  const bool zstd = absl::EqualsIgnoreCase(ToAbsl(encoding), "zstd");
  const bool known = zstd || absl::EqualsIgnoreCase(ToAbsl(encoding), "gzip") ||
                     absl::EqualsIgnoreCase(ToAbsl(encoding), "x-gzip") ||
                     absl::EqualsIgnoreCase(ToAbsl(encoding), "deflate");
  if (!known) {
    return EncodingRefusal{415, absl::StrCat("the Content-Encoding \"", ToAbsl(encoding),
                                             "\" is not supported: gzip, deflate and zstd are")};
  }
  std::string body;
  const Inflated inflated = (zstd ? InflateZstd : Inflate)(request.body, max_bytes, body);
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
