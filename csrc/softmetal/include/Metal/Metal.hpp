// Apple's Metal for machines without it: the classes that compute needs, with the names,
// signatures and rules of Apple's metal-cpp, so that code written against either compiles against both.
// What is not implemented is not declared.
#pragma once

#include "MTLArgument.hpp"
#include "MTLBinaryArchive.hpp"
#include "MTLBuffer.hpp"
#include "MTLCaptureManager.hpp"
#include "MTLCommandBuffer.hpp"
#include "MTLCommandEncoder.hpp"
#include "MTLCommandQueue.hpp"
#include "MTLComputeCommandEncoder.hpp"
#include "MTLComputePass.hpp"
#include "MTLComputePipeline.hpp"
#include "MTLCounters.hpp"
#include "MTLDataType.hpp"
#include "MTLDefines.hpp"
#include "MTLDevice.hpp"
#include "MTLEvent.hpp"
#include "MTLFence.hpp"
#include "MTLFunctionConstantValues.hpp"
#include "MTLFunctionDescriptor.hpp"
#include "MTLIndirectCommandBuffer.hpp"
#include "MTLIndirectCommandEncoder.hpp"
#include "MTLLibrary.hpp"
#include "MTLResidencySet.hpp"
#include "MTLResource.hpp"
#include "MTLTypes.hpp"
