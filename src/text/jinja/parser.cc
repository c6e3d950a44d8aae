#include "text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/jinja/expression_parser.h"
#include "text/jinja/token_stream.h"

namespace penstock::jinja {
namespace {

using StatementPtr = std::unique_ptr<Statement>;

class TemplateParser {
 public:
  explicit TemplateParser(std::vector<Token> tokens)
      : tokens_(std::move(tokens)), expressions_(&tokens_) {}

  absl::StatusOr<Program> Run() {
    Program program;
    ASSIGN_OR_RETURN(program.body, ParseBody({}));
    program.names = tokens_.TakeNames();
    return program;
  }

 private:
  // Which of the special names a macro's body uses.
  struct SpecialNames {
    bool varargs = false;
    bool kwargs = false;
    bool caller = false;
  };

  static StatementPtr Make(StatementKind kind, Position position) {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->position = position;
    return statement;
  }

  absl::Status ExpectBlockEnd() {
    if (tokens_.current().kind != TokenKind::kBlockEnd)
      return expressions_.Unexpected("the end of the tag");
    tokens_.Take();
    return absl::OkStatus();
  }

  // Statements up to a tag of one of `ends`, whose name becomes the current token; none: up to the
  // end.
  absl::StatusOr<Body> ParseBody(std::initializer_list<std::string_view> ends) {
    if (++depth_ > kMaxSyntaxDepth)
      return ErrorAt(tokens_.current().position, "blocks are nested too deeply");
    Body body;
    while (true) {
      const Token& token = tokens_.current();
      if (token.kind == TokenKind::kEnd) {
        if (ends.size() == 0) break;
        return ErrorAt(token.position, absl::StrCat("the template ends where '",
                                                    ToAbsl(*(ends.end() - 1)), "' was expected"));
      }
      if (token.kind == TokenKind::kData) {
        StatementPtr data = Make(StatementKind::kData, token.position);
        data->text = tokens_.Take().text;
        body.push_back(std::move(data));
      } else if (token.kind == TokenKind::kVariableBegin) {
        ASSIGN_OR_RETURN(StatementPtr print, ParsePrint());
        body.push_back(std::move(print));
      } else {
        tokens_.Take();  // the start of a block tag
        const Token& name = tokens_.current();
        if (name.kind == TokenKind::kName &&
            std::find(ends.begin(), ends.end(), name.text) != ends.end())
          break;
        ASSIGN_OR_RETURN(StatementPtr statement, ParseStatement());
        if (statement != nullptr) body.push_back(std::move(statement));
      }
    }
    --depth_;
    return body;
  }

  absl::StatusOr<StatementPtr> ParsePrint() {
    StatementPtr print = Make(StatementKind::kPrint, tokens_.Take().position);
    ASSIGN_OR_RETURN(print->expression, expressions_.ParseTuple(true));
    if (tokens_.current().kind != TokenKind::kVariableEnd) {
      return expressions_.Unexpected("the end of the expression");
    }
    tokens_.Take();
    return print;
  }

  absl::StatusOr<StatementPtr> ParseStatement() {
    const Token tag = tokens_.current();
    if (tag.kind != TokenKind::kName) return expressions_.Unexpected("the name of a tag");
    tokens_.Take();
    const Position at = tag.position;
    if (tag.text == "if") return ParseIf(at);
    if (tag.text == "for") return ParseFor(at);
    if (tag.text == "set") return ParseSet(at);
    if (tag.text == "macro") return ParseMacro(at);
    if (tag.text == "call") return ParseCallBlock(at);
    if (tag.text == "filter") return ParseFilterBlock(at);
    if (tag.text == "with") return ParseWith(at);
    if (tag.text == "generation") return ParseScope(at, "endgeneration");
    if (tag.text == "block") return ParseBlock(at);
    if (tag.text == "autoescape") return ParseAutoescape(at);
    if (tag.text == "break" || tag.text == "continue")
      return ParseLoopControl(at, tag.text == "break");
    for (const std::string_view other : {"include", "import", "from", "extends"}) {
      if (tag.text == other) {
        return ErrorAt(at, absl::StrCat("'", tag.text,
                                        "' needs other templates, which a chat template has not"));
      }
    }
    return ErrorAt(at, absl::StrCat("Encountered unknown tag '", tag.text, "'."));
  }

