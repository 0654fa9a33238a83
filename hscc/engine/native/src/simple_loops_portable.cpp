#include "simple_loops.h"

#define LOOPS portable_loops
#include "simple_loops.inc"
