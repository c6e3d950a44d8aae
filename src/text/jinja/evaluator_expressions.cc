// Expressions of the evaluator.
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"

namespace penstock::jinja {

absl::StatusOr<Value> Evaluator::Evaluate(const Expression& node, const ScopePtr& scope) {
  absl::Status charged = Charge(1);
  if (!charged.ok()) return Locate(std::move(charged), node.position);
  absl::StatusOr<Value> value = EvaluateNode(node, scope);
  if (!value.ok() && !located_) return Locate(value.status(), node.position);
  return value;
}

Value Evaluator::LookUp(const Expression& node, const ScopePtr& scope) const {
  for (const Scope* s = scope.get(); s != nullptr; s = s->parent.get()) {
    if (const Value* value = s->Find(node.symbol)) return *value;
  }
  return Value::MakeUndefined(absl::StrCat("UndefinedError: '", node.name, "' is undefined"));
}

absl::StatusOr<Value> Evaluator::EvaluateNode(const Expression& node, const ScopePtr& scope) {
  switch (node.kind) {
    case ExpressionKind::kConstant:
      return node.value;
    case ExpressionKind::kName:
      return LookUp(node, scope);
    case ExpressionKind::kList:
    case ExpressionKind::kTuple: {
      ASSIGN_OR_RETURN(std::vector<Value> items, EvaluateAll(node.children, scope));
      return node.kind == ExpressionKind::kList ? Value::MakeList(std::move(items))
                                                : Value::MakeTuple(std::move(items));
    }
    case ExpressionKind::kDict:
      return EvaluateDict(node, scope);
    case ExpressionKind::kItem:
      return EvaluateItem(node, scope);
    case ExpressionKind::kSlice:
      return TypeError("a slice stands only in brackets, by itself");
    case ExpressionKind::kCompare:
      return EvaluateCompare(node, scope);
    case ExpressionKind::kConcat:
      return EvaluateConcat(node, scope);
    case ExpressionKind::kCondition:
      return EvaluateCondition(node, scope);
    default:
      break;
  }
  ASSIGN_OR_RETURN(Value first, Evaluate(*node.children[0], scope));
  switch (node.kind) {
    case ExpressionKind::kAttribute:
      return GetAttribute(first, node.name);
    case ExpressionKind::kCall: {
      ASSIGN_OR_RETURN(Arguments arguments, EvaluateArguments(*node.call, scope));
      return Call(first, std::move(arguments));
    }
    case ExpressionKind::kFilter:
      return EvaluateFilter(node, first, scope);
    case ExpressionKind::kTest: {
      ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(*node.call, scope));
      ASSIGN_OR_RETURN(const bool result, ApplyTest(node.name, first, arguments));
      return Value::Bool(result);
    }
    case ExpressionKind::kNot:
      return Value::Bool(!first.Truthy());
    case ExpressionKind::kNegate:
      return Negate(first);
    case ExpressionKind::kPlus:
      return Posate(first);
    case ExpressionKind::kAnd:
      return first.Truthy() ? Evaluate(*node.children[1], scope) : first;
    case ExpressionKind::kOr:
      return first.Truthy() ? first : Evaluate(*node.children[1], scope);
    default:
      break;
  }
  ASSIGN_OR_RETURN(const Value second, Evaluate(*node.children[1], scope));
  return ApplyBinary(*this, node.name, first, second);
}

absl::StatusOr<std::vector<Value>> Evaluator::EvaluateAll(const std::vector<ExpressionPtr>& nodes,
                                                          const ScopePtr& scope) {
  std::vector<Value> values;
  values.reserve(nodes.size());
  for (const ExpressionPtr& node : nodes) {
    ASSIGN_OR_RETURN(Value value, Evaluate(*node, scope));
    values.push_back(std::move(value));
  }
  return values;
}

absl::StatusOr<Value> Evaluator::EvaluateDict(const Expression& node, const ScopePtr& scope) {
  Dict dict;
  for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
    ASSIGN_OR_RETURN(Value key, Evaluate(*node.children[i], scope));
    ASSIGN_OR_RETURN(Value value, Evaluate(*node.children[i + 1], scope));
    if (!key.hashable()) return UnhashableError(key);
    dict.Set(std::move(key), std::move(value));
  }
  return Value::MakeDict(std::move(dict));
}

absl::StatusOr<Value> Evaluator::EvaluateItem(const Expression& node, const ScopePtr& scope) {
  ASSIGN_OR_RETURN(const Value container, Evaluate(*node.children[0], scope));
  const Expression& key = *node.children[1];
  if (key.kind != ExpressionKind::kSlice) {
    ASSIGN_OR_RETURN(const Value index, Evaluate(key, scope));
    return GetItem(container, index);
  }
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (key.children[i] == nullptr) continue;
    ASSIGN_OR_RETURN(bounds[i], Evaluate(*key.children[i], scope));
  }
  return GetSlice(*this, container, bounds[0], bounds[1], bounds[2]);
}

