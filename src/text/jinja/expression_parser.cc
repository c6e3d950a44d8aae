#include "text/jinja/expression_parser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/jinja/filters.h"
#include "text/jinja/parser.h"

namespace penstock::jinja {
namespace {

bool IsOneOf(const Token& token, std::initializer_list<std::string_view> operators) {
  return token.kind == TokenKind::kOperator &&
         std::find(operators.begin(), operators.end(), token.text) != operators.end();
}

}  // namespace

absl::Status ExpressionParser::Unexpected(std::string_view expected) const {
  const Token& token = tokens_.current();
  std::string found;
  switch (token.kind) {
    case TokenKind::kEnd:
      found = "the end of the template";
      break;
    case TokenKind::kVariableEnd:
      found = "the end of the expression";
      break;
    case TokenKind::kBlockEnd:
      found = "the end of the tag";
      break;
    case TokenKind::kString:
      found = "a string";
      break;
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      found = "a number";
      break;
    default:
      found = absl::StrCat("'", token.text, "'");
  }
  return ErrorAt(token.position, absl::StrCat("expected ", ToAbsl(expected), ", found ", found));
}

ExpressionPtr ExpressionParser::Make(ExpressionKind kind, Position position) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->position = position;
  return node;
}

// Every node passes here once its children are there, so that no tree grows too tall.
ExpressionParser::Result ExpressionParser::Finish(ExpressionPtr node) const {
  int height = 0;
  const auto look = [&](const ExpressionPtr& child) {
    if (child != nullptr) height = std::max(height, child->height);
  };
  for (const ExpressionPtr& child : node->children) look(child);
  if (node->call != nullptr) {
    for (const ExpressionPtr& argument : node->call->positional) look(argument);
    for (const auto& [name, argument] : node->call->named) look(argument);
    look(node->call->star);
    look(node->call->double_star);
  }
  node->height = height + 1;
  if (node->height > kMaxSyntaxDepth)
    return ErrorAt(node->position, "the expression is nested too deeply");
  return node;
}

ExpressionParser::Result ExpressionParser::ParseExpression(bool with_condition) {
  if (++depth_ > kMaxSyntaxDepth) {
    return ErrorAt(tokens_.current().position, "the expression is nested too deeply");
  }
  Result result = with_condition ? ParseCondition() : ParseOr();
  --depth_;
  return result;
}

ExpressionParser::Result ExpressionParser::ParseCondition() {
  ++soft_depth;  // its parts are evaluated only where they are needed
  ASSIGN_OR_RETURN(ExpressionPtr node, ParseOr());
  while (tokens_.AtName("if")) {
    ExpressionPtr condition = Make(ExpressionKind::kCondition, tokens_.Take().position);
    ASSIGN_OR_RETURN(ExpressionPtr test, ParseOr());
    ExpressionPtr otherwise;
    if (tokens_.SkipName("else")) {
      ASSIGN_OR_RETURN(otherwise, ParseExpression());
    }
    condition->children.push_back(std::move(node));
    condition->children.push_back(std::move(test));
    condition->children.push_back(std::move(otherwise));
    ASSIGN_OR_RETURN(node, Finish(std::move(condition)));
  }
  --soft_depth;
  return node;
}

ExpressionParser::Result ExpressionParser::ParseOr() {
  ASSIGN_OR_RETURN(ExpressionPtr left, ParseAnd());
  while (tokens_.AtName("or")) {
    ExpressionPtr node = Make(ExpressionKind::kOr, tokens_.Take().position);
    ASSIGN_OR_RETURN(ExpressionPtr right, ParseAnd());
    node->children.push_back(std::move(left));
    node->children.push_back(std::move(right));
    ASSIGN_OR_RETURN(left, Finish(std::move(node)));
  }
  return left;
}

ExpressionParser::Result ExpressionParser::ParseAnd() {
  ASSIGN_OR_RETURN(ExpressionPtr left, ParseNot());
  while (tokens_.AtName("and")) {
    ExpressionPtr node = Make(ExpressionKind::kAnd, tokens_.Take().position);
    ASSIGN_OR_RETURN(ExpressionPtr right, ParseNot());
    node->children.push_back(std::move(left));
    node->children.push_back(std::move(right));
    ASSIGN_OR_RETURN(left, Finish(std::move(node)));
  }
  return left;
}

ExpressionParser::Result ExpressionParser::ParseNot() {
  std::vector<Position> nots;
  while (tokens_.AtName("not")) nots.push_back(tokens_.Take().position);
  ASSIGN_OR_RETURN(ExpressionPtr node, ParseCompare());
  for (auto it = nots.rbegin(); it != nots.rend(); ++it) {
    ExpressionPtr negation = Make(ExpressionKind::kNot, *it);
    negation->children.push_back(std::move(node));
    ASSIGN_OR_RETURN(node, Finish(std::move(negation)));
  }
  return node;
}

