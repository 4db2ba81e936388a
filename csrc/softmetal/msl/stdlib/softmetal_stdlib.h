// The whole of our <metal_stdlib>: what every translated shader includes.
#pragma once

#include "softmetal_array.h"
#include "softmetal_atomic.h"
#include "softmetal_constants.h"
#include "softmetal_geometric.h"
#include "softmetal_half.h"
#include "softmetal_integer.h"
#include "softmetal_math.h"
#include "softmetal_pack.h"
#include "softmetal_rows.h"
#include "softmetal_simd.h"
#include "softmetal_swizzle.h"
#include "softmetal_traits.h"
#include "softmetal_vector.h"
