#include "server/build_info.h"

namespace penstock {

std::string BuildName() { return PENSTOCK_VERSION " " PENSTOCK_COMMIT; }

}  // namespace penstock
