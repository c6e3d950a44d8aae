#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "api/admin/routes.h"
#include "api/http/json_text.h"
#include "api/openai/routes.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/alias_book.h"
#include "service/call_error.h"
#include "service/wire_json.h"

namespace penstock {
namespace {

enum class AliasVerb { kSet, kDelete, kRollback };

constexpr std::string_view kAliasActions[] = {"alias.set", "alias.delete", "alias.rollback"};

void AppendMember(std::string& out, std::string_view name, std::string_view text) {
  absl::StrAppend(&out, out.back() == '{' ? "" : ",", "\"", ToAbsl(name), "\":");
  AppendJsonString(out, text);
}

void AppendTime(std::string& out, std::string_view name, absl::Time time) {
  AppendMember(out, name, absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()));
}

void RespondJson(HttpExchange& exchange, std::string body) {
  HttpResponse response;
  response.headers.emplace_back("Cache-Control", "no-store");
  response.body = std::move(body);
  exchange.Respond(std::move(response));
}

void RespondAliasError(HttpExchange& exchange, const absl::Status& status) {
  const bool stale = status.code() == absl::StatusCode::kAborted;
  if (!stale && status.code() != absl::StatusCode::kFailedPrecondition)
    return RespondStatus(exchange, status);
  RespondError(exchange, stale ? 412 : 409, Message(status), FieldOf(status));
}

/// Those of the configuration, then those of the state file.
std::string AliasList(const ServerConfig& config, const AliasBook* book) {
  std::string out = "{\"aliases\":[";
  const auto begin = [&out](std::string_view alias, std::string_view to, const char* source) {
    out += out.back() == '[' ? "{" : ",{";
    AppendMember(out, "alias", alias);
    AppendMember(out, "to", to);
    AppendMember(out, "source", source);
  };
  for (const auto& [name, model] : config.models) {
    for (const std::string& alias : model.aliases) {
      begin(alias, name, "file");
      out += ",\"active\":true}";
    }
  }
  if (book == nullptr) return out + "]}";
  for (const AliasPointer& pointer : book->List()) {
    begin(pointer.alias, pointer.to, "state");
    AppendTime(out, "since", pointer.since);
    AppendMember(out, "who", pointer.who);
    const std::string why = book->WhyInactive(pointer);
    absl::StrAppend(&out, ",\"active\":", why.empty() ? "true" : "false");
    if (!why.empty()) AppendMember(out, "why", why);
    out += '}';
  }
  return out + "]}";
}

std::string ChangeJson(const AliasChange& change) {
  std::string out = absl::StrCat("{\"number\":", change.number);
  AppendMember(out, "alias", change.alias);
  AppendMember(out, "from", change.from);
  AppendMember(out, "to", change.to);
  AppendMember(out, "who", change.who);
  AppendTime(out, "when", change.when);
  AppendMember(out, "reason", change.reason);
  return out + "}";
}

void RespondHistory(HttpExchange& exchange, AliasBook* book) {
  absl::StatusOr<std::vector<AliasChange>> history = std::vector<AliasChange>();
  if (book != nullptr) history = book->History(exchange.request().path_argument);
  if (!history.ok()) return RespondAliasError(exchange, history.status());
  std::string out = "{\"history\":[";
  for (const AliasChange& change : *history)
    absl::StrAppend(&out, out.back() == '[' ? "" : ",", ChangeJson(change));
  RespondJson(exchange, out + "]}");
}

/// As the history has it: the process at the other end of a socket, else tenant and key.
std::string WhoAsks(const HttpRequest& request) {
  if (request.peer_uid) return absl::StrCat("uid:", *request.peer_uid);
  const Principal& caller = *request.principal;
  return caller.key_id.empty() ? caller.tenant : absl::StrCat(caller.tenant, "/", caller.key_id);
}

absl::Status ReadWish(AliasVerb verb, const HttpRequest& request, AliasWish& wish) {
  wish.alias = request.path_argument;
  wish.who = WhoAsks(request);
  if (verb == AliasVerb::kDelete) wish.to = "";
  if (!request.body.empty()) {
    ASSIGN_OR_RETURN(const WireDocument document, WireDocument::Parse(request.body));
    if (!document.root().is_object())
      return absl::InvalidArgumentError("the body must be a JSON object");
    for (const auto& [name, value] : document.root().Members()) {
      if (name != "reason" && name != "if_match" && (name != "to" || verb != AliasVerb::kSet))
        return InvalidField(name, absl::StrCat(Shown(name), ": unknown field"));
      if (!value.is_string()) return WithField(WrongWireType(name, "a string", value), name);
      if (name == "reason") wish.reason = std::string(value.text());
      if (name == "if_match") wish.if_match = std::string(value.text());
      if (name == "to") wish.to = std::string(value.text());
    }
  }
  if (verb != AliasVerb::kSet || !wish.to.value_or("").empty()) return absl::OkStatus();
  return InvalidField("to", "to: expected the name of a model or an adapter that is served");
}

absl::StatusOr<AliasChange> ChangeAlias(const AliasWish& wish, AliasBook* book) {
  if (book == nullptr) {
    return absl::FailedPreconditionError(
        "managed_by_file: aliases are those of the configuration (registry.aliases: file)");
  }
  return book->Change(wish);
}

Endpoint AliasRoute(GenerationService& service, AliasBook* book, AliasVerb verb) {
  return OnTextWorker(service, [&service, book, verb](std::shared_ptr<HttpExchange> exchange) {
    const HttpRequest& request = exchange->request();
    AliasWish wish;
    const absl::StatusOr<AliasChange> change = [&]() -> absl::StatusOr<AliasChange> {
      RETURN_IF_ERROR(ReadWish(verb, request, wish));
      const TextLoop::Wait wait(service.loop());  // of a disk that is slow, and whoever uses it
      return ChangeAlias(wish, book);
    }();
    const std::string to = change.ok() ? change->to : wish.to.value_or("");
    RecordAct(service, request, kAliasActions[static_cast<size_t>(verb)],
              to.empty() ? request.path_argument : absl::StrCat(request.path_argument, " -> ", to),
              change.status(), wish.reason);
    if (!change.ok()) return RespondAliasError(*exchange, change.status());
    RespondJson(*exchange, ChangeJson(*change));
  });
}

}  // namespace

void AddAliasRoutes(Router& router, GenerationService& service, AliasBook* book) {
  constexpr RouteAccess kModel = RouteAccess::Needs(Permission::kModel);
  // Not `model`, which every client of a server without made keys has: it moves all tenants.
  constexpr RouteAccess kRollout = RouteAccess::Needs(Permission::kRollout);
  router.Add("GET", "/admin/v1/aliases", kModel,
             OnTextWorker(service, [&service, book](std::shared_ptr<HttpExchange> exchange) {
               RespondJson(*exchange, AliasList(*service.config().Get(), book));
             }));
  router.Add("GET", "/admin/v1/aliases/{alias}/history", kModel,
             OnTextWorker(service, [&service, book](std::shared_ptr<HttpExchange> exchange) {
               const TextLoop::Wait wait(service.loop());
               RespondHistory(*exchange, book);
             }));
  router.Add("POST", "/admin/v1/aliases/{alias}/rollback", kRollout,
             AliasRoute(service, book, AliasVerb::kRollback));
  router.Add("POST", "/admin/v1/aliases/{alias}", kRollout,
             AliasRoute(service, book, AliasVerb::kSet));
  router.Add("DELETE", "/admin/v1/aliases/{alias}", kRollout,
             AliasRoute(service, book, AliasVerb::kDelete));
}

}  // namespace penstock
