#include "bench/probes.h"

#include <openssl/sha.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "bench/eval_server.h"

namespace penstock {
namespace {

using ProbeJson = nlohmann::ordered_json;

constexpr size_t kShown = 40;  // bytes of an answer

absl::Status ReadCheck(const std::string& name, Probe& probe) {
  absl::string_view bound = name;
  if (absl::ConsumePrefix(&bound, "nll<=")) {
    probe.check = ProbeCheck::kNll;
    if (absl::SimpleAtod(bound, &probe.most_nll) && probe.most_nll > 0) return absl::OkStatus();
    return absl::InvalidArgumentError("check: nll<=: expected a number above 0");
  }
  static constexpr std::pair<const char*, ProbeCheck> kNames[] = {
      {"exact", ProbeCheck::kExact},
      {"regex", ProbeCheck::kRegex},
      {"json", ProbeCheck::kJson},
      {"choice", ProbeCheck::kChoice},
      {"token_hash", ProbeCheck::kTokenHash}};
  for (const auto& [known, check] : kNames) {
    if (name != known) continue;
    probe.check = check;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "check: expected exact, regex, json, choice, nll<=NUMBER or token_hash, not \"", name, "\""));
}

absl::Status ReadText(const ProbeJson& json, const char* key, bool required, std::string& out) {
  const auto it = json.find(key);
  if (it == json.end() && !required) return absl::OkStatus();
  if (it == json.end() || !it->is_string())
    return absl::InvalidArgumentError(absl::StrCat(key, ": expected a string"));
  out = it->get<std::string>();
  return absl::OkStatus();
}

/// What the check asks of the other keys.
absl::Status CheckProbe(const ProbeJson& json, Probe& probe) {
  const bool answered = json.contains("answer");
  switch (probe.check) {
    case ProbeCheck::kExact:
    case ProbeCheck::kTokenHash:
      return absl::OkStatus();  // an answer comes with --keep-probes
    case ProbeCheck::kRegex: {
      if (!answered) return absl::InvalidArgumentError("answer: expected a regular expression");
      absl::StatusOr<Regex> regex = Regex::Compile(probe.answer);
      if (!regex.ok())
        return absl::InvalidArgumentError(
            absl::StrCat("answer: ", ToAbsl(Message(regex.status()))));
      probe.regex = *std::move(regex);
      return absl::OkStatus();
    }
    case ProbeCheck::kJson:
      if (!answered || ProbeJson::accept(probe.answer)) return absl::OkStatus();
      return absl::InvalidArgumentError("answer: expected a string that is JSON");
    case ProbeCheck::kChoice: {
      const auto choices = json.find("choices");
      if (choices == json.end() || !choices->is_array() || choices->size() < 2)
        return absl::InvalidArgumentError("choices: expected an array of at least two strings");
      for (const ProbeJson& choice : *choices) {
        if (!choice.is_string() || choice.get_ref<const std::string&>().empty())
          return absl::InvalidArgumentError("choices: expected strings that are not empty");
        probe.choices.push_back(choice.get<std::string>());
      }
      if (std::find(probe.choices.begin(), probe.choices.end(), probe.answer) !=
          probe.choices.end())
        return absl::OkStatus();
      return absl::InvalidArgumentError("answer: expected one of choices");
    }
    case ProbeCheck::kNll:
      if (!probe.answer.empty()) return absl::OkStatus();
      return absl::InvalidArgumentError("answer: expected the text that follows the prompt");
  }
  return absl::OkStatus();
}

absl::StatusOr<Probe> ReadProbe(const std::string& line) {
  const ProbeJson json = ProbeJson::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("expected a JSON object");
  Probe probe;
  probe.line = line;
  std::string check = "exact";
  RETURN_IF_ERROR(ReadText(json, "prompt", /*required=*/true, probe.prompt));
  RETURN_IF_ERROR(ReadText(json, "answer", /*required=*/false, probe.answer));
  RETURN_IF_ERROR(ReadText(json, "check", /*required=*/false, check));
  RETURN_IF_ERROR(ReadCheck(check, probe));
  if (const auto most = json.find("max_tokens"); most != json.end()) {
    if (!most->is_number_integer() || most->get<int64_t>() < 1 || most->get<int64_t>() > 1 << 20)
      return absl::InvalidArgumentError("max_tokens: expected a whole number from 1");
    probe.max_tokens = most->get<int32_t>();
  }
  RETURN_IF_ERROR(CheckProbe(json, probe));
  return probe;
}

std::string Shown(std::string_view text) {
  return absl::StrCat("\"", ToAbsl(Utf8Prefix(text, kShown)), "\"");
}

bool IsWordByte(char c) { return absl::ascii_isalnum(c) || (c & 0x80) != 0 || c == '_'; }

/// Where `word` stands by itself, letters of either case alike; npos: nowhere.
size_t FindWord(const std::string& lowered, const std::string& word) {
  const std::string wanted = absl::AsciiStrToLower(word);
  for (size_t at = lowered.find(wanted); at != lowered.npos; at = lowered.find(wanted, at + 1)) {
    const size_t end = at + wanted.size();
    const bool begins = at == 0 || !IsWordByte(wanted.front()) || !IsWordByte(lowered[at - 1]);
    const bool ends =
        end == lowered.size() || !IsWordByte(wanted.back()) || !IsWordByte(lowered[end]);
    if (begins && ends) return at;
  }
  return lowered.npos;
}

std::string JudgeChoice(const Probe& probe, std::string_view content) {
  const std::string lowered = absl::AsciiStrToLower(ToAbsl(content));
  const std::string* chosen = nullptr;
  size_t first = lowered.npos;
  for (const std::string& choice : probe.choices) {
    const size_t at = FindWord(lowered, choice);
    // Of two that begin at the same place the longer one was said.
    const bool longer = chosen != nullptr && at == first && choice.size() > chosen->size();
    if (at == lowered.npos || (at >= first && !longer)) continue;
    first = at;
    chosen = &choice;
  }
  if (chosen == nullptr) return absl::StrCat("none of the choices in ", Shown(content));
  if (*chosen == probe.answer) return "";
  return absl::StrCat("expected ", Shown(probe.answer), ", chosen was ", Shown(*chosen));
}

std::string JudgeExact(const Probe& probe, std::string_view content) {
  const auto differs =
      std::mismatch(content.begin(), content.end(), probe.answer.begin(), probe.answer.end());
  if (differs.first == content.end() && differs.second == probe.answer.end()) return "";
  const auto alike = static_cast<size_t>(differs.first - content.begin());
  const size_t begin = Utf8Prefix(content, alike).size();
  return absl::StrCat("byte ", alike, ": kept ",
                      Shown(std::string_view(probe.answer).substr(begin)), ", now ",
                      Shown(content.substr(begin)));
}

/// Mean cost of the answer's tokens, in nats.
absl::StatusOr<double> NllOf(const EvalServer& server, const Probe& probe) {
  ASSIGN_OR_RETURN(const std::vector<PredictedToken> tokens,
                   server.Predict(probe.prompt + probe.answer, /*top=*/1));
  const auto begin = static_cast<int64_t>(CountCodePoints(probe.prompt));
  double cost = 0;
  int64_t count = 0;
  for (const PredictedToken& token : tokens) {
    if (token.offset < 0) {
      return absl::UnavailableError(server.target().name() +
                                    ": /v1/completions gives no text_offset");
    }
    if (token.offset < begin) continue;
    cost -= token.logprob;
    ++count;
  }
  if (count == 0)
    return absl::InvalidArgumentError(Shown(probe.prompt) + ": its answer has no token of its own");
  return cost / static_cast<double>(count);
}

/// Of the ids as 32-bit little-endian numbers, in hexadecimal digits; "" where one is no id.
std::string HashTokens(const nlohmann::json& ids) {
  std::string bytes;
  for (const nlohmann::json& id : ids) {
    if (!id.is_number_integer()) return "";
    for (int shift = 0; shift < 32; shift += 8)
      bytes.push_back(static_cast<char>(id.get<int64_t>() >> shift & 0xff));
  }
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), sizeof(digest)));
}

