#include "text/chat_template.h"

#include <utility>

#include "base/status_macros.h"
#include "text/jinja/template.h"

namespace penstock {

ChatTemplate::ChatTemplate(std::unique_ptr<jinja::Template> compiled, std::string_view source)
    : template_(std::move(compiled)), source_(source) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view source) {
  ASSIGN_OR_RETURN(jinja::Template compiled, jinja::Template::Parse(source));
  return ChatTemplate(std::make_unique<jinja::Template>(std::move(compiled)), source);
}

absl::StatusOr<std::string> ChatTemplate::Render(const nlohmann::ordered_json& context,
                                                 absl::Time now) const {
  ASSIGN_OR_RETURN(const jinja::Dict values, jinja::ToDict(context));
  return template_->Render(values, now);
}

}  // namespace penstock
