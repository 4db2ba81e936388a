// What metal-cpp takes from Core Foundation.
#pragma once
#include <float.h>
#include <math.h>
typedef const void* CFTypeRef;
typedef double CFTimeInterval;
