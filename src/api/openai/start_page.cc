// GET / and /page/{file}: a page to try the served models and to watch the server. It holds no
// answer, key or name itself: whatever it shows its browser asks for, with the key that its user
// gives, so it is open to all.
#include <map>

#include "absl/strings/str_cat.h"
#include "api/openai/page_files.h"
#include "api/openai/routes.h"
#include "base/content_hash.h"
#include "base/strings.h"

namespace penstock {
namespace {

// Nothing is loaded from elsewhere, nothing but this server may be asked, no script or style stands
// in the page's text, and no text ever becomes elements (Trusted Types).
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

std::string_view ContentType(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".svg")) return "image/svg+xml";
  return "text/javascript; charset=utf-8";
}

/// A new build is seen at once, an old one is not sent twice.
std::string EntityTag(std::string_view content) {
  const absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(content.data()),
                                          content.size());
  return absl::StrCat("W/\"", absl::Hex(ContentHash(bytes), absl::kZeroPad16), "\"");
}

struct TaggedFile {
  PageFile file;
  std::string tag;
};
using TaggedFiles = std::map<std::string, TaggedFile, std::less<>>;

void RespondFile(const TaggedFile& tagged, HttpExchange& exchange) {
  HttpResponse response;
  response.content_type = std::string(ContentType(tagged.file.name));
  response.headers = {{"Content-Security-Policy", kPolicy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"},
                      {"ETag", tagged.tag}};
  if (exchange.request().if_none_match.find(tagged.tag) != std::string::npos) {
    response.status = 304;
  } else {
    response.body = std::string(tagged.file.content);
  }
  exchange.Respond(std::move(response));
}

}  // namespace

void AddStartPage(Router& router) {
  auto files = std::make_shared<TaggedFiles>();
  for (const PageFile& file : PageFiles())
    files->emplace(file.name, TaggedFile{file, EntityTag(file.content)});
  router.Add("GET", "/", RouteAccess::Open(), [files](std::shared_ptr<HttpExchange> exchange) {
    RespondFile(files->at("page.html"), *exchange);
  });
  router.Add("GET", "/page/{file}", RouteAccess::Open(),
             [files](std::shared_ptr<HttpExchange> exchange) {
               const auto it = files->find(exchange->request().path_argument);
               if (it == files->end())
                 return RespondError(*exchange, 404, "the page has no such file");
               RespondFile(it->second, *exchange);
             });
}

}  // namespace penstock