  absl::StatusOr<StatementPtr> ParseIf(Position at) {
    StatementPtr node = Make(StatementKind::kIf, at);
    while (true) {
      ASSIGN_OR_RETURN(ExpressionPtr condition, expressions_.ParseTuple(false));
      RETURN_IF_ERROR(ExpectBlockEnd());
      ++expressions_.soft_depth;
      ASSIGN_OR_RETURN(Body body, ParseBody({"elif", "else", "endif"}));
      --expressions_.soft_depth;
      node->branches.emplace_back(std::move(condition), std::move(body));
      const std::string end = tokens_.Take().text;
      if (end == "elif") continue;
      RETURN_IF_ERROR(ExpectBlockEnd());
      if (end == "endif") return node;
      ++expressions_.soft_depth;
      ASSIGN_OR_RETURN(node->otherwise, ParseBody({"endif"}));
      --expressions_.soft_depth;
      tokens_.Take();
      RETURN_IF_ERROR(ExpectBlockEnd());
      return node;
    }
  }

  absl::StatusOr<StatementPtr> ParseFor(Position at) {
    StatementPtr node = Make(StatementKind::kFor, at);
    ASSIGN_OR_RETURN(node->target, expressions_.ParseTarget(false, "in"));
    if (!tokens_.SkipName("in")) return expressions_.Unexpected("'in'");
    ASSIGN_OR_RETURN(node->expression, expressions_.ParseTuple(false, "recursive"));
    if (tokens_.SkipName("if")) {
      ASSIGN_OR_RETURN(node->condition, expressions_.ParseExpression());
    }
    node->recursive = tokens_.SkipName("recursive");
    RETURN_IF_ERROR(ExpectBlockEnd());
    ++loops_;
    ASSIGN_OR_RETURN(node->body, ParseBody({"endfor", "else"}));
    --loops_;
    if (tokens_.Take().text == "else") {
      RETURN_IF_ERROR(ExpectBlockEnd());
      ASSIGN_OR_RETURN(node->otherwise, ParseBody({"endfor"}));
      tokens_.Take();
    }
    RETURN_IF_ERROR(ExpectBlockEnd());
    return node;
  }

  absl::StatusOr<StatementPtr> ParseSet(Position at) {
    StatementPtr node = Make(StatementKind::kSet, at);
    ASSIGN_OR_RETURN(node->target, expressions_.ParseTarget(true));
    if (tokens_.SkipOperator("=")) {
      ASSIGN_OR_RETURN(node->expression, expressions_.ParseTuple(true));
      RETURN_IF_ERROR(ExpectBlockEnd());
      return node;
    }
    node->kind = StatementKind::kSetBlock;
    if (tokens_.SkipOperator("|")) {
      ASSIGN_OR_RETURN(node->expression, expressions_.ParseFilters(nullptr));
    }
    RETURN_IF_ERROR(ExpectBlockEnd());
    ASSIGN_OR_RETURN(node->body, ParseBody({"endset"}));
    tokens_.Take();
    RETURN_IF_ERROR(ExpectBlockEnd());
    return node;
  }

