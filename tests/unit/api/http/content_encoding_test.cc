#include "api/http/content_encoding.h"

#include <gtest/gtest.h>
#include <zlib.h>

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
  for (const char* name : {"br", "zstd", "gzip, gzip", "gzip;q=1", " ", "\xff"}) {
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

}  // namespace
}  // namespace penstock
