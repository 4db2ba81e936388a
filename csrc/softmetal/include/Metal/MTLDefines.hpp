#pragma once

#include "../Foundation/Foundation.hpp"

#define _MTL_ENUM(type, name) _NS_ENUM(type, name)
#define _MTL_OPTIONS(type, name) _NS_OPTIONS(type, name)
#define _MTL_PACKED _NS_PACKED
