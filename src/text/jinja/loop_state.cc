#include "text/jinja/loop_state.h"

#include "base/status_macros.h"

namespace penstock::jinja {
namespace {

// Items that were read ahead.
class ReadAhead final : public Iterator {
 public:
  explicit ReadAhead(std::vector<Value> items) : items_(std::move(items)) {}
  absl::StatusOr<std::optional<Value>> Next() override {
    if (next_ >= items_.size()) return std::nullopt;
    return items_[next_++];
  }

 private:
  std::vector<Value> items_;
  size_t next_ = 0;
};

}  // namespace

absl::StatusOr<std::optional<Value>> FilteredIterator::Next() {
  while (true) {
    ASSIGN_OR_RETURN(std::optional<Value> item, source_->Next());
    if (!item) return item;
    RETURN_IF_ERROR(evaluator_->Charge(1));
    auto scope = std::make_shared<Scope>();
    scope->parent = scope_;
    RETURN_IF_ERROR(evaluator_->Assign(loop_->target, *item, scope));
    ASSIGN_OR_RETURN(const Value condition, evaluator_->Evaluate(*loop_->condition, scope));
    if (condition.Truthy()) return item;
  }
}

LoopState::LoopState(Evaluator* evaluator, const Statement* loop, std::shared_ptr<Scope> scope,
                     std::unique_ptr<Iterator> source, Value sized, int depth)
    : evaluator_(evaluator),
      loop_(loop),
      scope_(std::move(scope)),
      source_(std::move(source)),
      sized_(std::move(sized)),
      depth0_(depth),
      last_changed_(std::make_shared<std::optional<Value>>()) {}

void LoopState::End() {
  scope_.reset();
  source_ = std::make_unique<ReadAhead>(std::vector<Value>());
  sized_ = current_ = before_ = Value();
  after_.reset();
}

absl::StatusOr<std::optional<Value>> LoopState::Peek() {
  if (!peeked_) {
    ASSIGN_OR_RETURN(after_, source_->Next());
    peeked_ = true;
  }
  return after_;
}

absl::StatusOr<std::optional<Value>> LoopState::Advance() {
  ASSIGN_OR_RETURN(std::optional<Value> item, Peek());
  peeked_ = false;
  if (!item) return item;
  ++index0_;
  before_ = std::move(current_);
  current_ = *item;
  return item;
}

absl::StatusOr<int64_t> LoopState::LengthOfWalk() {
  if (length_) return *length_;
  if (!sized_.is_none() && HasLength(sized_)) {
    ASSIGN_OR_RETURN(length_, jinja::Length(sized_));
    return *length_;
  }
  std::vector<Value> rest;
  while (true) {
    ASSIGN_OR_RETURN(std::optional<Value> item, source_->Next());
    if (!item) break;
    RETURN_IF_ERROR(evaluator_->Charge(1));
    rest.push_back(*std::move(item));
  }
  length_ = static_cast<int64_t>(rest.size()) + index0_ + 1 + (peeked_ && after_ ? 1 : 0);
  source_ = std::make_unique<ReadAhead>(std::move(rest));
  return *length_;
}

absl::StatusOr<Value> LoopState::Call(Runtime&, Arguments arguments) {
  if (!loop_->recursive) {
    return TypeError("The loop must have the 'recursive' marker to be called recursively.");
  }
  if (scope_ == nullptr) return TypeError("the loop has ended");
  if (arguments.positional.size() != 1 || !arguments.named.empty())
    return TypeError("loop() takes one argument");
  return evaluator_->RenderLoop(*loop_, scope_, arguments.positional[0], depth0_ + 1);
}

Value LoopState::MakeCycle() const {
  const int64_t index = index0_;
  return Value::MakeObject(std::make_shared<Function>(
      "cycle", [index](Runtime&, const Arguments& arguments) -> absl::StatusOr<Value> {
        if (arguments.positional.empty()) return TypeError("no items for cycling given");
        return arguments.positional[static_cast<size_t>(index) % arguments.positional.size()];
      }));
}

Value LoopState::MakeChanged() {
  return Value::MakeObject(std::make_shared<Function>(
      "changed",
      [last = last_changed_](Runtime&, const Arguments& arguments) -> absl::StatusOr<Value> {
        Value now = Value::MakeTuple(arguments.positional);
        if (*last && **last == now) return Value::Bool(false);
        if (now.depth() > kMaxValueDepth)
          return absl::ResourceExhaustedError("a value is nested too deeply");
        *last = std::move(now);
        return Value::Bool(true);
      }));
}

absl::StatusOr<std::optional<Value>> LoopState::Attribute(std::string_view name) {
  if (name == "index") return Value::Int(index0_ + 1);
  if (name == "index0") return Value::Int(index0_);
  if (name == "first") return Value::Bool(index0_ == 0);
  if (name == "depth") return Value::Int(depth0_ + 1);
  if (name == "depth0") return Value::Int(depth0_);
  if (name == "cycle") return MakeCycle();
  if (name == "changed") return MakeChanged();
  if (name == "previtem") {
    return index0_ == 0 ? Value::MakeUndefined("UndefinedError: there is no previous item")
                        : before_;
  }
  if (name == "last" || name == "nextitem") {
    ASSIGN_OR_RETURN(const std::optional<Value> next, Peek());
    if (name == "last") return Value::Bool(!next);
    return next ? *next : Value::MakeUndefined("UndefinedError: there is no next item");
  }
  if (name == "length" || name == "revindex" || name == "revindex0") {
    ASSIGN_OR_RETURN(const int64_t length, LengthOfWalk());
    return Value::Int(name == "length"     ? length
                      : name == "revindex" ? length - index0_
                                           : length - index0_ - 1);
  }
  return std::nullopt;
}

}  // namespace penstock::jinja
