// The `loop` of a for block, and the filtered walk of `for ... if`.
// Own the items they have read ahead. Must not know how blocks are rendered.
// Threads: confined to one rendering.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "text/jinja/evaluator.h"

namespace penstock::jinja {

/// Items for which the loop's condition holds, tested as they are asked for.
class FilteredIterator final : public Iterator {
 public:
  FilteredIterator(Evaluator* evaluator, const Statement* loop, std::shared_ptr<Scope> scope,
                   std::unique_ptr<Iterator> source)
      : evaluator_(evaluator), loop_(loop), scope_(std::move(scope)), source_(std::move(source)) {}
  absl::StatusOr<std::optional<Value>> Next() override;

 private:
  Evaluator* evaluator_;
  const Statement* loop_;
  std::shared_ptr<Scope> scope_;
  std::unique_ptr<Iterator> source_;
};

class LoopState final : public Object {
 public:
  /// `sized` is what is walked where its length is that of the walk, else none.
  LoopState(Evaluator* evaluator, const Statement* loop, std::shared_ptr<Scope> scope,
            std::unique_ptr<Iterator> source, Value sized, int depth);

  /// The next item, or nullopt at the end.
  absl::StatusOr<std::optional<Value>> Advance();
  /// Lets go of everything around it, so that a loop kept in a variable keeps nothing else alive.
  void End();
  const std::shared_ptr<std::optional<Value>>& last_changed() const { return last_changed_; }

  std::string_view type_name() const override { return "LoopContext"; }
  bool callable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime& runtime, Arguments arguments) override;
  absl::StatusOr<std::optional<Value>> Attribute(std::string_view name) override;

 private:
  absl::StatusOr<int64_t> LengthOfWalk();
  absl::StatusOr<std::optional<Value>> Peek();
  Value MakeCycle() const;
  Value MakeChanged();

  Evaluator* evaluator_;
  const Statement* loop_;
  std::shared_ptr<Scope> scope_;
  std::unique_ptr<Iterator> source_;
  Value sized_;
  int depth0_;
  int64_t index0_ = -1;
  std::optional<int64_t> length_;
  bool peeked_ = false;
  std::optional<Value> after_;  // valid when peeked_
  Value current_;
  Value before_;
  std::shared_ptr<std::optional<Value>>
      last_changed_;  // the arguments of the last changed(), as a tuple
};

/// Ends a loop at the end of its block.
class LoopEnd {
 public:
  explicit LoopEnd(LoopState* loop) : loop_(loop) {}
  ~LoopEnd() { loop_->End(); }
  LoopEnd(const LoopEnd&) = delete;
  LoopEnd& operator=(const LoopEnd&) = delete;

 private:
  LoopState* loop_;
};

}  // namespace penstock::jinja
