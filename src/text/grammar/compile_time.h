// How long the compiling of a reply may take, however many schemas are in it.
// Owns a begin per thread. Must not know what is compiled.
// Threads: each thread has its own.
#pragma once

namespace penstock::grammar {

/// From the outermost of its thread on that thread's own work is counted, so that neighbours on the
/// machine refuse no schema.
class CompileTime {
 public:
  CompileTime();
  ~CompileTime();
  CompileTime(const CompileTime&) = delete;
  CompileTime& operator=(const CompileTime&) = delete;

  /// Too long already.
  bool over() const;

 private:
  const bool outermost_;
};

}  // namespace penstock::grammar
