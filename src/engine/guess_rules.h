// What all who guess tokens ahead hold to, whether from text or with a model.
// Owns nothing. Must not know where guesses come from.
// Threads: any.
#pragma once

namespace penstock {

inline constexpr double kSequenceWeight = 1.0 / 8;  // of the newest guess, in a sequence's rate
inline constexpr double kModelWeight = 1.0 / 64;    // and in the rate of all
/// Tokens per second, over the step without guesses, for which guesses are made.
inline constexpr double kLeastGain = 1.03;

}  // namespace penstock