/// Why the probe fails; "" where it passes.
absl::StatusOr<std::string> AskProbe(const EvalServer& server, bool keep, Probe& probe) {
  if (probe.check == ProbeCheck::kNll) {
    ASSIGN_OR_RETURN(const double nll, NllOf(server, probe));
    if (nll <= probe.most_nll) return "";
    return absl::StrCat(nll, " nats per token, expected at most ", probe.most_nll);
  }
  const bool hashed = probe.check == ProbeCheck::kTokenHash;
  nlohmann::json body = {{"messages", {{{"role", "user"}, {"content", probe.prompt}}}},
                         {"max_tokens", probe.max_tokens}};
  if (hashed) body["return_token_ids"] = true;
  ASSIGN_OR_RETURN(const nlohmann::json answer, server.Post("/v1/chat/completions", body));
  const nlohmann::json::json_pointer content("/choices/0/message/content");
  const nlohmann::json::json_pointer ids("/choices/0/token_ids");
  if (hashed ? !answer.contains(ids) || !answer[ids].is_array()
             : !answer.contains(content) || !answer[content].is_string()) {
    return absl::UnavailableError(absl::StrCat(server.target().name(),
                                               ": /v1/chat/completions gives no ",
                                               hashed ? "token_ids" : "content"));
  }
  const bool kept = keep && (hashed || probe.check == ProbeCheck::kExact);
  const std::string now = hashed ? HashTokens(answer[ids]) : answer[content].get<std::string>();
  if (kept) probe.answer = now;
  return hashed ? JudgeExact(probe, now) : JudgeAnswer(probe, now);
}

}  // namespace

