// The part of ExpressionParser behind a primary: members, calls, filters, tests, and what can be
// assigned to.
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/jinja/expression_parser.h"
#include "text/jinja/filters.h"
#include "text/jinja/parser.h"
#include "text/jinja/tests.h"

namespace penstock::jinja {

ExpressionParser::Result ExpressionParser::ParsePostfix(ExpressionPtr node) {
  while (true) {
    if (tokens_.AtOperator(".") || tokens_.AtOperator("[")) {
      ASSIGN_OR_RETURN(node, ParseSubscript(std::move(node)));
    } else if (tokens_.AtOperator("(")) {
      ASSIGN_OR_RETURN(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

ExpressionParser::Result ExpressionParser::ParseFilters(ExpressionPtr node) {
  if (node == nullptr) {
    ASSIGN_OR_RETURN(node, ParseFilter(nullptr));
  }
  while (true) {
    if (tokens_.SkipOperator("|")) {
      ASSIGN_OR_RETURN(node, ParseFilter(std::move(node)));
    } else if (tokens_.AtName("is")) {
      ASSIGN_OR_RETURN(node, ParseTest(std::move(node)));
    } else if (tokens_.AtOperator("(")) {
      ASSIGN_OR_RETURN(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

ExpressionParser::Result ExpressionParser::ParseSubscript(ExpressionPtr node) {
  const Token token = tokens_.Take();
  if (token.text == "[") {
    ExpressionPtr item = Make(ExpressionKind::kItem, token.position);
    ASSIGN_OR_RETURN(ExpressionPtr key, ParseSubscripted());
    item->children.push_back(std::move(node));
    item->children.push_back(std::move(key));
    return Finish(std::move(item));
  }
  const Token member = tokens_.current();
  if (member.kind == TokenKind::kName) {
    ExpressionPtr attribute = Make(ExpressionKind::kAttribute, token.position);
    attribute->name = tokens_.Take().text;
    attribute->children.push_back(std::move(node));
    return Finish(std::move(attribute));
  }
  if (member.kind != TokenKind::kInteger) return Unexpected("a name or number");
  ExpressionPtr item = Make(ExpressionKind::kItem, token.position);
  ASSIGN_OR_RETURN(ExpressionPtr key, ParseConstant());
  item->children.push_back(std::move(node));
  item->children.push_back(std::move(key));
  return Finish(std::move(item));
}

// Behind "[": an expression, a slice, or a tuple of them; up to and with "]".
ExpressionParser::Result ExpressionParser::ParseSubscripted() {
  std::vector<ExpressionPtr> keys;
  const Position position = tokens_.current().position;
  bool is_tuple = false;
  while (!tokens_.AtOperator("]")) {
    if (!keys.empty()) {
      if (!tokens_.SkipOperator(",")) return Unexpected("']'");
      is_tuple = true;
      if (tokens_.AtOperator("]")) break;
    }
    ExpressionPtr slice = Make(ExpressionKind::kSlice, tokens_.current().position);
    bool is_slice = false;
    for (int part = 0; part < 3; ++part) {
      ExpressionPtr bound;
      if (!tokens_.AtOperator(":") && !tokens_.AtOperator("]") && !tokens_.AtOperator(",")) {
        ASSIGN_OR_RETURN(bound, ParseExpression());
      }
      slice->children.push_back(std::move(bound));
      if (part == 2 || !tokens_.SkipOperator(":")) break;
      is_slice = true;
    }
    if (!is_slice) {
      if (slice->children[0] == nullptr) return Unexpected("an expression");
      keys.push_back(std::move(slice->children[0]));
      continue;
    }
    slice->children.resize(3);
    ASSIGN_OR_RETURN(slice, Finish(std::move(slice)));
    keys.push_back(std::move(slice));
  }
  if (keys.empty()) return Unexpected("an expression");
  tokens_.Take();
  if (!is_tuple) return std::move(keys.front());
  ExpressionPtr node = Make(ExpressionKind::kTuple, position);
  node->children = std::move(keys);
  return Finish(std::move(node));
}

absl::StatusOr<std::unique_ptr<CallArguments>> ExpressionParser::ParseCallArguments() {
  auto arguments = std::make_unique<CallArguments>();
  if (!tokens_.SkipOperator("(")) return Unexpected("'('");
  bool first = true;
  while (!tokens_.AtOperator(")")) {
    if (!first) {
      if (!tokens_.SkipOperator(",")) return Unexpected("',' or ')'");
      if (tokens_.AtOperator(")")) break;
    }
    first = false;
    const Position position = tokens_.current().position;
    const bool named = tokens_.current().kind == TokenKind::kName &&
                       TokenStream::Is(tokens_.ahead(), TokenKind::kOperator, "=");
    const absl::Status disorder = ErrorAt(position, "invalid order of arguments in a call");
    if (tokens_.SkipOperator("**")) {
      if (arguments->double_star != nullptr) return disorder;
      ASSIGN_OR_RETURN(arguments->double_star, ParseExpression());
    } else if (tokens_.SkipOperator("*")) {
      if (arguments->star != nullptr || arguments->double_star != nullptr) return disorder;
      ASSIGN_OR_RETURN(arguments->star, ParseExpression());
    } else if (named) {
      if (arguments->double_star != nullptr) return disorder;
      std::string name = tokens_.Take().text;
      tokens_.Take();
      ASSIGN_OR_RETURN(ExpressionPtr value, ParseExpression());
      arguments->named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!arguments->named.empty() || arguments->star != nullptr ||
          arguments->double_star != nullptr) {
        return disorder;
      }
      ASSIGN_OR_RETURN(ExpressionPtr value, ParseExpression());
      arguments->positional.push_back(std::move(value));
    }
  }
  tokens_.Take();
  return arguments;
}

ExpressionParser::Result ExpressionParser::ParseCall(ExpressionPtr node) {
  ExpressionPtr call = Make(ExpressionKind::kCall, tokens_.current().position);
  ASSIGN_OR_RETURN(call->call, ParseCallArguments());
  call->children.push_back(std::move(node));
  return Finish(std::move(call));
}

absl::StatusOr<std::string> ExpressionParser::ParseDottedName() {
  if (tokens_.current().kind != TokenKind::kName) return Unexpected("a name");
  std::string name = tokens_.Take().text;
  while (tokens_.AtOperator(".") && tokens_.ahead().kind == TokenKind::kName) {
    tokens_.Take();
    name += '.';
    name += tokens_.Take().text;
  }
  return name;
}

ExpressionParser::Result ExpressionParser::ParseFilter(ExpressionPtr node) {
  ExpressionPtr filter = Make(ExpressionKind::kFilter, tokens_.current().position);
  ASSIGN_OR_RETURN(filter->name, ParseDottedName());
  if (soft_depth == 0 && FindFilter(filter->name) == nullptr) {
    return ErrorAt(filter->position, absl::StrCat("No filter named '", filter->name, "'."));
  }
  filter->call = std::make_unique<CallArguments>();
  if (tokens_.AtOperator("(")) {
    ASSIGN_OR_RETURN(filter->call, ParseCallArguments());
  }
  filter->children.push_back(std::move(node));
  return Finish(std::move(filter));
}

ExpressionParser::Result ExpressionParser::ParseTest(ExpressionPtr node) {
  const Position position = tokens_.Take().position;
  const bool negated = tokens_.SkipName("not");
  ExpressionPtr test = Make(ExpressionKind::kTest, position);
  ASSIGN_OR_RETURN(test->name, ParseDottedName());
  if (soft_depth == 0 && FindTest(test->name) == nullptr) {
    return ErrorAt(position, absl::StrCat("No test named '", test->name, "'."));
  }
  test->call = std::make_unique<CallArguments>();
  const Token& token = tokens_.current();
  const bool keyword = tokens_.AtName("else") || tokens_.AtName("or") || tokens_.AtName("and");
  if (tokens_.AtOperator("(")) {
    ASSIGN_OR_RETURN(test->call, ParseCallArguments());
  } else if ((token.kind == TokenKind::kName && !keyword) || token.kind == TokenKind::kString ||
             token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat ||
             tokens_.AtOperator("[") || tokens_.AtOperator("{")) {
    if (tokens_.AtName("is"))
      return ErrorAt(token.position, "You cannot chain multiple tests with is");
    // `x is defined if y` reads on; every other name is the test's argument, as in Jinja.
    ASSIGN_OR_RETURN(ExpressionPtr argument, ParsePrimary());
    ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    test->call->positional.push_back(std::move(argument));
  }
  test->children.push_back(std::move(node));
  ASSIGN_OR_RETURN(test, Finish(std::move(test)));
  if (!negated) return test;
  ExpressionPtr negation = Make(ExpressionKind::kNot, position);
  negation->children.push_back(std::move(test));
  return Finish(std::move(negation));
}

absl::StatusOr<Target> ExpressionParser::ParseSingleTarget(bool with_namespace) {
  if (tokens_.current().kind != TokenKind::kName) return Unexpected("a name to assign to");
  const Token name = tokens_.Take();
  Target target;
  target.position = name.position;
  target.symbol = tokens_.Intern(name.text);
  for (const std::string_view reserved : {"true", "false", "none", "True", "False", "None"}) {
    if (name.text == reserved)
      return ErrorAt(name.position, absl::StrCat("can't assign to '", name.text, "'"));
  }
  if (with_namespace && tokens_.AtOperator(".")) {
    tokens_.Take();
    if (tokens_.current().kind != TokenKind::kName) return Unexpected("a name");
    target.kind = Target::Kind::kNamespace;
    target.member = tokens_.Take().text;
  }
  return target;
}

absl::StatusOr<Target> ExpressionParser::ParseTarget(bool with_namespace,
                                                     std::string_view end_name) {
  Target tuple;
  tuple.kind = Target::Kind::kTuple;
  tuple.position = tokens_.current().position;
  bool is_tuple = false;
  while (true) {
    if (tokens_.SkipOperator("(")) {
      if (++depth_ > kMaxSyntaxDepth) return ErrorAt(tuple.position, "nested too deeply");
      ASSIGN_OR_RETURN(Target inner, ParseTarget(false));
      --depth_;
      if (!tokens_.SkipOperator(")")) return Unexpected("')'");
      tuple.parts.push_back(std::move(inner));
    } else {
      ASSIGN_OR_RETURN(Target single, ParseSingleTarget(with_namespace && tuple.parts.empty()));
      tuple.parts.push_back(std::move(single));
    }
    if (!tokens_.SkipOperator(",")) break;
    is_tuple = true;
    if (AtTupleEnd(end_name) || tokens_.AtOperator("=")) break;
  }
  if (is_tuple) return tuple;
  Target only = std::move(tuple.parts.front());
  return only;
}

}  // namespace penstock::jinja
