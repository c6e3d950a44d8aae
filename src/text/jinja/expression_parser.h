// Parses expressions by recursive descent.
// Owns nothing. Must not know statements.
// Threads: confined to one parse.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "text/jinja/ast.h"
#include "text/jinja/token_stream.h"

namespace penstock::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream* tokens) : tokens_(*tokens) {}

  using Result = absl::StatusOr<ExpressionPtr>;
  Result ParseExpression(bool with_condition = true);
  /// One expression, or several with commas between, which are a tuple. Ends before `end_name`.
  Result ParseTuple(bool with_condition, std::string_view end_name = "");
  Result ParsePrimary();
  Result ParsePostfix(ExpressionPtr node);
  /// Filters, tests and calls behind `node`. With `node` null: a filter block's `name | name ...`.
  Result ParseFilters(ExpressionPtr node);
  absl::StatusOr<std::unique_ptr<CallArguments>> ParseCallArguments();
  absl::StatusOr<Target> ParseTarget(bool with_namespace, std::string_view end_name = "");

  /// What stands where something else was expected.
  absl::Status Unexpected(std::string_view expected) const;
  /// In branches of `if`, a filter that does not exist is an error only when it is reached.
  int soft_depth = 0;

 private:
  Result ParseCondition();
  Result ParseOr();
  Result ParseAnd();
  Result ParseNot();
  Result ParseCompare();
  Result ParseSum();
  Result ParseConcat();
  Result ParseProduct();
  Result ParsePower();
  Result ParseUnary(bool with_filter);
  Result ParseConstant();
  Result ParseParenthesized();
  Result ParseListDisplay();
  Result ParseDictDisplay();
  Result ParseSubscript(ExpressionPtr node);
  Result ParseSubscripted();
  Result ParseCall(ExpressionPtr node);
  Result ParseFilter(ExpressionPtr node);
  Result ParseTest(ExpressionPtr node);
  absl::StatusOr<std::string> ParseDottedName();
  absl::StatusOr<Target> ParseSingleTarget(bool with_namespace);
  bool AtTupleEnd(std::string_view end_name) const;
  Result BinaryChain(std::initializer_list<std::string_view> operators,
                     Result (ExpressionParser::*operand)());

  ExpressionPtr Make(ExpressionKind kind, Position position) const;
  Result Finish(ExpressionPtr node) const;

  TokenStream& tokens_;
  int depth_ = 0;
};

}  // namespace penstock::jinja