ExpressionParser::Result ExpressionParser::ParseCompare() {
  static constexpr std::pair<std::string_view, CompareOperator> kOperators[] = {
      {"==", CompareOperator::kEq}, {"!=", CompareOperator::kNe}, {"<", CompareOperator::kLt},
      {"<=", CompareOperator::kLe}, {">", CompareOperator::kGt},  {">=", CompareOperator::kGe}};
  ASSIGN_OR_RETURN(ExpressionPtr first, ParseSum());
  ExpressionPtr node;
  while (true) {
    std::optional<CompareOperator> found;
    for (const auto& [text, op] : kOperators) {
      if (tokens_.AtOperator(text)) found = op;
    }
    if (tokens_.AtName("in")) found = CompareOperator::kIn;
    const bool not_in =
        tokens_.AtName("not") && TokenStream::Is(tokens_.ahead(), TokenKind::kName, "in");
    if (not_in) {
      tokens_.Take();
      found = CompareOperator::kNotIn;
    }
    if (!found) break;
    const Position position = tokens_.Take().position;
    if (node == nullptr) {
      node = Make(ExpressionKind::kCompare, position);
      node->children.push_back(std::move(first));
    }
    node->operators.push_back(*found);
    ASSIGN_OR_RETURN(ExpressionPtr operand, ParseSum());
    node->children.push_back(std::move(operand));
  }
  return node == nullptr ? Result(std::move(first)) : Finish(std::move(node));
}

ExpressionParser::Result ExpressionParser::BinaryChain(
    std::initializer_list<std::string_view> operators, Result (ExpressionParser::*operand)()) {
  ASSIGN_OR_RETURN(ExpressionPtr left, (this->*operand)());
  while (IsOneOf(tokens_.current(), operators)) {
    const Token op = tokens_.Take();
    ExpressionPtr node = Make(ExpressionKind::kBinary, op.position);
    node->name = op.text;
    ASSIGN_OR_RETURN(ExpressionPtr right, (this->*operand)());
    node->children.push_back(std::move(left));
    node->children.push_back(std::move(right));
    ASSIGN_OR_RETURN(left, Finish(std::move(node)));
  }
  return left;
}

ExpressionParser::Result ExpressionParser::ParseSum() {
  return BinaryChain({"+", "-"}, &ExpressionParser::ParseConcat);
}

ExpressionParser::Result ExpressionParser::ParseConcat() {
  ASSIGN_OR_RETURN(ExpressionPtr first, ParseProduct());
  if (!tokens_.AtOperator("~")) return first;
  ExpressionPtr node = Make(ExpressionKind::kConcat, tokens_.current().position);
  node->children.push_back(std::move(first));
  while (tokens_.SkipOperator("~")) {
    ASSIGN_OR_RETURN(ExpressionPtr part, ParseProduct());
    node->children.push_back(std::move(part));
  }
  return Finish(std::move(node));
}

ExpressionParser::Result ExpressionParser::ParseProduct() {
  return BinaryChain({"*", "/", "//", "%"}, &ExpressionParser::ParsePower);
}

ExpressionParser::Result ExpressionParser::ParsePower() {
  ASSIGN_OR_RETURN(ExpressionPtr left, ParseUnary(true));
  while (tokens_.AtOperator("**")) {
    ExpressionPtr node = Make(ExpressionKind::kBinary, tokens_.Take().position);
    node->name = "**";
    ASSIGN_OR_RETURN(ExpressionPtr right, ParseUnary(true));
    node->children.push_back(std::move(left));
    node->children.push_back(std::move(right));
    ASSIGN_OR_RETURN(left, Finish(std::move(node)));
  }
  return left;
}

ExpressionParser::Result ExpressionParser::ParseUnary(bool with_filter) {
  std::vector<std::pair<ExpressionKind, Position>> signs;
  while (tokens_.AtOperator("-") || tokens_.AtOperator("+")) {
    const Token sign = tokens_.Take();
    signs.emplace_back(sign.text == "-" ? ExpressionKind::kNegate : ExpressionKind::kPlus,
                       sign.position);
  }
  ASSIGN_OR_RETURN(ExpressionPtr node, ParsePrimary());
  if (signs.empty()) {
    ASSIGN_OR_RETURN(node, ParsePostfix(std::move(node)));
    return with_filter ? ParseFilters(std::move(node)) : Result(std::move(node));
  }
  ASSIGN_OR_RETURN(node, ParsePostfix(std::move(node)));
  for (auto it = signs.rbegin(); it != signs.rend(); ++it) {
    ExpressionPtr sign = Make(it->first, it->second);
    sign->children.push_back(std::move(node));
    ASSIGN_OR_RETURN(node, Finish(std::move(sign)));
  }
  ASSIGN_OR_RETURN(node, ParsePostfix(std::move(node)));
  return with_filter ? ParseFilters(std::move(node)) : Result(std::move(node));
}

