// A source whose linear layers are rounded to integers as they load.
// Owns the source that it reads from. Must not know what a layer is for.
// Threads: confined to the loading thread.
#pragma once

#include <memory>

#include "model/rounded_rows.h"
#include "model/tensor_source.h"

namespace penstock {

/// Plain layers by `rule`, the embedding and the head at 8 bits whatever it is; layers that the
/// source has as codes, and those with fewer than 64 rows or columns, stay as they are. With
/// `integer_inputs` every layer of integer codes, the source's own included, is multiplied in
/// integers.
std::unique_ptr<TensorSource> MakeQuantizingSource(std::unique_ptr<TensorSource> source,
                                                   RoundingRule rule, bool integer_inputs);

}  // namespace penstock
