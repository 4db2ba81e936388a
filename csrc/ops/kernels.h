// The kernels of an operation that comes in several element types.
#pragma once

#include <string>

#include "ops/check.h"

namespace metalloid::ops {

// name_<x>: one kernel for each floating-point type of x.
class KernelsByType {
 public:
  explicit KernelsByType(const std::string& name)
      : kernels_{BuiltinKernel(name + "_f32"), BuiltinKernel(name + "_f16"), BuiltinKernel(name + "_bf16")} {}
  const BuiltinKernel& operator()(DType x) const { return kernels_[number(x)]; }

 private:
  BuiltinKernel kernels_[kFloatCount];
};

// name_<x>_<w>: the weight has x's type or is f32.
class KernelsByTypeAndWeight {
 public:
  explicit KernelsByTypeAndWeight(const std::string& name)
      : same_{BuiltinKernel(name + "_f32_f32"), BuiltinKernel(name + "_f16_f16"),
              BuiltinKernel(name + "_bf16_bf16")},
        f32_{BuiltinKernel(name + "_f32_f32"), BuiltinKernel(name + "_f16_f32"),
             BuiltinKernel(name + "_bf16_f32")} {}
  const BuiltinKernel& operator()(DType x, DType weight) const {
    return weight == x ? same_[number(x)] : f32_[number(x)];
  }

 private:
  BuiltinKernel same_[kFloatCount];
  BuiltinKernel f32_[kFloatCount];
};

}  // namespace metalloid::ops
