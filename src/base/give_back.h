// Emptying what has grown large: `= {}` keeps the room of a vector or a string.
// Owns nothing. Must not know what is inside.
// Threads: as the container.
#pragma once

#include <utility>

namespace penstock {

/// Leaves a container empty, without memory of its own.
template <class Container>
void GiveBack(Container& container) {
  Container none;
  std::swap(container, none);
}

}  // namespace penstock
