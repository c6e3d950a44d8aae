#include "server/otlp_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "api/http/json_text.h"
#include "base/utf8.h"
#include "service/ids.h"

namespace penstock {
namespace {

constexpr size_t kMaxText = 1024;  // bytes of an attribute's value
constexpr int kInternal = 1, kServer = 2;
constexpr int kError = 2;  // the status of a span

struct SpanTimes {
  absl::Time begin, end;
};

std::string NewSpanId() {
  std::string id;
  do {
    id = MakeRequestId().substr(0, 16);
  } while (id.find_first_not_of('0') == id.npos);
  return id;
}

/// A list of attributes on its way into a string.
class AttributeList {
 public:
  explicit AttributeList(std::string& out) : out_(out) { out_ += "\"attributes\":["; }
  ~AttributeList() { out_ += ']'; }
  AttributeList(const AttributeList&) = delete;

  /// Nothing where it is empty.
  void Text(std::string_view key, std::string_view value) {
    if (value.empty()) return;
    Key(key);
    out_ += "{\"stringValue\":";
    AppendJsonString(out_, Utf8Prefix(value, kMaxText));
    out_ += "}}";
  }
  void Texts(std::string_view key, std::string_view value) {
    if (value.empty()) return;
    Key(key);
    out_ += "{\"arrayValue\":{\"values\":[{\"stringValue\":";
    AppendJsonString(out_, Utf8Prefix(value, kMaxText));
    out_ += "}]}}}";
  }
  void Int(std::string_view key, int64_t value) {  // JSON's numbers hold 53 bits
    Key(key);
    absl::StrAppend(&out_, "{\"intValue\":\"", value, "\"}}");
  }
  void Flag(std::string_view key, bool value) {
    Key(key);
    absl::StrAppend(&out_, "{\"boolValue\":", value ? "true" : "false", "}}");
  }