  // "(a, b=1)"
  absl::Status ParseSignature(MacroSignature* signature) {
    if (!tokens_.SkipOperator("(")) return expressions_.Unexpected("'('");
    while (!tokens_.AtOperator(")")) {
      if (!signature->parameters.empty() && !tokens_.SkipOperator(","))
        return expressions_.Unexpected("','");
      if (tokens_.current().kind != TokenKind::kName) return expressions_.Unexpected("a parameter");
      const Token parameter = tokens_.Take();
      signature->parameters.push_back(tokens_.Intern(parameter.text));
      if (tokens_.SkipOperator("=")) {
        ASSIGN_OR_RETURN(ExpressionPtr value, expressions_.ParseExpression());
        signature->defaults.push_back(std::move(value));
      } else if (!signature->defaults.empty()) {
        return ErrorAt(parameter.position, "non-default argument follows default argument");
      }
    }
    tokens_.Take();
    return absl::OkStatus();
  }

  absl::StatusOr<Body> ParseMacroBody(std::string_view end, MacroSignature* signature) {
    const Symbol names[] = {tokens_.Intern("varargs"), tokens_.Intern("kwargs"),
                            tokens_.Intern("caller")};
    RETURN_IF_ERROR(ExpectBlockEnd());
    const int loops = std::exchange(loops_, 0);  // a loop outside cannot be left from within
    ASSIGN_OR_RETURN(Body body, ParseBody({end}));
    loops_ = loops;
    tokens_.Take();
    RETURN_IF_ERROR(ExpectBlockEnd());
    signature->uses_varargs = UsesName(body, names[0]);
    signature->uses_kwargs = UsesName(body, names[1]);
    signature->uses_caller = UsesName(body, names[2]);
    return body;
  }

  absl::StatusOr<StatementPtr> ParseMacro(Position at) {
    StatementPtr node = Make(StatementKind::kMacro, at);
    if (tokens_.current().kind != TokenKind::kName)
      return expressions_.Unexpected("the macro's name");
    node->signature.name = tokens_.Take().text;
    node->symbol = tokens_.Intern(node->signature.name);
    RETURN_IF_ERROR(ParseSignature(&node->signature));
    ASSIGN_OR_RETURN(node->body, ParseMacroBody("endmacro", &node->signature));
    return node;
  }

  absl::StatusOr<StatementPtr> ParseCallBlock(Position at) {
    StatementPtr node = Make(StatementKind::kCallBlock, at);
    node->signature.name = "caller";
    if (tokens_.AtOperator("(")) RETURN_IF_ERROR(ParseSignature(&node->signature));
    ASSIGN_OR_RETURN(node->expression, expressions_.ParseExpression());
    if (node->expression->kind != ExpressionKind::kCall) return ErrorAt(at, "expected call");
    ASSIGN_OR_RETURN(node->body, ParseMacroBody("endcall", &node->signature));
    return node;
  }

  absl::StatusOr<StatementPtr> ParseFilterBlock(Position at) {
    StatementPtr node = Make(StatementKind::kFilterBlock, at);
    ASSIGN_OR_RETURN(node->expression, expressions_.ParseFilters(nullptr));
    RETURN_IF_ERROR(ExpectBlockEnd());
    ASSIGN_OR_RETURN(node->body, ParseBody({"endfilter"}));
    tokens_.Take();
    RETURN_IF_ERROR(ExpectBlockEnd());
    return node;
  }

  absl::StatusOr<StatementPtr> ParseWith(Position at) {
    StatementPtr node = Make(StatementKind::kWith, at);
    while (tokens_.current().kind != TokenKind::kBlockEnd) {
      if (!node->assignments.empty() && !tokens_.SkipOperator(","))
        return expressions_.Unexpected("','");
      ASSIGN_OR_RETURN(Target target, expressions_.ParseTarget(false));
      if (!tokens_.SkipOperator("=")) return expressions_.Unexpected("'='");
      ASSIGN_OR_RETURN(ExpressionPtr value, expressions_.ParseExpression());
      node->assignments.emplace_back(std::move(target), std::move(value));
    }
    tokens_.Take();
    ASSIGN_OR_RETURN(node->body, ParseBody({"endwith"}));
    tokens_.Take();
    RETURN_IF_ERROR(ExpectBlockEnd());
    return node;
  }