ExpressionParser::Result ExpressionParser::ParsePrimary() {
  const Token& token = tokens_.current();
  switch (token.kind) {
    case TokenKind::kName:
    case TokenKind::kString:
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return ParseConstant();
    case TokenKind::kOperator:
      if (token.text == "(") return ParseParenthesized();
      if (token.text == "[") return ParseListDisplay();
      if (token.text == "{") return ParseDictDisplay();
      break;
    default:
      break;
  }
  return Unexpected("an expression");
}

ExpressionParser::Result ExpressionParser::ParseConstant() {
  Token token = tokens_.Take();
  ExpressionPtr node = Make(ExpressionKind::kConstant, token.position);
  if (token.kind == TokenKind::kInteger) {
    node->value = Value::Int(token.integer);
  } else if (token.kind == TokenKind::kFloat) {
    node->value = Value::Float(token.number);
  } else if (token.kind == TokenKind::kString) {
    while (tokens_.current().kind == TokenKind::kString) token.text += tokens_.Take().text;
    node->value = Value::String(std::move(token.text));
  } else if (token.text == "true" || token.text == "True") {
    node->value = Value::Bool(true);
  } else if (token.text == "false" || token.text == "False") {
    node->value = Value::Bool(false);
  } else if (token.text != "none" && token.text != "None") {
    node->kind = ExpressionKind::kName;
    node->symbol = tokens_.Intern(token.text);
    node->name = std::move(token.text);
  }
  return node;
}

bool ExpressionParser::AtTupleEnd(std::string_view end_name) const {
  const Token& token = tokens_.current();
  if (token.kind == TokenKind::kVariableEnd || token.kind == TokenKind::kBlockEnd ||
      token.kind == TokenKind::kEnd) {
    return true;
  }
  return tokens_.AtOperator(")") || (!end_name.empty() && tokens_.AtName(end_name));
}

ExpressionParser::Result ExpressionParser::ParseTuple(bool with_condition,
                                                      std::string_view end_name) {
  const Position position = tokens_.current().position;
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) {
      if (!tokens_.SkipOperator(",")) break;
      is_tuple = true;
    }
    if (AtTupleEnd(end_name)) break;
    ASSIGN_OR_RETURN(ExpressionPtr item, ParseExpression(with_condition));
    items.push_back(std::move(item));
  }
  if (items.empty()) return Unexpected("an expression");
  if (!is_tuple) return std::move(items.front());
  ExpressionPtr node = Make(ExpressionKind::kTuple, position);
  node->children = std::move(items);
  return Finish(std::move(node));
}

ExpressionParser::Result ExpressionParser::ParseParenthesized() {
  const Position position = tokens_.Take().position;
  if (tokens_.SkipOperator(")")) return Make(ExpressionKind::kTuple, position);
  ASSIGN_OR_RETURN(ExpressionPtr node, ParseTuple(true));
  if (!tokens_.SkipOperator(")")) return Unexpected("')'");
  return node;
}

ExpressionParser::Result ExpressionParser::ParseListDisplay() {
  ExpressionPtr node = Make(ExpressionKind::kList, tokens_.Take().position);
  while (!tokens_.AtOperator("]")) {
    if (!node->children.empty() && !tokens_.SkipOperator(",")) return Unexpected("',' or ']'");
    if (tokens_.AtOperator("]")) break;
    ASSIGN_OR_RETURN(ExpressionPtr item, ParseExpression());
    node->children.push_back(std::move(item));
  }
  tokens_.Take();
  return Finish(std::move(node));
}

ExpressionParser::Result ExpressionParser::ParseDictDisplay() {
  ExpressionPtr node = Make(ExpressionKind::kDict, tokens_.Take().position);
  while (!tokens_.AtOperator("}")) {
    if (!node->children.empty() && !tokens_.SkipOperator(",")) return Unexpected("',' or '}'");
    if (tokens_.AtOperator("}")) break;
    ASSIGN_OR_RETURN(ExpressionPtr key, ParseExpression());
    if (!tokens_.SkipOperator(":")) return Unexpected("':'");
    ASSIGN_OR_RETURN(ExpressionPtr value, ParseExpression());
    node->children.push_back(std::move(key));
    node->children.push_back(std::move(value));
  }
  tokens_.Take();
  return Finish(std::move(node));
}

}  // namespace penstock::jinja
