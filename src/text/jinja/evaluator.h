// Runs a parsed template.
// Owns the scopes of one rendering. Must not know source text or files.
// Threads: confined to one rendering.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "text/jinja/ast.h"
#include "text/jinja/objects.h"
#include "text/jinja/runtime.h"

namespace penstock::jinja {

/// Names and values of one block; what it does not know, its parent may.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<Symbol, Value>> variables;

  const Value* Find(Symbol symbol) const;
  void Set(Symbol symbol, Value value);
};

class LoopState;

class Evaluator final : public Runtime {
 public:
  Evaluator(const Program& program, const Limits& limits, absl::Time now);
  ~Evaluator() override;
  std::string_view NameOf(Symbol symbol) const { return program_.names[symbol]; }

  absl::StatusOr<std::string> Render(const Dict& context);
  absl::StatusOr<Value> Call(const Value& callable, Arguments arguments) override;

  // What macros and loops ask for.
  absl::StatusOr<Value> CallMacro(const MacroSignature& signature, const Body& body,
                                  const std::shared_ptr<Scope>& closure, Arguments arguments);
  absl::StatusOr<Value> RenderLoop(const Statement& loop, const std::shared_ptr<Scope>& scope,
                                   const Value& items, int depth);
  absl::StatusOr<Value> Evaluate(const Expression& node, const std::shared_ptr<Scope>& scope);
  absl::Status Assign(const Target& target, Value value, const std::shared_ptr<Scope>& scope);

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  using ScopePtr = std::shared_ptr<Scope>;

  // Statements: evaluator.cc.
  absl::StatusOr<Flow> Execute(const Body& body, const ScopePtr& scope);
  absl::StatusOr<Flow> ExecuteOne(const Statement& statement, const ScopePtr& scope);
  absl::StatusOr<Flow> ExecuteIf(const Statement& statement, const ScopePtr& scope);
  absl::StatusOr<Flow> ExecuteWith(const Statement& statement, const ScopePtr& scope);
  absl::Status ExecuteSetBlock(const Statement& statement, const ScopePtr& scope);
  absl::Status ExecuteCallBlock(const Statement& statement, const ScopePtr& scope);
  absl::Status ExecuteFor(const Statement& statement, const ScopePtr& scope, const Value& items,
                          int depth);
  absl::Status ExecuteMacro(const Statement& statement, const ScopePtr& scope);
  absl::StatusOr<std::string> Capture(const Body& body, const ScopePtr& scope);
  absl::Status Print(std::string_view text);

  // Expressions: evaluator_expressions.cc.
  absl::StatusOr<Value> EvaluateNode(const Expression& node, const ScopePtr& scope);
  absl::StatusOr<Value> EvaluateDict(const Expression& node, const ScopePtr& scope);
  absl::StatusOr<Value> EvaluateItem(const Expression& node, const ScopePtr& scope);
  absl::StatusOr<Value> EvaluateCompare(const Expression& node, const ScopePtr& scope);
  absl::StatusOr<Value> EvaluateConcat(const Expression& node, const ScopePtr& scope);
  absl::StatusOr<Value> EvaluateCondition(const Expression& node, const ScopePtr& scope);
  absl::StatusOr<Value> EvaluateFilter(const Expression& node, const Value& value,
                                       const ScopePtr& scope);
  absl::StatusOr<Value> EvaluateFilterChain(const Expression& node, const Value& value,
                                            const ScopePtr& scope);
  absl::StatusOr<std::vector<Value>> EvaluateAll(const std::vector<ExpressionPtr>& nodes,
                                                 const ScopePtr& scope);
  absl::StatusOr<Arguments> EvaluateArguments(const CallArguments& call, const ScopePtr& scope);
  Value LookUp(const Expression& node, const ScopePtr& scope) const;

  /// Adds the position where an error first shows itself.
  absl::Status Locate(absl::Status status, Position position);
  ScopePtr NewScope(const ScopePtr& parent);
  void KeepForClosure(const ScopePtr& scope);

  const Program& program_;
  std::string* output_ = nullptr;  // the innermost capture
  int32_t depth_ = 0;
  bool located_ = false;
  Symbol loop_, caller_, varargs_, kwargs_;       // -1: not used by the program
  std::vector<std::shared_ptr<Scope>> closures_;  // scopes that macros refer to; may be cycles
  std::vector<std::shared_ptr<Namespace>> namespaces_;  // may be cycles
  std::vector<std::shared_ptr<std::optional<Value>>>
      kept_values_;  // of loop.changed(); may be cycles
};

}  // namespace penstock::jinja
