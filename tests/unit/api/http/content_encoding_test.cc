#include "api/http/content_encoding.h"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

namespace penstock {
namespace {

std::string Compressed(const std::string& text, bool gzip) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, gzip ? 31 : 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()), 0);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string Zstd(const std::string& text, int level = 3, int window_log = 0) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  if (window_log > 0) ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  std::string out(ZSTD_compressBound(text.size()), 0);
  const size_t size = ZSTD_compress2(context, out.data(), out.size(), text.data(), text.size());
  EXPECT_FALSE(ZSTD_isError(size)) << ZSTD_getErrorName(size);
  out.resize(size);
  ZSTD_freeCCtx(context);
  return out;
}

std::string Unzstd(const std::string& bytes) {
  std::string out(1 << 20, 0);
  const size_t size = ZSTD_decompress(out.data(), out.size(), bytes.data(), bytes.size());
  EXPECT_FALSE(ZSTD_isError(size)) << ZSTD_getErrorName(size);
  out.resize(ZSTD_isError(size) != 0 ? 0 : size);
  return out;
}

/// The status, 200 where `request` became what was meant.
int Decode(HttpRequest& request, size_t max_bytes = 1 << 20) {
  const auto refusal = DecodeBody(request, max_bytes);
  return refusal ? refusal->status : 200;
}

HttpRequest Coded(std::string encoding, std::string body) {
  HttpRequest request;
  request.content_encoding = std::move(encoding);
  request.body = std::move(body);
  return request;
}

