#include "text/jinja/evaluator.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/jinja/format.h"
#include "text/jinja/loop_state.h"

namespace penstock::jinja {
namespace {

Symbol FindSymbol(const Program& program, std::string_view name) {
  const auto it = std::find(program.names.begin(), program.names.end(), name);
  return it == program.names.end() ? -1 : static_cast<Symbol>(it - program.names.begin());
}

// A macro, or the body of a call block as its caller().
class Macro final : public Object {
 public:
  Macro(Evaluator* evaluator, const Statement* definition, std::shared_ptr<Scope> closure)
      : evaluator_(evaluator), definition_(definition), closure_(std::move(closure)) {}
  std::string_view type_name() const override { return "Macro"; }
  std::string Repr() const override {
    return is_caller() ? "<Macro anonymous>"
                       : absl::StrCat("<Macro '", definition_->signature.name, "'>");
  }
  bool callable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime&, Arguments arguments) override {
    return evaluator_->CallMacro(definition_->signature, definition_->body, closure_,
                                 std::move(arguments));
  }
  absl::StatusOr<std::optional<Value>> Attribute(std::string_view name) override {
    if (name == "name") return is_caller() ? Value() : Value::String(definition_->signature.name);
    if (name == "arguments") {
      std::vector<Value> names;
      for (const Symbol parameter : definition_->signature.parameters)
        names.push_back(Value::String(std::string(evaluator_->NameOf(parameter))));
      return Value::MakeTuple(std::move(names));
    }
    if (name == "caller") return Value::Bool(definition_->signature.uses_caller);
    if (name == "catch_kwargs") return Value::Bool(definition_->signature.uses_kwargs);
    if (name == "catch_varargs") return Value::Bool(definition_->signature.uses_varargs);
    return std::nullopt;
  }

 private:
  bool is_caller() const { return definition_->kind == StatementKind::kCallBlock; }

  Evaluator* evaluator_;
  const Statement* definition_;
  std::shared_ptr<Scope> closure_;
};

}  // namespace

const Value* Scope::Find(Symbol symbol) const {
  for (const auto& [name, value] : variables) {
    if (name == symbol) return &value;
  }
  return nullptr;
}

void Scope::Set(Symbol symbol, Value value) {
  for (auto& [name, current] : variables) {
    if (name == symbol) {
      current = std::move(value);
      return;
    }
  }
  variables.emplace_back(symbol, std::move(value));
}

Evaluator::Evaluator(const Program& program, const Limits& limits, absl::Time now)
    : Runtime(limits, now),
      program_(program),
      loop_(FindSymbol(program, "loop")),
      caller_(FindSymbol(program, "caller")),
      varargs_(FindSymbol(program, "varargs")),
      kwargs_(FindSymbol(program, "kwargs")) {}

Evaluator::~Evaluator() {
  for (const auto& scope : closures_) scope->variables.clear();
  for (const auto& members : namespaces_) members->Clear();
  for (const auto& value : kept_values_) value->reset();
}

absl::StatusOr<std::string> Evaluator::Render(const Dict& context) {
  const ScopePtr globals = NewScope(nullptr);
  for (const auto& [name, function] : BuiltinFunctions()) {
    if (const Symbol symbol = FindSymbol(program_, name); symbol >= 0)
      globals->Set(symbol, function);
  }
  if (const Symbol symbol = FindSymbol(program_, "namespace"); symbol >= 0) {
    const auto make = [this](Runtime&, const Arguments& arguments) -> absl::StatusOr<Value> {
      Dict members;
      if (arguments.positional.size() > 1)
        return TypeError("namespace() takes at most 1 positional argument");
      if (!arguments.positional.empty()) {
        if (!arguments.positional[0].is_dict()) return TypeError("namespace(): expected a dict");
        members = arguments.positional[0].dict();
      }
      for (const auto& [key, value] : arguments.named) members.Set(Value::String(key), value);
      namespaces_.push_back(std::make_shared<Namespace>(std::move(members)));
      return Value::MakeObject(namespaces_.back());
    };
    globals->Set(symbol, Value::MakeObject(std::make_shared<Function>("namespace", make)));
  }
  const ScopePtr root = NewScope(globals);
  for (size_t i = 0; i < program_.names.size(); ++i) {
    if (const Value* value = context.Find(program_.names[i]))
      root->Set(static_cast<Symbol>(i), *value);
  }
  absl::StatusOr<std::string> text = Capture(program_.body, root);
  closures_.push_back(root);
  return text;
}

