// Compiling small Metal sources with a compiler of this machine, loading them and running their kernels.
#pragma once

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <stdlib.h>

#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "softmetal/msl/compile.h"
#include "softmetal/runtime/kernel_abi.h"

namespace msl_test {

namespace msl = softmetal::msl;

inline std::string source_root() {
  return std::filesystem::absolute(__FILE__).parent_path().parent_path().parent_path().parent_path();
}

// The compiler that the environment names, else what is installed. One has to be there.
inline const std::vector<std::string>& compiler() {
  static const std::vector<std::string> command = [] {
    std::vector<std::string> candidates;
    if (const char* named = getenv("METALLOID_SHADER_CXX"); named && *named) candidates.push_back(named);
    candidates.insert(candidates.end(), {"clang++", "clang++-16", "python3 -m ziglang c++", "g++"});
    for (const std::string& candidate : candidates) {
      const msl::Toolchain toolchain = msl::detect_toolchain(msl::split_command(candidate));
      if (toolchain.error.empty()) return toolchain.command;
    }
    return std::vector<std::string>{};
  }();
  return command;
}

inline msl::Options options() {
  msl::Options o;
  o.compiler = compiler();
  o.runtime_directory = source_root() + "/csrc";
  return o;
}

// A loaded library: kernels by host name.
class Library {
 public:
  explicit Library(const std::string& source, msl::Options o = options()) {
    o.output = directory_.file("library.so");
    result = msl::compile(o, {{"test.metal", source}});
    INFO(result.log);
    REQUIRE(result.ok);
    handle_ = dlopen(o.output.c_str(), RTLD_NOW | RTLD_LOCAL);
    REQUIRE_MESSAGE(handle_ != nullptr, dlerror());
    const auto entry = reinterpret_cast<SoftmetalLibraryEntry>(dlsym(handle_, SOFTMETAL_LIBRARY_SYMBOL));
    REQUIRE(bool(entry));
    library = entry();
    for (uint32_t u = 0; u < library->unit_count; ++u)
      for (uint32_t k = 0; k < library->units[u]->kernel_count; ++k)
        kernels_[library->units[u]->kernels[k].name] = &library->units[u]->kernels[k];
  }
  ~Library() {
    if (handle_) dlclose(handle_);
  }

  const SoftmetalKernel& kernel(const std::string& name) const {
    REQUIRE(kernels_.count(name) == 1);
    return *kernels_.at(name);
  }
  size_t size() const { return kernels_.size(); }

  msl::Result result;
  const SoftmetalLibrary* library = nullptr;

 private:
  msl::TemporaryDirectory directory_;
  void* handle_ = nullptr;
  std::map<std::string, const SoftmetalKernel*> kernels_;
};

using Size = std::array<uint32_t, 3>;

// One dispatch of a kernel, by threads.
struct Dispatch {
  explicit Dispatch(const SoftmetalKernel& k) : kernel(k) {}
  virtual ~Dispatch() = default;

  template <class T>
  Dispatch& buffer(uint32_t index, T* data, size_t count) {
    buffers[index] = const_cast<void*>(static_cast<const void*>(data));
    bytes[index] = count * sizeof(T);
    return *this;
  }
  template <class T>
  Dispatch& value(uint32_t index, const T& data) {
    return buffer(index, &data, 1);
  }
  Dispatch& threadgroup(uint32_t index, uint32_t length) {
    threadgroup_offsets[index] = used;
    threadgroup_bytes[index] = length;
    used += (length + 15) / 16 * 16;
    return *this;
  }

  // Runs the grid in `pieces` calls, as the threads of a pool would.
  virtual void run(Size grid, Size group = {1, 1, 1}, uint64_t pieces = 1) {
    SoftmetalLaunch launch{};
    const uint64_t units = fill(launch, grid, group);
    std::unique_ptr<char, decltype(&free)> memory(
        static_cast<char*>(aligned_alloc(64, (used + 127) / 64 * 64)), free);
    for (uint64_t p = 0; p < pieces; ++p)
      kernel.run(&launch, memory.get(), units * p / pieces, units * (p + 1) / pieces);
  }

  // The number of units.
  uint64_t fill(SoftmetalLaunch& launch, Size grid, Size group) const {
    launch.buffers = buffers;
    launch.buffer_bytes = bytes;
    launch.threadgroup_offsets = threadgroup_offsets;
    launch.threadgroup_bytes = threadgroup_bytes;
    launch.constants = constants;
    launch.constants_defined = constants_defined;
    uint64_t units = 1;
    for (int axis = 0; axis < 3; ++axis) {
      launch.threads_per_grid[axis] = grid[axis];
      launch.threads_per_threadgroup[axis] = group[axis];
      launch.threadgroups_per_grid[axis] = (grid[axis] + group[axis] - 1) / group[axis];
      units *= kernel.mode == SOFTMETAL_MODE_THREADS ? grid[axis] : launch.threadgroups_per_grid[axis];
    }
    return units;
  }

  const SoftmetalKernel& kernel;
  void* buffers[SOFTMETAL_MAX_BUFFERS] = {};
  uint64_t bytes[SOFTMETAL_MAX_BUFFERS] = {};
  uint32_t threadgroup_offsets[SOFTMETAL_MAX_BUFFERS] = {};
  uint32_t threadgroup_bytes[SOFTMETAL_MAX_BUFFERS] = {};
  const void* constants = nullptr;
  uint64_t constants_defined = 0;
  uint32_t used = 0;
};

}  // namespace msl_test