absl::StatusOr<std::vector<Probe>> ReadProbes(const std::string& path) {
  std::ifstream in(path);
  if (!in) return absl::NotFoundError(path + ": cannot be read");
  std::vector<Probe> probes;
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    absl::StatusOr<Probe> probe = ReadProbe(line);
    if (!probe.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", number, ": ", ToAbsl(Message(probe.status()))));
    }
    probes.push_back(*std::move(probe));
  }
  if (probes.empty()) return absl::InvalidArgumentError(path + ": no probe in it");
  return probes;
}

absl::Status WriteProbes(const std::string& path, const std::vector<Probe>& probes) {
  std::ofstream out(path);
  for (const Probe& probe : probes) {
    ProbeJson json = ProbeJson::parse(probe.line);
    if (probe.check == ProbeCheck::kExact || probe.check == ProbeCheck::kTokenHash)
      json["answer"] = probe.answer;
    out << json.dump() << "\n";
  }
  return out.flush() ? absl::OkStatus() : absl::UnavailableError(path + ": cannot be written");
}

std::string JudgeAnswer(const Probe& probe, std::string_view content) {
  switch (probe.check) {
    case ProbeCheck::kRegex: {
      Regex::Match match;
      if (IsValidUtf8(content) && probe.regex->Find(content, 0, &match)) return "";
      return absl::StrCat("no match of ", Shown(probe.answer), " in ", Shown(content));
    }
    case ProbeCheck::kJson: {
      const auto json = nlohmann::json::parse(content, nullptr, /*allow_exceptions=*/false);
      if (json.is_discarded()) return absl::StrCat("expected JSON, not ", Shown(content));
      if (probe.answer.empty() || json == nlohmann::json::parse(probe.answer)) return "";
      return absl::StrCat("expected the JSON ", Shown(probe.answer), ", not ", Shown(content));
    }
    case ProbeCheck::kChoice:
      return JudgeChoice(probe, content);
    default:
      return JudgeExact(probe, content);
  }
}

absl::StatusOr<ProbeResult> RunProbes(const Target& server, const std::string& model, bool keep,
                                      std::vector<Probe>& probes, const StepProgress& progress) {
  ASSIGN_OR_RETURN(const EvalServer asked, EvalServer::Open(server, model));
  ProbeResult out;
  for (Probe& probe : probes) {
    if (progress) progress(out.num_probes, static_cast<int64_t>(probes.size()));
    ASSIGN_OR_RETURN(const std::string failure, AskProbe(asked, keep, probe));
    ++out.num_probes;
    if (failure.empty()) {
      ++out.num_passed;
    } else if (out.first_failure.empty()) {
      out.first_failure = absl::StrCat(Shown(probe.prompt), ": ", failure);
    }
  }
  return out;
}

}  // namespace penstock
