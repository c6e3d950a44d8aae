#include "ledger/audit_chain.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "format/json_text.h"

namespace penstock {
namespace {

using ChainJson = nlohmann::ordered_json;

constexpr size_t kMaxProblems = 100, kMaxHead = 4096;

std::string Hex(const unsigned char* bytes, size_t size) {
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(bytes), size));
}

/// Reads one after the other, and goes on after what is wrong.
class ChainCheck {
 public:
  ChainCheck(const AuditKey* key, AuditReport& report) : key_(key), report_(report) {}

  void File(const std::string& path) {
    file_ = std::filesystem::path(path).filename().string();
    at_ = 0;
    std::ifstream in(path, std::ios::binary);
    if (!in) return Problem("cannot be read");
    std::string line;
    while (std::getline(in, line)) {
      ++at_;
      if (in.eof()) return Problem("the last line is cut off");
      Line(line);
    }
  }

  void Head(const absl::StatusOr<AuditHead>& head) {
    file_ = "head.json";
    at_ = 0;
    if (!head.ok()) {
      if (report_.last > 0) Problem(std::string(head.status().message()));
      return;
    }
    if (key_ != nullptr && !key_->Verify(head->SignedText(), head->signature))
      Problem("its signature is not by this key");
    if (head->last > report_.last)
      Problem(absl::StrCat("lines are missing at the end: there were ", head->last, ", there are ",
                           report_.last));
    if (report_.first > head->first)
      Problem(absl::StrCat("lines are missing at the beginning: the first was ", head->first,
                           ", it is ", report_.first));
    if (!head_digest_.empty() && head_digest_ != head->digest)
      Problem(absl::StrCat("line ", head->last, " was altered"));
  }
  /// Before File: which line's digest Head is to compare.
  void RememberDigestOf(int64_t number) { head_number_ = number; }

 private:
  void Problem(std::string what) {
    if (report_.problems.size() < kMaxProblems)
      report_.problems.push_back({file_, at_, std::move(what)});
  }

  void Line(const std::string& line) {
    const std::string digest = LineDigest(line);
    const ChainJson json = ChainJson::parse(line, nullptr, /*allow_exceptions=*/false);
    const bool sound = json.is_object() && json.contains("n") && json["n"].is_number_integer() &&
                       json.contains("prev") && json["prev"].is_string();
    if (!sound) {
      Problem("no line of an audit log");
      ++report_.last;
    } else {
      const auto number = json["n"].get<int64_t>();
      if (report_.first == 0) {
        report_.first = number;
        if (number == 1 && json["prev"] != NoDigest()) Problem("the first line follows another");
      } else if (number != report_.last + 1) {
        Problem(absl::StrCat("line ", number, " follows ", report_.last));
      } else if (json["prev"] != report_.digest) {
        Problem(absl::StrCat("line ", number - 1, ", the one before, was altered"));
      }
      if (json.value("what", "") == "checkpoint") Checkpoint(json, number);
      report_.last = number;
    }
    report_.digest = digest;
    if (report_.last == head_number_) head_digest_ = digest;
  }

  void Checkpoint(const ChainJson& json, int64_t number) {
    ++report_.checkpoints;
    const auto signature = json.find("signature");
    if (key_ == nullptr) return;
    if (signature == json.end() || !signature->is_string())
      return Problem("a checkpoint that is not signed");
    if (!key_->Verify(CheckpointText(number - 1, json["prev"].get<std::string>()),
                      signature->get<std::string>()))
      return Problem("a checkpoint that is not signed by this key");
    report_.signed_through = number - 1;
  }

  const AuditKey* const key_;
  AuditReport& report_;
  std::string file_;
  int64_t at_ = 0;
  int64_t head_number_ = -1;
  std::string head_digest_;
};

}  // namespace

std::string LineDigest(std::string_view line) {
  unsigned char digest[32];
  EVP_Digest(line.data(), line.size(), digest, nullptr, EVP_sha256(), nullptr);
  return Hex(digest, sizeof digest);
}

std::string NoDigest() { return std::string(64, '0'); }

