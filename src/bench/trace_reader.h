// Recorded arrivals, one at a time: Azure's and BurstGPT's CSV, and JSON lines as Mooncake's.
// Owns the open file; holds one row, of at most kMostTraceLine bytes. Must not know requests or
// sockets.
// Threads: confined to its owner.
#pragma once

#include <cstdint>
#include <istream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock {

/// Bytes of a line: enough for the blocks of the longest prompt.
inline constexpr size_t kMostTraceLine = 1 << 20;

struct TraceRow {
  double at = 0;  // seconds since the first row, never less than the row before
  int32_t prompt_tokens = 0, output_tokens = 0;
  std::vector<uint64_t>
      blocks;  // what the prompt's blocks of 512 tokens are; equal ones are equal text
};

/// Rows that were not taken as they are, and the line of the first. Too long a line is unreadable.
struct TraceFaults {
  int64_t unreadable = 0, out_of_order = 0;
  int64_t first_line = 0;
};

class TraceReader {
 public:
  /// CSV begins with the names of its columns: a time (TIMESTAMP: a date, or seconds), prompt tokens
  /// (ContextTokens, Request tokens) and output tokens (GeneratedTokens, Response tokens). A JSON
  /// line has timestamp (milliseconds), input_length, output_length and perhaps hash_ids.
  /// INVALID_ARGUMENT says which column is missing, or that the first line is too long.
  static absl::StatusOr<std::unique_ptr<TraceReader>> Open(const std::string& path);
  /// The same of what an open file holds; errors name `path`.
  static absl::StatusOr<std::unique_ptr<TraceReader>> Read(std::unique_ptr<std::istream> file,
                                                           const std::string& path);
  /// The next row that can be read; none: the end.
  std::optional<TraceRow> Next();
  const TraceFaults& faults() const { return faults_; }

 private:
  TraceReader() = default;
  bool ReadLine();
  absl::Status ReadHeader(const std::string& path);
  bool ReadCsv(std::string_view line, TraceRow& row);
  bool ReadJson(std::string_view line, TraceRow& row);

  std::unique_ptr<std::istream> file_;
  std::unique_ptr<char[]> buffer_ =
      std::make_unique_for_overwrite<char[]>(kMostTraceLine + 1);  // a line and a NUL
  std::string_view line_;                                          // in the buffer
  bool too_long_ = false;  // the line, which is in the buffer up to there
  int64_t line_number_ = 0;
  bool json_ = false;
  int time_column_ = -1, prompt_column_ = -1, output_column_ = -1;
  std::optional<double> begin_;
  double last_ = 0;
  TraceFaults faults_;
};

}  // namespace penstock