TEST(ContentEncoding, InflatesWhatWasDeflated) {
  std::string text;
  for (int i = 0; i < 30'000; ++i) text += std::to_string(i * 7919);
  for (const std::string& plain : {std::string(), std::string("{}"), text}) {
    for (const char* name : {"gzip", "GZIP", "x-gzip", "deflate"}) {
      HttpRequest request = Coded(name, Compressed(plain, std::string(name) != "deflate"));
      EXPECT_EQ(Decode(request), 200) << name;
      EXPECT_EQ(request.body, plain);
      EXPECT_TRUE(request.content_encoding.empty()) << "once is enough";
    }
  }
  HttpRequest members = Coded("gzip", Compressed("one ", true) + Compressed("two", true));
  EXPECT_EQ(Decode(members), 200);
  EXPECT_EQ(members.body, "one two");
  for (const char* name : {"", "identity"}) {
    HttpRequest request = Coded(name, "as it is");
    EXPECT_EQ(Decode(request), 200);
    EXPECT_EQ(request.body, "as it is");
  }
}

TEST(ContentEncoding, RefusesWhatIsUnknownBrokenOrCut) {
  for (const char* name : {"br", "zstd, gzip", "gzip, gzip", "gzip;q=1", " ", "\xff"}) {
    HttpRequest request = Coded(name, "x");
    EXPECT_EQ(Decode(request), 415) << name;
  }
  const std::string good = Compressed(std::string(5'000, 'a') + "b", true);
  for (size_t length = 1; length < good.size(); ++length) {
    HttpRequest request = Coded("gzip", good.substr(0, length));
    EXPECT_EQ(Decode(request), 400) << length;
  }
  for (const std::string& bad :
       {good + "x", std::string("{\"prompt\":\"x\"}"), std::string(1, 0) + good}) {
    HttpRequest request = Coded("gzip", bad);
    EXPECT_EQ(Decode(request), 400);
  }
  std::string flipped = good;
  flipped[flipped.size() - 6] ^= 1;  // the checksum
  HttpRequest request = Coded("gzip", flipped);
  EXPECT_EQ(Decode(request), 400);
}

TEST(ContentEncoding, NeverMakesMoreThanTheLimit) {
  const std::string text(100'000, 'a');
  for (const size_t limit : {size_t{0}, size_t{1}, text.size() - 1, text.size(), text.size() + 1}) {
    HttpRequest request = Coded("gzip", Compressed(text, true));
    EXPECT_EQ(Decode(request, limit), limit >= text.size() ? 200 : 413) << limit;
  }
  HttpRequest bomb = Coded("gzip", Compressed(std::string(200'000'000, 0), true));
  EXPECT_LT(bomb.body.size(), 300'000);
  EXPECT_EQ(Decode(bomb, 1 << 20), 413);
  EXPECT_LT(bomb.body.size(), 300'000) << "left as it was";
}

TEST(ContentEncoding, InflatesZstdOfOneOrSeveralFrames) {
  std::string text;
  for (int i = 0; i < 30'000; ++i) text += std::to_string(i * 7919);
  for (const std::string& plain : {std::string(), std::string("{}"), text}) {
    HttpRequest request = Coded("ZSTD", Zstd(plain));
    EXPECT_EQ(Decode(request), 200);
    EXPECT_EQ(request.body, plain);
    EXPECT_TRUE(request.content_encoding.empty());
  }
  HttpRequest frames = Coded("zstd", Zstd("one ") + Zstd("two"));
  EXPECT_EQ(Decode(frames), 200);
  EXPECT_EQ(frames.body, "one two");
}

TEST(ContentEncoding, RefusesZstdThatIsBrokenCutOrWantsTooMuchMemory) {
  const std::string good = Zstd(std::string(5'000, 'a') + "b");
  for (size_t length = 1; length < good.size(); ++length) {
    HttpRequest request = Coded("zstd", good.substr(0, length));
    EXPECT_EQ(Decode(request), 400) << length;
  }
  std::string flipped = good;
  flipped.back() ^= 1;  // the checksum
  for (const std::string& bad : {flipped, good + "x", std::string("{\"prompt\":\"x\"}")}) {
    HttpRequest request = Coded("zstd", bad);
    EXPECT_EQ(Decode(request), 400);
  }
  // A window of 128 MiB is declared, although the frame is small.
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 27);
  std::string wide(1 << 16, 0);
  const std::string text(10'000, 'a');
  ZSTD_inBuffer in = {text.data(), text.size(), 0};
  ZSTD_outBuffer to = {wide.data(), wide.size(), 0};
  ASSERT_FALSE(ZSTD_isError(ZSTD_compressStream2(context, &to, &in, ZSTD_e_flush)));
  ASSERT_FALSE(ZSTD_isError(ZSTD_compressStream2(context, &to, &in, ZSTD_e_end)));
  ZSTD_freeCCtx(context);
  wide.resize(to.pos);
  HttpRequest request = Coded("zstd", wide);
  EXPECT_EQ(Decode(request), 400);
}

TEST(ContentEncoding, NeverMakesMoreOfZstdThanTheLimit) {
  const std::string text(100'000, 'a');
  for (const size_t limit : {size_t{0}, size_t{1}, text.size() - 1, text.size(), text.size() + 1}) {
    HttpRequest request = Coded("zstd", Zstd(text));
    EXPECT_EQ(Decode(request, limit), limit >= text.size() ? 200 : 413) << limit;
  }
  HttpRequest bomb = Coded("zstd", Zstd(std::string(200'000'000, 0), 3, 20));
  EXPECT_LT(bomb.body.size(), 100'000);
  EXPECT_EQ(Decode(bomb, 1 << 20), 413);
}

TEST(ContentEncoding, IsChosenByWhatTheClientLikes) {
  EXPECT_EQ(ChooseEncoding("gzip, deflate, br, zstd"), "zstd");
  EXPECT_EQ(ChooseEncoding("gzip"), "gzip");
  EXPECT_EQ(ChooseEncoding("GZIP;q=1, zstd;q=0.5"), "gzip");
  EXPECT_EQ(ChooseEncoding("gzip;q=0, zstd; q=0.0"), "");
  EXPECT_EQ(ChooseEncoding("gzip;q=2, zstd;q=x, zstd;level=1, br"), "");
  for (const char* none : {"", "identity", "*", ",,;,", "gzipp"})
    EXPECT_EQ(ChooseEncoding(none), "");
}

TEST(ContentEncoding, CompressesWhatIsWorthIt) {
  const std::string text(100'000, 'a');
  for (const char* accept : {"gzip", "zstd"}) {
    HttpResponse response;
    response.body = text;
    EncodeBody(accept, response);
    EXPECT_LT(response.body.size(), 1'000);
    const HttpHeaders expected = {{"Vary", "Accept-Encoding"}, {"Content-Encoding", accept}};
    EXPECT_EQ(response.headers, expected);
    if (std::string_view(accept) == "zstd") {
      EXPECT_EQ(Unzstd(response.body), text);
    } else {
      HttpRequest back = Coded(accept, response.body);
      EXPECT_EQ(Decode(back), 200);
      EXPECT_EQ(back.body, text);
    }
  }
  HttpResponse plain;
  plain.body = text;
  EncodeBody("br", plain);
  EXPECT_EQ(plain.body, text);
  HttpResponse small;
  small.body = "{}";
  EncodeBody("zstd", small);
  EXPECT_EQ(small.body, "{}");
  EXPECT_TRUE(small.headers.empty());
}

}  // namespace
}  // namespace penstock