  absl::StatusOr<StatementPtr> ParseScope(Position at, std::string_view end) {
    StatementPtr node = Make(StatementKind::kScope, at);
    RETURN_IF_ERROR(ExpectBlockEnd());
    const int loops = std::exchange(loops_, 0);
    ASSIGN_OR_RETURN(node->body, ParseBody({end}));
    loops_ = loops;
    tokens_.Take();
    RETURN_IF_ERROR(ExpectBlockEnd());
    return node;
  }

  // Without inheritance a block is its body.
  absl::StatusOr<StatementPtr> ParseBlock(Position at) {
    if (tokens_.current().kind != TokenKind::kName)
      return expressions_.Unexpected("the block's name");
    const Token name = tokens_.Take();
    if (!blocks_.insert(name.text).second) {
      return ErrorAt(name.position, absl::StrCat("block '", name.text, "' defined twice"));
    }
    while (tokens_.SkipName("scoped") || tokens_.SkipName("required")) {
    }
    StatementPtr node = Make(StatementKind::kScope, at);
    RETURN_IF_ERROR(ExpectBlockEnd());
    ASSIGN_OR_RETURN(node->body, ParseBody({"endblock"}));
    tokens_.Take();
    tokens_.SkipName(name.text);
    RETURN_IF_ERROR(ExpectBlockEnd());
    return node;
  }

  absl::StatusOr<StatementPtr> ParseAutoescape(Position at) {
    ASSIGN_OR_RETURN(const ExpressionPtr value, expressions_.ParseExpression());
    if (value->kind != ExpressionKind::kConstant || value->value.Truthy()) {
      return ErrorAt(at, "autoescape is not supported");
    }
    return ParseScope(at, "endautoescape");
  }

  absl::StatusOr<StatementPtr> ParseLoopControl(Position at, bool is_break) {
    if (loops_ == 0)
      return ErrorAt(at, absl::StrCat("'", is_break ? "break" : "continue", "' outside loop"));
    RETURN_IF_ERROR(ExpectBlockEnd());
    return Make(is_break ? StatementKind::kBreak : StatementKind::kContinue, at);
  }

  static bool UsesName(const ExpressionPtr& node, Symbol name) {
    if (node == nullptr) return false;
    if (node->kind == ExpressionKind::kName && node->symbol == name) return true;
    const auto uses = [name](const ExpressionPtr& child) { return UsesName(child, name); };
    if (std::any_of(node->children.begin(), node->children.end(), uses)) return true;
    if (node->call == nullptr) return false;
    const CallArguments& call = *node->call;
    return std::any_of(call.positional.begin(), call.positional.end(), uses) || uses(call.star) ||
           uses(call.double_star) ||
           std::any_of(call.named.begin(), call.named.end(),
                       [&](const auto& n) { return uses(n.second); });
  }

  // Macros within count too, as they do in Jinja.
  static bool UsesName(const Body& body, Symbol name) {
    return std::any_of(body.begin(), body.end(), [name](const StatementPtr& s) {
      if (UsesName(s->expression, name) || UsesName(s->condition, name)) return true;
      for (const auto& [condition, branch] : s->branches) {
        if (UsesName(condition, name) || UsesName(branch, name)) return true;
      }
      for (const auto& [target, value] : s->assignments) {
        if (UsesName(value, name)) return true;
      }
      return UsesName(s->body, name) || UsesName(s->otherwise, name);
    });
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  absl::flat_hash_set<std::string> blocks_;
  int depth_ = 0;
  int loops_ = 0;  // loops around, within the innermost macro
};

}  // namespace

absl::StatusOr<Program> ParseTemplate(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return ErrorAt({}, absl::StrCat("the template has ", source.size(), " bytes, at most ",
                                    kMaxSourceBytes, " are read"));
  }
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return TemplateParser(std::move(tokens)).Run();
}

}  // namespace penstock::jinja