 private:
  void Key(std::string_view key) {
    absl::StrAppend(&out_, first_ ? "{\"key\":\"" : ",{\"key\":\"",
                    absl::string_view(key.data(), key.size()), "\",\"value\":");
    first_ = false;
  }
  std::string& out_;
  bool first_ = true;
};

void BeginSpan(std::string& out, const RequestRecord& record, const std::string& id,
               const std::string& parent, std::string_view name, int kind, SpanTimes times) {
  absl::StrAppend(&out, "{\"traceId\":\"", record.trace_id, "\",\"spanId\":\"", id, "\"");
  if (!parent.empty()) absl::StrAppend(&out, ",\"parentSpanId\":\"", parent, "\"");
  absl::StrAppend(&out, ",\"flags\":", record.trace_sampled ? 1 : 0, ",\"name\":");
  AppendJsonString(out, Utf8Prefix(name, kMaxText));
  absl::StrAppend(&out, ",\"kind\":", kind, ",\"startTimeUnixNano\":\"",
                  absl::ToUnixNanos(times.begin), "\",\"endTimeUnixNano\":\"",
                  absl::ToUnixNanos(times.end), "\",");
}

bool WasStarted(const RequestRecord& record) { return record.num_choices > 0; }
bool WasPlanned(const RequestRecord& record) {
  return record.prefill_time > absl::ZeroDuration() || record.decode_time > absl::ZeroDuration();
}

void WriteRequest(std::string& out, const RequestRecord& record, SpanTimes times) {
  // Before it is known that the model exists its name is anything, and names of spans are few.
  const std::string name =
      WasStarted(record) ? absl::StrCat(record.operation, " ", record.model) : record.operation;
  BeginSpan(out, record, record.span_id, record.parent_id, name, kServer, times);
  {
    AttributeList list(out);
    list.Text("gen_ai.operation.name", record.operation);
    list.Text("gen_ai.provider.name", "penstock");
    list.Text("gen_ai.request.model", record.model);
    list.Text("gen_ai.response.id", record.request_id);
    if (WasStarted(record)) {
      list.Text("gen_ai.response.model", record.model);
      list.Int("gen_ai.request.choice.count", record.num_choices);
      list.Texts("gen_ai.response.finish_reasons", record.finish);
      list.Int("gen_ai.usage.input_tokens", record.usage.prompt_tokens);
      list.Int("gen_ai.usage.output_tokens", record.usage.completion_tokens);
      list.Int("gen_ai.usage.cache_read.input_tokens", record.usage.cached_tokens);
    }
    list.Text("network.protocol.name", record.protocol);
    list.Int("http.response.status_code", record.code);
    list.Flag("penstock.stream", record.stream);
    list.Text("penstock.tenant", record.tenant);
    list.Text("penstock.key_id", record.key_id);
    if (record.code >= 400) list.Text("error.type", absl::StrCat(record.code));
  }
  // As the conventions have it a client's mistake is no error of a server's span.
  if (record.code >= 500) {
    absl::StrAppend(&out, ",\"status\":{\"code\":", kError, ",\"message\":");
    AppendJsonString(out, Utf8Prefix(record.error, kMaxText));
    out += "}";
  }
  out += "}";
}

void WritePart(std::string& out, const RequestRecord& record, std::string_view name,
               SpanTimes times) {
  out += ',';
  BeginSpan(out, record, NewSpanId(), record.span_id, name, kInternal, times);
  {
    AttributeList list(out);
    list.Text("gen_ai.operation.name", record.operation);
    list.Text("gen_ai.request.model", record.model);
  }
  out += "}";
}

/// Durations were measured apart: the parts are laid out around the first token, within the whole.
void WriteSpans(std::string& out, const TracedRequest& request) {
  const RequestRecord& record = request.record;
  const SpanTimes whole{request.end - record.total_time, request.end};
  WriteRequest(out, record, whole);
  if (record.chain_time > absl::ZeroDuration())
    WritePart(out, record, "guard",
              {whole.begin, std::min(whole.begin + record.chain_time, whole.end)});
  if (!WasPlanned(record)) return;
  const auto within = [&](absl::Time time) { return std::clamp(time, whole.begin, whole.end); };
  const bool has_token = record.first_token_time > absl::ZeroDuration();
  const absl::Time first = within(has_token ? whole.begin + record.first_token_time : whole.end);
  const absl::Time planned = within(first - record.prefill_time);
  WritePart(out, record, "queue", {within(planned - record.queue_time), planned});
  WritePart(out, record, "prefill", {planned, first});
  if (record.decode_time > absl::ZeroDuration())
    WritePart(out, record, "decode", {first, within(first + record.decode_time)});
}

}  // namespace

int64_t NumSpans(const RequestRecord& record) {
  const int64_t whole = record.chain_time > absl::ZeroDuration() ? 2 : 1;
  if (!WasPlanned(record)) return whole;
  return whole + (record.decode_time > absl::ZeroDuration() ? 3 : 2);
}

std::string OtlpBody(const TraceSource& source, absl::Span<const TracedRequest> requests) {
  std::string out = "{\"resourceSpans\":[{\"resource\":{";
  {
    AttributeList list(out);
    list.Text("service.name", "penstock");
    list.Text("service.version", source.version);
    list.Text("service.instance.id", source.instance);
    list.Text("host.name", source.host);
    list.Int("process.pid", source.pid);
  }
  out += "},\"scopeSpans\":[{\"scope\":{\"name\":\"penstock\",\"version\":";
  AppendJsonString(out, source.version);
  out += "},\"spans\":[";
  for (const TracedRequest& request : requests) {
    if (&request != requests.data()) out += ',';
    WriteSpans(out, request);
  }
  out += "]}]}]}";
  return out;
}

int64_t RejectedSpans(const std::string& answer, int64_t most) {
  const auto json = nlohmann::json::parse(answer, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return 0;
  const auto partial = json.find("partialSuccess");
  if (partial == json.end() || !partial->is_object()) return 0;
  const auto rejected = partial->find("rejectedSpans");
  if (rejected == partial->end()) return 0;
  int64_t count = 0;
  if (rejected->is_number_integer()) {
    count = rejected->get<int64_t>();
  } else if (!rejected->is_string() || !absl::SimpleAtoi(rejected->get<std::string>(), &count)) {
    return 0;
  }
  return std::clamp<int64_t>(count, 0, most);
}

}  // namespace penstock