absl::StatusOr<std::shared_ptr<const AuditKey>> AuditKey::Read(const std::string& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (file == nullptr) return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  auto out = std::make_shared<AuditKey>();
  EVP_PKEY* key = PEM_read_PrivateKey(file.get(), nullptr, nullptr, const_cast<char*>(""));
  out->is_private_ = key != nullptr;
  if (key == nullptr) {
    std::rewind(file.get());
    key = PEM_read_PUBKEY(file.get(), nullptr, nullptr, const_cast<char*>(""));
  }
  out->key_ = std::shared_ptr<EVP_PKEY>(key, EVP_PKEY_free);
  unsigned char raw[32];
  size_t size = sizeof raw;
  if (key == nullptr || EVP_PKEY_id(key) != EVP_PKEY_ED25519 ||
      EVP_PKEY_get_raw_public_key(key, raw, &size) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": expected an Ed25519 key: openssl genpkey -algorithm ed25519 makes one"));
  }
  out->name_ = LineDigest({reinterpret_cast<const char*>(raw), size}).substr(0, 16);
  return out;
}

std::string AuditKey::Sign(std::string_view text) const {
  if (!is_private_) return "";
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  unsigned char signature[64];
  size_t size = sizeof signature;
  if (EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get()) != 1 ||
      EVP_DigestSign(context.get(), signature, &size,
                     reinterpret_cast<const unsigned char*>(text.data()), text.size()) != 1)
    return "";
  return Hex(signature, size);
}

bool AuditKey::Verify(std::string_view text, std::string_view signature) const {
  const std::string raw =
      absl::HexStringToBytes(absl::string_view(signature.data(), signature.size()));
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  return raw.size() == 64 &&
         EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key_.get()) == 1 &&
         EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(raw.data()),
                          raw.size(), reinterpret_cast<const unsigned char*>(text.data()),
                          text.size()) == 1;
}

std::string CheckpointText(int64_t before, std::string_view digest) {
  return absl::StrCat("penstock audit checkpoint ", before, " ",
                      absl::string_view(digest.data(), digest.size()));
}

std::string AuditHead::SignedText() const {
  return absl::StrCat("penstock audit head ", first, " ", last, " ", digest);
}

std::string AuditHead::Json() const {
  return ChainJson{{"first", first}, {"last", last}, {"digest", digest}, {"signature", signature}}
      .dump();
}

absl::StatusOr<AuditHead> AuditHead::Read(const std::string& dir) {
  const absl::StatusOr<std::string> text = ReadTextFile(AuditHeadName(dir), kMaxHead);
  if (!text.ok()) return absl::NotFoundError("the head is missing");
  const ChainJson json = ChainJson::parse(*text, nullptr, /*allow_exceptions=*/false);
  AuditHead head;
  const auto number = [&](const char* name, int64_t& out) {
    const bool there = json.is_object() && json.contains(name) && json[name].is_number_integer();
    if (there) out = json[name].get<int64_t>();
    return there;
  };
  const auto words = [&](const char* name, std::string& out) {
    const bool there = json.is_object() && json.contains(name) && json[name].is_string();
    if (there) out = json[name].get<std::string>();
    return there;
  };
  if (number("first", head.first) && number("last", head.last) && words("digest", head.digest) &&
      words("signature", head.signature))
    return head;
  return absl::DataLossError("no head of an audit log");
}

std::vector<std::string> AuditFiles(const std::string& dir) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("audit-") && name.ends_with(".jsonl")) out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string AuditFileName(const std::string& dir, int64_t first) {
  return absl::StrFormat("%s/audit-%015d.jsonl", dir, first);
}

std::string AuditHeadName(const std::string& dir) { return dir + "/head.json"; }

std::string AuditReport::Json() const {
  ChainJson out{{"ok", ok()},
                {"first", first},
                {"last", last},
                {"checkpoints", checkpoints},
                {"signed_through", signed_through},
                {"digest", digest},
                {"problems", ChainJson::array()}};
  for (const AuditProblem& problem : problems)
    out["problems"].push_back(
        {{"file", problem.file}, {"line", problem.line}, {"what", problem.what}});
  return out.dump();
}

AuditReport VerifyAudit(const std::string& dir, const AuditKey* key) {
  AuditReport report;
  ChainCheck check(key, report);
  const absl::StatusOr<AuditHead> head = AuditHead::Read(dir);
  if (head.ok()) check.RememberDigestOf(head->last);
  for (const std::string& path : AuditFiles(dir)) check.File(path);
  check.Head(head);
  return report;
}

}  // namespace penstock
