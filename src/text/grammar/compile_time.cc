#include "text/grammar/compile_time.h"

#include <optional>

#include "base/sanitizers.h"
#include "base/thread_cpu.h"

namespace penstock::grammar {
namespace {

// A sanitizer makes ten of one.
constexpr absl::Duration kMostCompileTime = absl::Milliseconds(kSanitized ? 8000 : 800);

thread_local std::optional<absl::Duration> compile_begin;  // of the thread's own time

}  // namespace

CompileTime::CompileTime() : outermost_(!compile_begin) {
  if (outermost_) compile_begin = ThreadCpuTime();
}

CompileTime::~CompileTime() {
  if (outermost_) compile_begin.reset();
}

bool CompileTime::over() const { return ThreadCpuTime() > *compile_begin + kMostCompileTime; }

}  // namespace penstock::grammar
