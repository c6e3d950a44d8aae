// The settings of one link of the chain. Which of them count for which kind, src/config/guard_fields.cc
// says.
// Owns its strings. Must not know links.
// Threads: value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace penstock {

struct GuardEntry {
  std::string use;                            // schema | limit | template | ... ; never empty
  absl::Duration timeout = absl::Seconds(1);  // of one phase of one call
  std::string on_error = "block";             // block | skip
  std::string action = "deny";                // ban, lang: deny | mask
  std::string where = "both";                 // ban, lang: prompt | output | both
  std::vector<std::string> words, patterns;   // ban
  std::vector<std::string> fields;            // schema: that requests may have; empty: all
  std::vector<std::string> scripts;           // lang: ISO 15924
  std::vector<std::string> phases;            // http: request, response
  std::string mask = "***";                   // ban
  int32_t hold = 32;                          // ban: bytes of the longest match
  std::string system;                         // template: the prompt
  std::string mode = "replace";               // template: replace | add | missing
  std::string file;                           // lua
  std::string url;                            // http
  std::string cert_file, key_file;            // http: what it shows; empty: nothing
  std::string ca_file;                        // http: who may answer; empty: the machine's
  int32_t max_tokens = 0;                     // schema, limit, trim; 0: any
  int32_t max_messages = 0, max_n = 0, max_tools = 0;
  int32_t max_prompt = 0;                  // schema, limit: bytes; 0: any
  absl::Duration ttl = absl::Minutes(10);  // cache
  int32_t memory = 64;                     // cache: MiB
  friend bool operator==(const GuardEntry&, const GuardEntry&) = default;
};

}  // namespace penstock
