// Bridges between std and Debian's absl string views, which do not convert into each other.
// Owns nothing. Must not know the domain.
// Threads: n/a.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace penstock {

inline absl::string_view ToAbsl(std::string_view s) { return {s.data(), s.size()}; }
inline std::string_view ToStd(absl::string_view s) { return {s.data(), s.size()}; }

/// The message of a status as a std view; valid while the status lives.
inline std::string_view Message(const absl::Status& status) { return ToStd(status.message()); }

/// `what: message`, same code: says where a lower layer's error happened.
inline absl::Status Annotate(const absl::Status& status, std::string_view what) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(ToAbsl(what), ": ", status.message()));
}

}  // namespace penstock
