#pragma once

#include "NSArray.hpp"
#include "NSAutoreleasePool.hpp"
#include "NSData.hpp"
#include "NSDictionary.hpp"
#include "NSEnumerator.hpp"
#include "NSError.hpp"
#include "NSNumber.hpp"
#include "NSObject.hpp"
#include "NSSharedPtr.hpp"
#include "NSString.hpp"
#include "NSTypes.hpp"
#include "NSURL.hpp"
