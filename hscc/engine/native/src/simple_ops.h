// Changes of layout at the borders of a network.
#pragma once

#include "op.h"

namespace hscc {

// (batch, channels, positions) to (batch, positions, channels).
void channels_last(Threads& threads, int batch, const Shape& shape, const float* from, float* to);

// And back.
void channels_first(Threads& threads, int batch, const Shape& shape, const float* from, float* to);

}  // namespace hscc