Evaluator::ScopePtr Evaluator::NewScope(const ScopePtr& parent) {
  auto scope = std::make_shared<Scope>();
  scope->parent = parent;
  return scope;
}

// A macro in a scope that it refers to is a cycle, so the scopes of macros are emptied at the end.
void Evaluator::KeepForClosure(const ScopePtr& scope) {
  if (closures_.empty() || closures_.back() != scope) closures_.push_back(scope);
}

absl::Status Evaluator::Locate(absl::Status status, Position position) {
  if (status.ok() || located_) return status;
  located_ = true;
  return absl::Status(status.code(), absl::StrCat("line ", position.line, ", column ",
                                                  position.column, ": ", status.message()));
}

absl::Status Evaluator::Print(std::string_view text) {
  RETURN_IF_ERROR(
      ChargeText(output_->size() + text.size() > static_cast<size_t>(limits().max_text_bytes)
                     ? output_->size() + text.size()
                     : text.size()));
  output_->append(text);
  return absl::OkStatus();
}

absl::StatusOr<std::string> Evaluator::Capture(const Body& body, const ScopePtr& scope) {
  std::string text;
  std::string* const outer = std::exchange(output_, &text);
  const absl::StatusOr<Flow> flow = Execute(body, scope);
  output_ = outer;
  RETURN_IF_ERROR(flow.status());
  return text;
}

