#include "server/build_info.h"

#include "absl/strings/str_cat.h"

namespace penstock {

std::string BuildName() { return absl::StrCat(PENSTOCK_VERSION, " ", BuildCommit()); }

}  // namespace penstock
