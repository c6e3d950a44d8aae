#include "text/jinja/filters.h"

namespace penstock::jinja {

FilterFunction FindFilter(std::string_view name) {
  for (const FilterTable* table :
       {&TextFilters(), &NumberFilters(), &ListFilters(), &SelectFilters()}) {
    const auto it = table->find(name);
    if (it != table->end()) return it->second;
  }
  return nullptr;
}

}  // namespace penstock::jinja
