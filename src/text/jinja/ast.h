// The syntax tree of a template.
// Owns its nodes. Must not know evaluation.
// Threads: immutable after parsing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/lexer.h"
#include "text/jinja/value.h"

namespace penstock::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using Body = std::vector<std::unique_ptr<Statement>>;

/// The index of a name in Program::names.
using Symbol = int32_t;

enum class ExpressionKind : uint8_t {
  kConstant,   // value
  kName,       // symbol
  kList,       // children
  kTuple,      // children
  kDict,       // children: key, value, key, value ...
  kAttribute,  // children[0] . name
  kItem,       // children[0] [ children[1] ]
  kSlice,      // children: start, stop, step; each may be null
  kCall,       // children[0] ( call )
  kFilter,     // children[0] | name ( call ); children[0] is null in a filter block
  kTest,       // children[0] is name ( call )
  kNot,
  kNegate,
  kPlus,  // children[0]
  kAnd,
  kOr,         // children[0], children[1]
  kBinary,     // children[0] name children[1]; name: + - * / // % **
  kConcat,     // children joined as text
  kCompare,    // children[0] operators[0] children[1] operators[1] ...
  kCondition,  // children[0] if children[1] else children[2]; the last may be null
};

enum class CompareOperator : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr star;         // *expression, or null
  ExpressionPtr double_star;  // **expression, or null
};

struct Expression {
  ExpressionKind kind;
  Position position;
  Value value;
  Symbol symbol = -1;
  std::string name;
  std::vector<ExpressionPtr> children;
  std::vector<CompareOperator> operators;
  std::unique_ptr<CallArguments> call;
  int height = 1;  // of the tree below, bounded by the parser
};

/// What is assigned to: a name, a member of a namespace, or a tuple of targets.
struct Target {
  enum class Kind : uint8_t { kName, kNamespace, kTuple };
  Kind kind = Kind::kName;
  Position position;
  Symbol symbol = -1;
  std::string member;         // kNamespace
  std::vector<Target> parts;  // kTuple
};

enum class StatementKind : uint8_t {
  kData,
  kPrint,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kScope,
  kBreak,
  kContinue,
};

struct MacroSignature {
  std::string name;
  std::vector<Symbol> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  bool uses_varargs = false;
  bool uses_kwargs = false;
  bool uses_caller = false;
};

struct Statement {
  StatementKind kind;
  Position position;
  std::string text;  // kData
  // kPrint, kSet: the value. kFor: what is walked. kCallBlock: the call. kFilterBlock, kSetBlock:
  // the filters, or null.
  ExpressionPtr expression;
  ExpressionPtr condition;                               // kFor: the filter, or null
  std::vector<std::pair<ExpressionPtr, Body>> branches;  // kIf: conditions in order
  Body body;
  Body otherwise;                                             // kIf, kFor: else
  Target target;                                              // kFor, kSet, kSetBlock
  Symbol symbol = -1;                                         // kMacro: its name
  bool recursive = false;                                     // kFor
  MacroSignature signature;                                   // kMacro, kCallBlock
  std::vector<std::pair<Target, ExpressionPtr>> assignments;  // kWith
};

struct Program {
  Body body;
  std::vector<std::string> names;  // [symbols]
};

}  // namespace penstock::jinja