absl::StatusOr<Value> Evaluator::EvaluateCompare(const Expression& node, const ScopePtr& scope) {
  ASSIGN_OR_RETURN(Value left, Evaluate(*node.children[0], scope));
  for (size_t i = 0; i < node.operators.size(); ++i) {
    ASSIGN_OR_RETURN(Value right, Evaluate(*node.children[i + 1], scope));
    bool holds = false;
    const CompareOperator op = node.operators[i];
    if (op == CompareOperator::kEq || op == CompareOperator::kNe) {
      holds = (left == right) == (op == CompareOperator::kEq);
    } else if (op == CompareOperator::kIn || op == CompareOperator::kNotIn) {
      ASSIGN_OR_RETURN(const bool contained, Contains(*this, right, left));
      holds = contained == (op == CompareOperator::kIn);
    } else {
      static constexpr std::string_view kNames[] = {"==", "!=", "<", "<=", ">", ">="};
      ASSIGN_OR_RETURN(const int order, Order(left, right, kNames[static_cast<int>(op)]));
      holds = (op == CompareOperator::kLt && order == -1) ||
              (op == CompareOperator::kGt && order == 1) ||
              (op == CompareOperator::kLe && (order == -1 || order == 0)) ||
              (op == CompareOperator::kGe && (order == 1 || order == 0));
    }
    if (!holds || i + 1 == node.operators.size()) return Value::Bool(holds);
    left = std::move(right);
  }
  return left;
}

absl::StatusOr<Value> Evaluator::EvaluateConcat(const Expression& node, const ScopePtr& scope) {
  std::string text;
  for (const ExpressionPtr& child : node.children) {
    ASSIGN_OR_RETURN(const Value part, Evaluate(*child, scope));
    const std::string as_text = ToText(part);
    RETURN_IF_ERROR(ChargeText(text.size() + as_text.size()));
    text += as_text;
  }
  return Value::String(std::move(text));
}

absl::StatusOr<Value> Evaluator::EvaluateCondition(const Expression& node, const ScopePtr& scope) {
  ASSIGN_OR_RETURN(const Value condition, Evaluate(*node.children[1], scope));
  if (condition.Truthy()) return Evaluate(*node.children[0], scope);
  if (node.children[2] != nullptr) return Evaluate(*node.children[2], scope);
  return Value::MakeUndefined(
      "UndefinedError: the inline if-expression evaluated to false and no else section was "
      "defined.");
}

absl::StatusOr<Value> Evaluator::EvaluateFilter(const Expression& node, const Value& value,
                                                const ScopePtr& scope) {
  ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(*node.call, scope));
  return ApplyFilter(node.name, value, arguments);
}

// Filters whose innermost value is not an expression but a block's text.
absl::StatusOr<Value> Evaluator::EvaluateFilterChain(const Expression& node, const Value& value,
                                                     const ScopePtr& scope) {
  if (node.kind != ExpressionKind::kFilter) {
    return Locate(absl::InvalidArgumentError("expected filters only"), node.position);
  }
  Value input = value;
  if (node.children[0] != nullptr) {
    ASSIGN_OR_RETURN(input, EvaluateFilterChain(*node.children[0], value, scope));
  }
  absl::StatusOr<Value> result = EvaluateFilter(node, input, scope);
  if (!result.ok()) return Locate(result.status(), node.position);
  return result;
}

absl::StatusOr<Arguments> Evaluator::EvaluateArguments(const CallArguments& call,
                                                       const ScopePtr& scope) {
  Arguments arguments;
  ASSIGN_OR_RETURN(arguments.positional, EvaluateAll(call.positional, scope));
  for (const auto& [name, node] : call.named) {
    ASSIGN_OR_RETURN(Value value, Evaluate(*node, scope));
    arguments.named.emplace_back(name, std::move(value));
  }
  if (call.star != nullptr) {
    ASSIGN_OR_RETURN(const Value more, Evaluate(*call.star, scope));
    ASSIGN_OR_RETURN(std::vector<Value> items, CollectItems(*this, more));
    arguments.positional.insert(arguments.positional.end(), items.begin(), items.end());
  }
  if (call.double_star != nullptr) {
    ASSIGN_OR_RETURN(const Value more, Evaluate(*call.double_star, scope));
    if (!more.is_dict()) return TypeError("argument after ** must be a mapping");
    for (const auto& [key, value] : more.dict().entries()) {
      if (!key.is_string()) return TypeError("keywords must be strings");
      arguments.named.emplace_back(key.string(), value);
    }
  }
  return arguments;
}

absl::StatusOr<Value> Evaluator::Call(const Value& callable, Arguments arguments) {
  if (callable.is_undefined()) return UndefinedError(callable);
  if (!callable.is_object()) {
    return TypeError(absl::StrCat("'", ToAbsl(callable.type_name()), "' object is not callable"));
  }
  return callable.object()->Call(*this, std::move(arguments));
}

}  // namespace penstock::jinja