absl::StatusOr<Evaluator::Flow> Evaluator::Execute(const Body& body, const ScopePtr& scope) {
  for (const auto& statement : body) {
    absl::Status charged = Charge(1);
    if (!charged.ok()) return Locate(std::move(charged), statement->position);
    absl::StatusOr<Flow> flow = ExecuteOne(*statement, scope);
    if (!flow.ok()) return Locate(flow.status(), statement->position);
    if (*flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

absl::StatusOr<Evaluator::Flow> Evaluator::ExecuteOne(const Statement& statement,
                                                      const ScopePtr& scope) {
  switch (statement.kind) {
    case StatementKind::kData:
      RETURN_IF_ERROR(Print(statement.text));
      break;
    case StatementKind::kPrint: {
      ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expression, scope));
      RETURN_IF_ERROR(value.is_string() ? Print(value.string()) : Print(ToText(value)));
      break;
    }
    case StatementKind::kIf:
      return ExecuteIf(statement, scope);
    case StatementKind::kFor: {
      ASSIGN_OR_RETURN(const Value items, Evaluate(*statement.expression, scope));
      RETURN_IF_ERROR(ExecuteFor(statement, scope, items, 0));
      break;
    }
    case StatementKind::kSet: {
      ASSIGN_OR_RETURN(Value value, Evaluate(*statement.expression, scope));
      RETURN_IF_ERROR(Assign(statement.target, std::move(value), scope));
      break;
    }
    case StatementKind::kSetBlock:
      RETURN_IF_ERROR(ExecuteSetBlock(statement, scope));
      break;
    case StatementKind::kMacro:
      RETURN_IF_ERROR(ExecuteMacro(statement, scope));
      break;
    case StatementKind::kCallBlock:
      RETURN_IF_ERROR(ExecuteCallBlock(statement, scope));
      break;
    case StatementKind::kFilterBlock: {
      ASSIGN_OR_RETURN(std::string text, Capture(statement.body, NewScope(scope)));
      ASSIGN_OR_RETURN(
          const Value value,
          EvaluateFilterChain(*statement.expression, Value::String(std::move(text)), scope));
      RETURN_IF_ERROR(Print(ToText(value)));
      break;
    }
    case StatementKind::kWith:
      return ExecuteWith(statement, scope);
    case StatementKind::kScope:
      return Execute(statement.body, NewScope(scope));
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

absl::StatusOr<Evaluator::Flow> Evaluator::ExecuteIf(const Statement& statement,
                                                     const ScopePtr& scope) {
  for (const auto& [condition, body] : statement.branches) {
    ASSIGN_OR_RETURN(const Value value, Evaluate(*condition, scope));
    if (value.Truthy()) return Execute(body, scope);
  }
  return Execute(statement.otherwise, scope);
}

absl::StatusOr<Evaluator::Flow> Evaluator::ExecuteWith(const Statement& statement,
                                                       const ScopePtr& scope) {
  const ScopePtr inner = NewScope(scope);
  for (const auto& [target, expression] : statement.assignments) {
    ASSIGN_OR_RETURN(Value value, Evaluate(*expression, scope));
    RETURN_IF_ERROR(Assign(target, std::move(value), inner));
  }
  return Execute(statement.body, inner);
}

absl::Status Evaluator::ExecuteSetBlock(const Statement& statement, const ScopePtr& scope) {
  ASSIGN_OR_RETURN(std::string text, Capture(statement.body, NewScope(scope)));
  Value value = Value::String(std::move(text));
  if (statement.expression != nullptr) {
    ASSIGN_OR_RETURN(value, EvaluateFilterChain(*statement.expression, value, scope));
  }
  return Assign(statement.target, std::move(value), scope);
}

absl::Status Evaluator::ExecuteMacro(const Statement& statement, const ScopePtr& scope) {
  KeepForClosure(scope);
  scope->Set(statement.symbol, Value::MakeObject(std::make_shared<Macro>(this, &statement, scope)));
  return absl::OkStatus();
}

absl::Status Evaluator::ExecuteCallBlock(const Statement& statement, const ScopePtr& scope) {
  const Expression& call = *statement.expression;
  ASSIGN_OR_RETURN(const Value callable, Evaluate(*call.children[0], scope));
  ASSIGN_OR_RETURN(Arguments arguments, EvaluateArguments(*call.call, scope));
  KeepForClosure(scope);
  arguments.named.emplace_back("caller",
                               Value::MakeObject(std::make_shared<Macro>(this, &statement, scope)));
  ASSIGN_OR_RETURN(const Value value, Call(callable, std::move(arguments)));
  return Print(ToText(value));
}

absl::Status Evaluator::Assign(const Target& target, Value value, const ScopePtr& scope) {
  if (value.depth() > kMaxValueDepth) {
    return Locate(absl::ResourceExhaustedError("a value is nested too deeply"), target.position);
  }
  if (target.kind == Target::Kind::kName) {
    scope->Set(target.symbol, std::move(value));
    return absl::OkStatus();
  }
  if (target.kind == Target::Kind::kNamespace) {
    const Value* holder = nullptr;
    for (const Scope* s = scope.get(); s != nullptr && holder == nullptr; s = s->parent.get()) {
      holder = s->Find(target.symbol);
    }
    auto* members = holder == nullptr ? nullptr : holder->As<Namespace>();
    if (members == nullptr) {
      return Locate(absl::InvalidArgumentError("cannot assign attribute on non-namespace object"),
                    target.position);
    }
    members->Set(target.member, std::move(value));
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<Value>> items = CollectItems(*this, value);
  if (!items.ok()) return Locate(items.status(), target.position);
  if (items->size() != target.parts.size()) {
    return Locate(ValueError(items->size() < target.parts.size()
                                 ? absl::StrCat("not enough values to unpack (expected ",
                                                target.parts.size(), ", got ", items->size(), ")")
                                 : absl::StrCat("too many values to unpack (expected ",
                                                target.parts.size(), ")")),
                  target.position);
  }
  for (size_t i = 0; i < items->size(); ++i) {
    RETURN_IF_ERROR(Assign(target.parts[i], std::move((*items)[i]), scope));
  }
  return absl::OkStatus();
}

absl::Status Evaluator::ExecuteFor(const Statement& statement, const ScopePtr& scope,
                                   const Value& items, int depth) {
  if (++depth_ > limits().max_depth)
    return absl::ResourceExhaustedError("the template nests too deeply");
  absl::StatusOr<std::unique_ptr<Iterator>> iterator = Iterate(items);
  if (!iterator.ok()) return Locate(iterator.status(), statement.expression->position);
  std::unique_ptr<Iterator> source = *std::move(iterator);
  if (statement.condition != nullptr) {
    source = std::make_unique<FilteredIterator>(this, &statement, scope, std::move(source));
  }
  auto loop = std::make_shared<LoopState>(this, &statement, scope, std::move(source),
                                          statement.condition == nullptr ? items : Value(), depth);
  kept_values_.push_back(loop->last_changed());
  const LoopEnd end(loop.get());
  bool any = false;
  while (true) {
    ASSIGN_OR_RETURN(std::optional<Value> item, loop->Advance());
    if (!item) break;
    any = true;
    RETURN_IF_ERROR(Charge(1));
    const ScopePtr inner = NewScope(scope);
    RETURN_IF_ERROR(Assign(statement.target, *std::move(item), inner));
    if (loop_ >= 0) inner->Set(loop_, Value::MakeObject(loop));
    ASSIGN_OR_RETURN(const Flow flow, Execute(statement.body, inner));
    if (flow == Flow::kBreak) break;
  }
  --depth_;
  if (any) return absl::OkStatus();
  return Execute(statement.otherwise, NewScope(scope)).status();
}

absl::StatusOr<Value> Evaluator::RenderLoop(const Statement& loop, const ScopePtr& scope,
                                            const Value& items, int depth) {
  std::string text;
  std::string* const outer = std::exchange(output_, &text);
  const absl::Status status = ExecuteFor(loop, scope, items, depth);
  output_ = outer;
  RETURN_IF_ERROR(status);
  return Value::String(std::move(text));
}

absl::StatusOr<Value> Evaluator::CallMacro(const MacroSignature& signature, const Body& body,
                                           const std::shared_ptr<Scope>& closure,
                                           Arguments arguments) {
  if (++depth_ > limits().max_depth)
    return absl::ResourceExhaustedError("the template nests too deeply");
  const ScopePtr scope = NewScope(closure);
  const size_t count = signature.parameters.size();
  const size_t num_positional = std::min(count, arguments.positional.size());
  const auto take_named = [&](std::string_view name) -> std::optional<Value> {
    for (auto it = arguments.named.begin(); it != arguments.named.end(); ++it) {
      if (it->first != name) continue;
      Value value = std::move(it->second);
      arguments.named.erase(it);
      return value;
    }
    return std::nullopt;
  };
  bool explicit_caller = false;
  std::vector<size_t> missing;
  for (size_t i = 0; i < count; ++i) {
    const Symbol symbol = signature.parameters[i];
    explicit_caller = explicit_caller || symbol == caller_;
    std::optional<Value> value;
    if (i < num_positional) {
      value = std::move(arguments.positional[i]);
    } else if (value = take_named(program_.names[symbol]); !value) {
      value = Value::MakeUndefined(absl::StrCat("UndefinedError: parameter '",
                                                program_.names[symbol], "' was not provided"));
      missing.push_back(i);
    }
    if (value->depth() > kMaxValueDepth)
      return absl::ResourceExhaustedError("a value is nested too deeply");
    scope->Set(symbol, *std::move(value));
  }
  // Defaults see the parameters, given or not, and no names outside that are called as they are.
  const size_t first_default = count - signature.defaults.size();
  for (const size_t i : missing) {
    if (i < first_default) continue;
    ASSIGN_OR_RETURN(Value value, Evaluate(*signature.defaults[i - first_default], scope));
    if (value.depth() > kMaxValueDepth)
      return absl::ResourceExhaustedError("a value is nested too deeply");
    scope->Set(signature.parameters[i], std::move(value));
  }
  if (signature.uses_caller && !explicit_caller) {
    scope->Set(caller_, take_named("caller").value_or(
                            Value::MakeUndefined("UndefinedError: No caller defined")));
  }
  if (signature.uses_kwargs) {
    Dict rest;
    for (auto& [name, value] : arguments.named) rest.Set(Value::String(name), std::move(value));
    scope->Set(kwargs_, Value::MakeDict(std::move(rest)));
  } else if (!arguments.named.empty()) {
    return TypeError(absl::StrCat("macro '", signature.name, "' takes no keyword argument '",
                                  arguments.named[0].first, "'"));
  }
  if (signature.uses_varargs) {
    scope->Set(varargs_, Value::MakeTuple(
                             {arguments.positional.begin() + static_cast<ptrdiff_t>(num_positional),
                              arguments.positional.end()}));
  } else if (arguments.positional.size() > count) {
    return TypeError(
        absl::StrCat("macro '", signature.name, "' takes not more than ", count, " argument(s)"));
  }
  ASSIGN_OR_RETURN(std::string text, Capture(body, scope));
  --depth_;
  return Value::String(std::move(text));
}

}  // namespace penstock::jinja
