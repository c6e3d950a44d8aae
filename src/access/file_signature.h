// Tells whether a file has changed: also where another was put in its place, behind links or not.
// Owns nothing. Must not know what is in the file.
// Threads: any.
#pragma once

#include <sys/stat.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace penstock {

inline std::string FileSignature(const std::string& path) {
  struct stat file {};
  if (path.empty() || stat(path.c_str(), &file) != 0) return "-";
  return absl::StrCat(file.st_dev, ":", file.st_ino, ":", file.st_size, ":", file.st_mtim.tv_sec,
                      ".", file.st_mtim.tv_nsec, ":", file.st_ctim.tv_sec, ".",
                      file.st_ctim.tv_nsec, " ");
}

}  // namespace penstock
