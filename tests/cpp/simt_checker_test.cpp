// The checker, by kernels written by hand against the binary contract: every access goes through the hooks,
// as the compiler has it for checked libraries.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/kernel_abi.h"
#include "softmetal/runtime/softmetal.h"
#include "softmetal/simt/settings.h"
#include "softmetal/simt/shadow.h"

namespace {

using softmetal::simt::Settings;

// What kernels are made of
// ------------------------------------------------------------------------------------

const SoftmetalHooks* hooks = nullptr;
using Thread = SoftmetalThread;

constexpr uint32_t kNone = 0, kDevice = 1, kThreadgroup = 2;  // metal::mem_flags
constexpr uint32_t kRead = SOFTMETAL_READS, kWrite = SOFTMETAL_WRITES, kAtomic = SOFTMETAL_ATOMIC;

// Each use is a place of its own in the code, as in a compiled kernel.
#define HERE                                     \
  [] {                                           \
    static const char place = 0;                 \
    return static_cast<const void*>(&place + 1); \
  }()
#define GET(place)                                       \
  ([&] {                                                 \
    hooks->access(&(place), sizeof(place), kRead, HERE); \
    return place;                                        \
  }())
#define PUT(place, value)                                         \
  ([&](auto stored) {                                             \
    hooks->access(&(place), sizeof(place), kWrite, HERE);         \
    (place) = static_cast<std::decay_t<decltype(place)>>(stored); \
  }(value))
#define ADD(place, value)                                                   \
  ([&](auto added) {                                                        \
    hooks->access(&(place), sizeof(place), kRead | kWrite | kAtomic, HERE); \
    (place) += static_cast<std::decay_t<decltype(place)>>(added);           \
  }(value))
#define LOAD(place)                                                \
  ([&] {                                                           \
    hooks->access(&(place), sizeof(place), kRead | kAtomic, HERE); \
    return place;                                                  \
  }())
#define STORE(place, value)                                         \
  ([&](auto stored) {                                               \
    hooks->access(&(place), sizeof(place), kWrite | kAtomic, HERE); \
    (place) = static_cast<std::decay_t<decltype(place)>>(stored);   \
  }(value))
#define BARRIER(flags) hooks->barrier(SOFTMETAL_SCOPE_THREADGROUP, flags, HERE)
#define SIMD_BARRIER(flags) hooks->barrier(SOFTMETAL_SCOPE_SIMDGROUP, flags, HERE)
#define FENCE(flags, scope) hooks->fence(flags, 5, scope, HERE)

template <class T>
T* buffer(const Thread* thread, uint32_t index) {
  return static_cast<T*>(thread->launch->buffers[index]);
}
template <class T>
T* argument(const Thread* thread, uint32_t index) {
  return reinterpret_cast<T*>(thread->arguments + thread->launch->threadgroup_offsets[index]);
}
template <class T>
T* variable(const Thread* thread, uint32_t offset = SOFTMETAL_RED_ZONE) {
  return reinterpret_cast<T*>(thread->variables + offset);
}
uint32_t index_of(const Thread* thread) { return thread->thread_index_in_threadgroup; }
uint32_t group_of(const Thread* thread) { return thread->threadgroup_position_in_grid[0]; }
uint32_t global_of(const Thread* thread) {
  return group_of(thread) * thread->launch->threads_per_threadgroup[0] + index_of(thread);
}

// Arguments that all kernels have: x is read, y and z are written, c is constant, t is threadgroup memory;
// and variables a, of 64 floats, and h, of 6 halfs.
const SoftmetalArgument kArguments[] = {
    {"x", "float", 0, MTL::DataTypeFloat, 4, 4, SOFTMETAL_ARGUMENT_BUFFER, SOFTMETAL_SPACE_DEVICE,
     SOFTMETAL_ACCESS_READ, 0, -1, 0},
    {"y", "float", 1, MTL::DataTypeFloat, 4, 4, SOFTMETAL_ARGUMENT_BUFFER, SOFTMETAL_SPACE_DEVICE,
     SOFTMETAL_ACCESS_READ_WRITE, 0, -1, 0},
    {"z", "half", 2, MTL::DataTypeHalf, 2, 2, SOFTMETAL_ARGUMENT_BUFFER, SOFTMETAL_SPACE_DEVICE,
     SOFTMETAL_ACCESS_READ_WRITE, 0, -1, 0},
    {"c", "uint", 3, MTL::DataTypeUInt, 4, 4, SOFTMETAL_ARGUMENT_BUFFER, SOFTMETAL_SPACE_CONSTANT,
     SOFTMETAL_ACCESS_READ, 1, -1, 0},
    {"t", "float", 0, MTL::DataTypeFloat, 4, 4, SOFTMETAL_ARGUMENT_THREADGROUP, SOFTMETAL_SPACE_THREADGROUP,
     SOFTMETAL_ACCESS_READ_WRITE, 0, -1, 0},
};
constexpr uint32_t kHalfs = SOFTMETAL_RED_ZONE + 256 + SOFTMETAL_RED_ZONE;
const SoftmetalVariable kVariables[] = {
    {"a", SOFTMETAL_RED_ZONE, 256, 4, MTL::DataTypeFloat, &kVariables[1]},
    {"h", kHalfs, 12, 2, MTL::DataTypeHalf, nullptr},
};

// How they are run
// --------------------------------------------------------------------------------------------

struct Found {
  std::string kind, variable, space, message, text, action, action2;
  int64_t offset, element;
  uint64_t bytes, count, lane, lane2, simdgroup, simdgroup2, threadgroup, threadgroup2, dispatch, dispatch2;
  bool fatal, second;
};

NS::String* string(const char* text) { return NS::String::string(text, NS::UTF8StringEncoding); }

Found found_of(NS::Dictionary* entries) {
  const auto get = [&](const char* key) {
    auto* value = entries->object<NS::String>(string(key));
    return std::string(value ? value->utf8String() : "<none>");
  };
  const auto number = [&](const char* key) {
    auto* value = entries->object<NS::Number>(string(key));
    REQUIRE_MESSAGE(value, key);
    return value->longLongValue();
  };
  const auto natural = [&](const char* key) { return static_cast<uint64_t>(number(key)); };
  return {get("kind"),
          get("variable"),
          get("address_space"),
          get("message"),
          get("text"),
          get("action"),
          get("action2"),
          number("offset"),
          number("element"),
          natural("bytes"),
          natural("count"),
          natural("lane"),
          natural("lane2"),
          natural("simdgroup"),
          natural("simdgroup2"),
          natural("threadgroup_x"),
          natural("threadgroup2_x"),
          natural("dispatch"),
          natural("dispatch2"),
          number("fatal") != 0,
          number("has_second") != 0};
}

struct Step {
  SoftmetalThreadRun kernel;
  uint32_t threads = 64;  // of the grid
  uint32_t per_group = 64;
};

struct Run {
  NS::SharedPtr<NS::AutoreleasePool> pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
  std::vector<Found> faults;
  std::string error;

  bool is(const std::string& kind) const { return faults.size() == 1 && faults[0].kind == kind; }
};

class Device {
 public:
  Device() {
    NS::Array* devices = MTL::CopyAllDevices();
    for (NS::UInteger i = 0; i < devices->count(); ++i)
      if (auto* one = devices->object<MTL::Device>(i); one->registryID() == 2) device_ = one;
    REQUIRE(device_);
    queue = NS::TransferPtr(device_->newCommandQueue());
    x = allocate(4096);
    y = allocate(4096);
    z = allocate(4096);
    devices->release();
  }

  NS::SharedPtr<MTL::Buffer> allocate(size_t bytes) {
    return NS::TransferPtr(device_->newBuffer(bytes, MTL::ResourceStorageModeShared));
  }

  Run run(const std::vector<Step>& steps, MTL::DispatchType type = MTL::DispatchTypeSerial,
          bool barriers = false) {
    Run result;
    // Kept, as the last objects of a run may go after it.
    static std::deque<std::string> names;
    static std::deque<std::vector<SoftmetalKernel>> all_kernels;
    std::vector<SoftmetalKernel>& kernels = all_kernels.emplace_back();
    for (size_t i = 0; i < steps.size(); ++i) {
      SoftmetalKernel kernel{};
      kernel.name = names.emplace_back("kernel" + std::to_string(i)).c_str();
      kernel.execution_width = SOFTMETAL_LANES;
      kernel.max_threads_per_threadgroup = 1024;
      kernel.static_threadgroup_bytes = kHalfs + 16 + SOFTMETAL_RED_ZONE;
      kernel.arguments = kArguments;
      kernel.argument_count = 5;
      kernel.source_file = "test.metal";
      kernel.thread = steps[i].kernel;
      kernel.variables = kVariables;
      kernels.push_back(kernel);
    }
    // Static, as the checker finds the program by it.
    static SoftmetalUnit unit;
    static const SoftmetalUnit* const units[] = {&unit};
    static SoftmetalLibrary table;
    unit = {kernels.data(), static_cast<uint32_t>(kernels.size())};
    table = {SOFTMETAL_ABI_VERSION, "test", "by hand", units, 1, 1, &hooks, nullptr, 0};
    NS::Error* error = nullptr;
    auto library = NS::TransferPtr(softmetal::new_library(device_, &table, &error));
    REQUIRE_MESSAGE(library, (error ? error->localizedDescription()->utf8String() : ""));

    auto* buffer = queue->commandBuffer();
    auto* encoder = buffer->computeCommandEncoder(type);
    for (size_t i = 0; i < steps.size(); ++i) {
      auto function = NS::TransferPtr(library->newFunction(string(kernels[i].name)));
      auto pipeline = NS::TransferPtr(device_->newComputePipelineState(function.get(), &error));
      REQUIRE(pipeline);
      encoder->setComputePipelineState(pipeline.get());
      if (x_bytes != 0) x->addDebugMarker(string("view"), NS::Range(x_offset, x_bytes));
      encoder->setBuffer(x.get(), x_offset, 0);
      encoder->setBuffer(y.get(), y_offset, 1);
      encoder->setBuffer(z.get(), 0, 2);
      const uint32_t constant = 7;
      encoder->setBytes(&constant, 4, 3);
      encoder->setThreadgroupMemoryLength(threadgroup_bytes, 0);
      if (barriers && i > 0) encoder->memoryBarrier(MTL::BarrierScopeBuffers);
      encoder->dispatchThreads(MTL::Size(steps[i].threads, 1, 1), MTL::Size(steps[i].per_group, 1, 1));
    }
    encoder->endEncoding();
    buffer->commit();
    buffer->waitUntilCompleted();
    if (buffer->error()) {
      result.error = buffer->error()->localizedDescription()->utf8String();
      if (auto* list = buffer->error()->userInfo()->object<NS::Array>(string("faults")))
        for (NS::UInteger i = 0; i < list->count(); ++i)
          result.faults.push_back(found_of(list->object<NS::Dictionary>(i)));
    }
    return result;
  }
  Run run(SoftmetalThreadRun kernel, uint32_t threads = 64, uint32_t per_group = 64) {
    return run({{kernel, threads, per_group}});
  }

  MTL::Device* get() const { return device_; }

  NS::SharedPtr<MTL::CommandQueue> queue;
  NS::SharedPtr<MTL::Buffer> x, y, z;
  uint64_t x_offset = 0, x_bytes = 0, y_offset = 0, threadgroup_bytes = 512;

 private:
  MTL::Device* device_ = nullptr;
};

// Each test is run in several orders, and has to come to the same result in all.
constexpr uint64_t kSeeds[] = {0, 1, 2, 3, 1234567};
struct Seed {
  explicit Seed(uint64_t seed) : before(softmetal::simt::settings()) {
    Settings now = before;
    now.seed = seed;
    softmetal::simt::set_settings(now);
  }
  ~Seed() { softmetal::simt::set_settings(before); }
  const Settings before;
};

void check_clean(SoftmetalThreadRun kernel, uint32_t threads = 64, uint32_t per_group = 64) {
  for (const uint64_t seed : kSeeds) {
    const Seed with(seed);
    Device device;
    const Run run = device.run(kernel, threads, per_group);
    CHECK_MESSAGE(run.error == "", run.error);
  }
}

Found check_finds(const char* kind, SoftmetalThreadRun kernel, uint32_t threads = 64,
                  uint32_t per_group = 64) {
  Found first{};
  for (const uint64_t seed : kSeeds) {
    const Seed with(seed);
    Device device;
    const Run run = device.run(kernel, threads, per_group);
    REQUIRE_MESSAGE(run.faults.size() == 1, "seed ", seed, ": ", run.error);
    CHECK_MESSAGE(run.faults[0].kind == kind, run.error);
    CHECK(run.faults[0].text.find("METALLOID_SEED=" + std::to_string(seed)) != std::string::npos);
    if (seed == 0) first = run.faults[0];
  }
  return first;
}

}  // namespace

// Races
// -------------------------------------------------------------------------------------------------------

TEST_CASE("a barrier sets accesses to threadgroup memory apart") {
  check_clean([](const Thread* t) {
    auto* a = variable<float>(t);
    const uint32_t i = index_of(t);
    PUT(a[i], float(i));
    BARRIER(kThreadgroup);
    PUT(buffer<float>(t, 1)[i], GET(a[63 - i]));
    BARRIER(kThreadgroup);
    PUT(a[i], 1.f);
    BARRIER(kThreadgroup | kDevice);
    PUT(buffer<float>(t, 1)[63 - i], GET(a[i]));
  });
}

TEST_CASE("without one they are a race") {
  const Found found = check_finds("threadgroup-race", [](const Thread* t) {
    auto* a = variable<float>(t);
    const uint32_t i = index_of(t);
    PUT(a[i], float(i));
    if (i == 40) GET(a[7]);
  });
  CHECK(found.variable == "a");
  CHECK(found.space == "threadgroup");
  CHECK(found.offset == 28);
  CHECK(found.element == 7);
  CHECK(found.bytes == 4);
  CHECK(found.second);
  CHECK_FALSE(found.fatal);
  CHECK(found.count == 1);
  CHECK(found.action == "reads");
  CHECK(found.action2 == "writes");
  CHECK(found.lane == 8);
  CHECK(found.simdgroup == 1);
  CHECK(found.lane2 == 7);
  CHECK(found.simdgroup2 == 0);
}

TEST_CASE("writing the same value is a race too") {
  check_finds("threadgroup-race", [](const Thread* t) { PUT(variable<float>(t)[5], 1.f); });
  CHECK(check_finds("device-race", [](const Thread* t) { PUT(buffer<float>(t, 1)[5], 1.f); }).count == 63);
}

TEST_CASE("a write by one of many readers conflicts with the others") {
  for (const uint32_t writer : {0u, 1u, 31u, 32u, 63u}) {
    static uint32_t who;
    who = writer;
    check_finds("threadgroup-race", [](const Thread* t) {
      auto* a = variable<float>(t);
      if (index_of(t) == 9) PUT(a[0], 1.f);
      BARRIER(kThreadgroup);
      GET(a[0]);
      if (index_of(t) == who) PUT(a[0], 2.f);
    });
  }
}

TEST_CASE("many readers, then a barrier, then a write") {
  check_clean([](const Thread* t) {
    auto* a = variable<float>(t);
    if (index_of(t) == 0) PUT(a[0], 1.f);
    BARRIER(kThreadgroup);
    GET(a[0]);
    BARRIER(kThreadgroup);
    if (index_of(t) == 50) PUT(a[0], 2.f);
  });
}

TEST_CASE("a scratch that is used again without a barrier in between") {
  check_finds("threadgroup-race", [](const Thread* t) {
    auto* a = variable<float>(t);
    const uint32_t i = index_of(t), simd = t->simdgroup_index_in_threadgroup;
    for (int round = 0; round < 2; ++round) {
      if (i % 32 == 0) PUT(a[simd], 1.f);
      BARRIER(kThreadgroup);
      if (i == 0) PUT(a[0], GET(a[0]) + GET(a[1]));
      BARRIER(kThreadgroup);
      GET(a[0]);
    }
  });
}

TEST_CASE("neighbouring bytes of one word are no race") {
  check_clean(
      [](const Thread* t) {
        auto* bytes = variable<uint8_t>(t);
        PUT(bytes[index_of(t)], uint8_t(1));
        auto* y = buffer<uint8_t>(t, 1);
        PUT(y[global_of(t)], uint8_t(1));
        auto* z = buffer<uint16_t>(t, 2);
        PUT(z[global_of(t)], uint16_t(1));
      },
      256, 64);
}

TEST_CASE("halfs that share a word are told apart") {
  const Found found = check_finds("device-race", [](const Thread* t) {
    auto* z = buffer<uint16_t>(t, 2);
    GET(z[index_of(t)]);
    if (index_of(t) < 2 || index_of(t) == 40) GET(z[3]);
    if (index_of(t) == 1) PUT(z[3], uint16_t(1));
  });
  CHECK(found.variable == "z");
  CHECK(found.element == 3);
  CHECK(found.bytes == 2);
}

TEST_CASE("a race in one of the four words of a vector") {
  struct alignas(16) Float4 {
    float v[4];
  };
  const Found found = check_finds("threadgroup-race", [](const Thread* t) {
    auto* a = variable<float>(t);
    if (index_of(t) == 0) PUT(reinterpret_cast<Float4*>(a)[1], Float4{});
    if (index_of(t) == 33) PUT(a[6], 1.f);
  });
  CHECK(found.element == 6);
}

TEST_CASE("threadgroups share device memory, not threadgroup memory") {
  check_clean(
      [](const Thread* t) {
        PUT(variable<float>(t)[index_of(t)], 1.f);
        PUT(argument<float>(t, 0)[index_of(t)], 1.f);
        PUT(buffer<float>(t, 1)[global_of(t)], 1.f);
        GET(buffer<float>(t, 0)[0]);
      },
      256, 64);
  const Found found = check_finds(
      "device-race",
      [](const Thread* t) {
        if (index_of(t) == 3) PUT(buffer<float>(t, 1)[0], 1.f);
      },
      128, 64);
  CHECK(found.threadgroup == 1);
  CHECK(found.threadgroup2 == 0);
  CHECK(found.lane == 3);
  CHECK(found.lane2 == 3);
  // A barrier orders nothing between threadgroups.
  check_finds(
      "device-race",
      [](const Thread* t) {
        if (group_of(t) == 0 && index_of(t) == 0) PUT(buffer<float>(t, 1)[0], 1.f);
        BARRIER(kDevice);
        if (group_of(t) == 1 && index_of(t) == 0) GET(buffer<float>(t, 1)[0]);
        BARRIER(kDevice);
      },
      128, 64);
}

TEST_CASE("atomics") {
  check_clean(
      [](const Thread* t) {
        auto* y = buffer<uint32_t>(t, 1);
        ADD(y[0], 1);
        LOAD(y[0]);
        STORE(y[1], 2u);
      },
      256, 64);
  SUBCASE("against a plain write") {
    for (const uint32_t writer : {0u, 17u, 63u}) {
      static uint32_t who;
      who = writer;
      check_finds("device-race", [](const Thread* t) {
        auto* y = buffer<uint32_t>(t, 1);
        if (index_of(t) == who) PUT(y[0], 0u);
        ADD(y[0], 1);
      });
    }
  }
  SUBCASE("against a plain read") {
    check_finds("device-race", [](const Thread* t) {
      auto* y = buffer<uint32_t>(t, 1);
      ADD(y[0], 1);
      if (index_of(t) == 20) GET(y[0]);
    });
  }
  SUBCASE("that only load, against a plain write") {
    check_finds("device-race", [](const Thread* t) {
      auto* y = buffer<uint32_t>(t, 1);
      if (index_of(t) == 20) PUT(y[0], 1u);
      if (index_of(t) == 50) LOAD(y[0]);
    });
  }
  SUBCASE("against a plain read after several that only load") {
    check_finds("device-race", [](const Thread* t) {
      auto* y = buffer<uint32_t>(t, 1);
      if (index_of(t) < 3 || index_of(t) == 35) LOAD(y[0]);
      if (index_of(t) == 20) GET(y[0]);
      if (index_of(t) == 50) ADD(y[0], 1);
    });
  }
  SUBCASE("and plain reads after a barrier") {
    check_clean([](const Thread* t) {
      auto* a = variable<uint32_t>(t);
      if (index_of(t) == 0) PUT(a[0], 0u);
      BARRIER(kThreadgroup);
      ADD(a[0], 1);
      LOAD(a[0]);
      BARRIER(kThreadgroup);
      GET(a[0]);
    });
  }
}

TEST_CASE("SIMD-group barriers") {
  check_clean([](const Thread* t) {
    auto* a = variable<float>(t);
    const uint32_t i = index_of(t);
    for (int round = 0; round < 3; ++round) {
      PUT(a[i], 1.f);
      SIMD_BARRIER(kThreadgroup);
      GET(a[i ^ 1]);
      SIMD_BARRIER(kThreadgroup);
    }
  });
  check_finds("threadgroup-race", [](const Thread* t) {
    auto* a = variable<float>(t);
    const uint32_t i = index_of(t);
    PUT(a[i], 1.f);
    SIMD_BARRIER(kThreadgroup);
    if (i == 2) GET(a[i ^ 32]);
  });
  // The last to read is of another SIMD-group than those before.
  check_finds("threadgroup-race", [](const Thread* t) {
    auto* a = variable<float>(t);
    const uint32_t i = index_of(t);
    if (i == 5) PUT(a[0], 1.f);
    BARRIER(kThreadgroup);
    if (i == 1 || i == 2 || i == 40) GET(a[0]);
    SIMD_BARRIER(kThreadgroup);
    if (i == 3) PUT(a[0], 2.f);
  });
}

TEST_CASE("barriers with the wrong flags") {
  const Found found = check_finds("barrier-flags", [](const Thread* t) {
    auto* a = variable<float>(t);
    const uint32_t i = index_of(t);
    PUT(a[i], 1.f);
    BARRIER(kDevice);
    if (i == 0) GET(a[1]);
  });
  CHECK(found.message.find("mem_flags::mem_device, needs mem_flags::mem_threadgroup") != std::string::npos);
  check_finds("barrier-flags", [](const Thread* t) {
    auto* y = buffer<float>(t, 1);
    PUT(y[index_of(t)], 1.f);
    BARRIER(kThreadgroup);
    if (index_of(t) == 0) GET(y[1]);
  });
  check_finds("barrier-flags", [](const Thread* t) {
    auto* a = variable<float>(t);
    PUT(a[index_of(t)], 1.f);
    SIMD_BARRIER(kNone);
    if (index_of(t) == 0) GET(a[1]);
  });
}

TEST_CASE("fences order threadgroups") {
  static uint32_t scope;
  const auto kernel = [](const Thread* t) {
    auto* y = buffer<float>(t, 1);
    auto* count = buffer<uint32_t>(t, 1) + 500;
    PUT(y[global_of(t)], 1.f);
    if (scope != 0) FENCE(kDevice, scope);
    BARRIER(kThreadgroup);
    if (index_of(t) == 0) ADD(*count, 1);
    BARRIER(kThreadgroup);
    if (LOAD(*count) != 4) return;
    if (scope != 0) FENCE(kDevice, scope);
    for (uint32_t i = index_of(t); i < 256; i += 64) GET(y[i]);
  };
  scope = SOFTMETAL_SCOPE_DEVICE;
  check_clean(kernel, 256, 64);
  scope = 0;
  check_finds("device-race", kernel, 256, 64);
}

// Bounds
// ------------------------------------------------------------------------------------------------------

TEST_CASE("out of bounds") {
  SUBCASE("past the end of a buffer") {
    const Found found = check_finds("out-of-bounds", [](const Thread* t) {
      if (index_of(t) == 13) GET(buffer<float>(t, 0)[1024]);
    });
    CHECK(found.variable == "x");
    CHECK(found.offset == 4096);
    CHECK(found.element == 1024);
    CHECK(found.bytes == 4);
    CHECK(found.lane == 13);
    CHECK(found.fatal);
    CHECK_FALSE(found.second);
  }
  SUBCASE("before its start") {
    const Found found = check_finds("out-of-bounds", [](const Thread* t) {
      if (index_of(t) == 0) PUT(buffer<float>(t, 1)[-1], 1.f);
    });
    CHECK(found.variable == "y");
    CHECK(found.element == -1);
    CHECK(found.message.find("4 bytes before its start") != std::string::npos);
  }
  SUBCASE("across the end") {
    check_finds("out-of-bounds", [](const Thread* t) {
      if (index_of(t) == 0) hooks->access(buffer<char>(t, 0) + 4092, 8, kRead | SOFTMETAL_UNALIGNED, HERE);
    });
  }
  SUBCASE("far away") {
    for (const int64_t at : {int64_t{-1} << 31, (int64_t{1} << 31) - 1, (int64_t{1} << 32) - 1}) {
      static int64_t where;
      where = at;
      const Found found = check_finds("out-of-bounds", [](const Thread* t) {
        if (index_of(t) == 0) GET(buffer<float>(t, 0)[where]);
      });
      CHECK(found.variable == "x");
      CHECK(found.element == at);
    }
  }
  SUBCASE("of a constant") {
    CHECK(check_finds("out-of-bounds", [](const Thread* t) {
            if (index_of(t) == 0) GET(buffer<uint32_t>(t, 3)[1]);
          }).space == "constant");
  }
  SUBCASE("of a threadgroup argument") {
    const Found found = check_finds("out-of-bounds", [](const Thread* t) {
      if (index_of(t) == 0) PUT(argument<float>(t, 0)[128], 1.f);
    });
    CHECK(found.variable == "t");
    CHECK(found.element == 128);
  }
  SUBCASE("of a threadgroup variable") {
    CHECK(check_finds("out-of-bounds", [](const Thread* t) {
            if (index_of(t) == 0) PUT(variable<float>(t)[64], 1.f);
          }).variable == "a");
    CHECK(check_finds("out-of-bounds", [](const Thread* t) {
            if (index_of(t) == 0) PUT(variable<float>(t)[-1], 1.f);
          }).variable == "a");
    CHECK(check_finds("out-of-bounds", [](const Thread* t) {
            if (index_of(t) == 0) PUT(variable<uint16_t>(t, kHalfs)[6], uint16_t(1));
          }).variable == "h");
  }
}

TEST_CASE("the last bytes of everything may be used") {
  check_clean([](const Thread* t) {
    if (index_of(t) != 0) return;
    GET(buffer<float>(t, 0)[1023]);
    PUT(buffer<float>(t, 1)[1023], 1.f);
    GET(buffer<uint32_t>(t, 3)[0]);
    PUT(argument<float>(t, 0)[127], 1.f);
    PUT(variable<float>(t)[63], 1.f);
    PUT(variable<uint16_t>(t, kHalfs)[5], uint16_t(1));
    hooks->access(buffer<char>(t, 0) + 4096, 0, kRead, HERE);
  });
}

TEST_CASE("the bounds of a binding, not of its buffer") {
  Device device;
  device.x_offset = 1024;
  device.x_bytes = 100;
  CHECK(device.run([](const Thread* t) { GET(buffer<float>(t, 0)[24]); }).error == "");
  Run run = device.run([](const Thread* t) { GET(buffer<float>(t, 0)[25]); });
  REQUIRE(run.is("out-of-bounds"));
  CHECK(run.faults[0].offset == 100);
  CHECK(run.faults[0].message.find("which has 100 bytes") != std::string::npos);
  run = device.run([](const Thread* t) { GET(buffer<float>(t, 0)[-1]); });
  CHECK(run.is("out-of-bounds"));
}

TEST_CASE("two bindings of one buffer") {
  Device device;
  device.y = device.x;
  SUBCASE("share their contents") {
    CHECK(device
              .run([](const Thread* t) {
                PUT(buffer<float>(t, 1)[index_of(t)], float(index_of(t)));
                PUT(buffer<float>(t, 1)[index_of(t)], GET(buffer<float>(t, 0)[index_of(t)]) * 2);
              })
              .error == "");
    CHECK(static_cast<float*>(device.x->contents())[63] == 126);
  }
  SUBCASE("at different offsets, with bounds of their own") {
    device.y_offset = 256;
    device.x_bytes = 512;
    CHECK(device
              .run([](const Thread* t) {
                PUT(buffer<float>(t, 1)[index_of(t)], float(index_of(t)));
                GET(buffer<float>(t, 0)[64 + index_of(t)]);
              })
              .error == "");
    CHECK(static_cast<float*>(device.x->contents())[64 + 63] == 63);
    CHECK(device.run([](const Thread* t) { GET(buffer<float>(t, 0)[128]); }).is("out-of-bounds"));
  }
  SUBCASE("and their races") {
    device.y_offset = 256;
    const Run run = device.run([](const Thread* t) {
      PUT(buffer<float>(t, 1)[index_of(t)], float(index_of(t)));
      if (index_of(t) == 60) GET(buffer<float>(t, 0)[64]);
    });
    CHECK(run.is("device-race"));
  }
}

TEST_CASE("misaligned") {
  CHECK(check_finds("misaligned", [](const Thread* t) {
          if (index_of(t) == 0) hooks->access(buffer<char>(t, 0) + 2, 4, kRead, HERE);
        }).fatal);
  check_finds("misaligned", [](const Thread* t) {
    if (index_of(t) == 0) hooks->access(buffer<char>(t, 0) + 8, 16, kRead, HERE);
  });
  check_clean([](const Thread* t) {
    if (index_of(t) == 0) hooks->access(buffer<char>(t, 0) + 2, 4, kRead | SOFTMETAL_UNALIGNED, HERE);
    if (index_of(t) == 0) hooks->access(buffer<char>(t, 0) + 4, 12, kRead, HERE);
  });
}

TEST_CASE("addresses of nothing") {
  const Found found = check_finds("null-argument", [](const Thread* t) {
    if (index_of(t) == 0) hooks->access(reinterpret_cast<void*>(400), 4, kRead, HERE);
  });
  CHECK(found.fatal);
  check_finds("invalid-address", [](const Thread* t) {
    if (index_of(t) == 0) hooks->access(reinterpret_cast<void*>(uintptr_t{1} << 46), 4, kRead, HERE);
  });
}

TEST_CASE("a write to what is only read") {
  const Found found = check_finds("read-only-write", [](const Thread* t) {
    if (index_of(t) == 0) PUT(buffer<float>(t, 0)[1], 1.f);
  });
  CHECK(found.variable == "x");
  CHECK(found.fatal);
}

TEST_CASE("a program's own constants and private memory may be read") {
  check_clean([](const Thread* t) {
    static const float table[4] = {1, 2, 3, 4};
    float mine[4] = {};
    PUT(mine[index_of(t) % 4], GET(table[index_of(t) % 4]));
    thread_local uint32_t constant = 0;
    GET(constant);
    GET(t->launch->buffers[0]);
  });
}

// Contents
// ----------------------------------------------------------------------------------------------------

TEST_CASE("uninitialised threadgroup memory") {
  const Found found = check_finds("uninitialized-read", [](const Thread* t) {
    auto* a = variable<float>(t);
    if (index_of(t) < 32) PUT(a[index_of(t)], 1.f);
    BARRIER(kThreadgroup);
    if (index_of(t) == 0) GET(a[32]);
  });
  CHECK(found.variable == "a");
  CHECK(found.element == 32);
  CHECK_FALSE(found.fatal);
  // What another threadgroup wrote does not count.
  check_finds(
      "uninitialized-read",
      [](const Thread* t) {
        auto* a = variable<float>(t);
        if (group_of(t) == 0 && index_of(t) == 0) PUT(a[0], 1.f);
        if (group_of(t) == 1 && index_of(t) == 0) GET(a[0]);
      },
      128, 64);
  // A copy of a struct may read padding that nobody wrote.
  check_clean([](const Thread* t) {
    struct alignas(8) Padded {
      float value;
    };
    auto* a = reinterpret_cast<Padded*>(variable<float>(t));
    if (index_of(t) >= 32) return;
    PUT(a[index_of(t)].value, 1.f);
    hooks->access(&a[index_of(t)], 8, kRead, HERE);
  });
}

TEST_CASE("uninitialised device memory") {
  Device device;
  auto* x = static_cast<float*>(device.x->contents());
  const auto kernel = [](const Thread* t) {
    PUT(buffer<float>(t, 1)[index_of(t)], GET(buffer<float>(t, 0)[index_of(t)]));
  };
  device.x->setPurgeableState(MTL::PurgeableStateEmpty);
  std::fill_n(x, 64, 1.f);
  CHECK(device.run(kernel).error == "");
  device.x->setPurgeableState(MTL::PurgeableStateEmpty);
  std::fill_n(x, 63, 1.f);
  const Run run = device.run(kernel);
  REQUIRE(run.is("uninitialized-read"));
  CHECK(run.faults[0].element == 63);
  // Written by a kernel, it may be read.
  device.y->setPurgeableState(MTL::PurgeableStateEmpty);
  CHECK(device
            .run({{[](const Thread* t) { PUT(buffer<float>(t, 1)[index_of(t)], 1.f); }},
                  {[](const Thread* t) { GET(buffer<float>(t, 1)[index_of(t)]); }}})
            .error == "");
}

TEST_CASE("what is not written stays as it is on the host") {
  Device device;
  auto* y = static_cast<float*>(device.y->contents());
  std::fill_n(y, 1024, 3.f);
  CHECK(device.run([](const Thread* t) { PUT(buffer<float>(t, 1)[index_of(t) * 2], 1.f); }).error == "");
  for (int i = 0; i < 1024; ++i) CHECK(y[i] == (i < 128 && i % 2 == 0 ? 1.f : 3.f));
}

TEST_CASE("NaN and Inf, on request") {
  const Settings before = softmetal::simt::settings();
  Settings now = before;
  now.non_finite = true;
  softmetal::simt::set_settings(now);
  Device device;
  auto* x = static_cast<float*>(device.x->contents());
  const auto kernel = [](const Thread* t) {
    const float value = GET(buffer<float>(t, 0)[index_of(t)]);
    PUT(buffer<float>(t, 1)[index_of(t)], value / GET(buffer<float>(t, 0)[100 + index_of(t)]));
    if (index_of(t) == 63) PUT(variable<float>(t)[0], -std::numeric_limits<float>::infinity());
  };
  std::fill_n(x, 1024, 1.f);
  CHECK(device.run(kernel).error == "");
  x[105] = 0;
  Run run = device.run(kernel);
  REQUIRE(run.is("non-finite"));
  CHECK(run.faults[0].element == 5);
  CHECK(run.faults[0].lane == 5);
  CHECK(run.faults[0].variable == "y");
  x[0] = std::numeric_limits<float>::quiet_NaN();  // it came from elsewhere
  CHECK(device.run(kernel).error == "");
  softmetal::simt::set_settings(before);
}

// Threads
// -----------------------------------------------------------------------------------------------------

TEST_CASE("divergent barriers") {
  Found found = check_finds("divergent-barrier", [](const Thread* t) {
    if (index_of(t) >= 60) return;
    BARRIER(kThreadgroup);
  });
  CHECK(found.action2 == "has returned");
  CHECK(found.second);
  found = check_finds("divergent-barrier", [](const Thread* t) {
    auto* a = variable<float>(t);
    if (index_of(t) < 32) {
      PUT(a[index_of(t)], 1.f);
      BARRIER(kThreadgroup);
    } else {
      BARRIER(kThreadgroup);
      GET(a[index_of(t) - 32]);
    }
  });
  CHECK(found.action2 == "waits at another barrier");
}

TEST_CASE("SIMD-group functions and lanes that take no part") {
  const SoftmetalFold undefined = [](SoftmetalMeeting* meeting) {
    if (meeting->active != meeting->existing) meeting->undefined = 1;
  };
  static SoftmetalFold fold;
  fold = undefined;
  check_clean([](const Thread*) {
    int record = 0;
    hooks->meet(&record, fold, SOFTMETAL_MEETING_SIMD, HERE);
  });
  check_finds(
      "inactive-lane",
      [](const Thread* t) {
        int record = 0;
        if (index_of(t) < 31) hooks->meet(&record, fold, SOFTMETAL_MEETING_SIMD, HERE);
      },
      32, 32);
  check_finds(
      "incomplete-matrix",
      [](const Thread* t) {
        int record = 0;
        if (index_of(t) < 31) hooks->meet(&record, [](SoftmetalMeeting*) {}, SOFTMETAL_MEETING_MATRIX, HERE);
      },
      32, 32);
}

TEST_CASE("a kernel that never ends") {
  const Settings before = softmetal::simt::settings();
  Settings now = before;
  now.time_limit = 0.05;
  softmetal::simt::set_settings(now);
  Device device;
  Run run = device.run([](const Thread* t) {
    volatile bool on = index_of(t) == 5;
    while (on) hooks->tick(HERE);
  });
  REQUIRE(run.is("runaway"));
  CHECK(run.faults[0].lane == 5);
  CHECK(run.faults[0].fatal);
  run = device.run([](const Thread*) {
    for (;;) BARRIER(kThreadgroup);
  });
  CHECK(run.is("runaway"));
  run = device.run([](const Thread* t) {
    while (LOAD(buffer<uint32_t>(t, 1)[0]) == 0) hooks->pause(HERE);
  });
  CHECK(run.is("runaway"));
  softmetal::simt::set_settings(before);
  CHECK(device.run([](const Thread*) {}).error == "");
}

// Dispatches
// --------------------------------------------------------------------------------------------------

TEST_CASE("hazards between dispatches") {
  const auto produce = [](const Thread* t) { PUT(buffer<float>(t, 1)[index_of(t)], 1.f); };
  const auto consume = [](const Thread* t) { GET(buffer<float>(t, 1)[index_of(t)]); };
  const auto other = [](const Thread* t) { PUT(buffer<float>(t, 1)[100 + index_of(t)], 1.f); };
  Device device;
  CHECK(device.run({{produce}, {consume}}).error == "");
  CHECK(device.run({{produce}, {consume}}, MTL::DispatchTypeConcurrent, true).error == "");
  CHECK(device.run({{produce}, {other}}, MTL::DispatchTypeConcurrent).error == "");
  CHECK(device.run({{consume}, {consume}}, MTL::DispatchTypeConcurrent).error == "");
  const Run run = device.run({{produce}, {other}, {consume}}, MTL::DispatchTypeConcurrent);
  REQUIRE(run.is("hazard"));
  CHECK(run.faults[0].variable == "y");
  CHECK(run.faults[0].dispatch == 2);
  CHECK(run.faults[0].dispatch2 == 0);
  CHECK(run.faults[0].count == 64);
  CHECK(device.run({{consume}, {produce}}, MTL::DispatchTypeConcurrent).is("hazard"));
  // Also where the one that reads binds it as what is only read.
  device.y = device.x;
  CHECK(device
            .run({{produce}, {[](const Thread* t) { GET(buffer<float>(t, 0)[index_of(t)]); }}},
                 MTL::DispatchTypeConcurrent)
            .is("hazard"));
}

TEST_CASE("faults do not end the command buffer unless they are fatal") {
  const auto race = [](const Thread* t) { PUT(buffer<float>(t, 1)[5], 1.f); };
  const auto overrun = [](const Thread* t) { GET(buffer<float>(t, 0)[5000]); };
  const auto last = [](const Thread* t) { PUT(buffer<float>(t, 1)[64 + index_of(t)], 2.f); };
  Device device;
  auto* y = static_cast<float*>(device.y->contents());
  Run run = device.run({{race}, {last}, {race}});
  CHECK(run.faults.size() == 2);  // of two kernels
  CHECK(y[5] == 1);
  CHECK(y[64] == 2);
  y[64] = 0;
  run = device.run({{overrun}, {last}});
  CHECK(run.is("out-of-bounds"));
  CHECK(y[64] == 0);
  // The device and the process stay as they were.
  CHECK(device.run({{last}}).error == "");
  CHECK(y[64] == 2);
}

TEST_CASE("without checks nothing is reported") {
  const Settings before = softmetal::simt::settings();
  Settings now = before;
  now.enabled = false;
  softmetal::simt::set_settings(now);
  Device device;
  CHECK(device.run([](const Thread* t) { PUT(buffer<float>(t, 1)[5], float(index_of(t))); }).error == "");
  softmetal::simt::set_settings(before);
}

TEST_CASE("grids of several dimensions name their threads") {
  check_clean([](const Thread* t) { PUT(buffer<float>(t, 1)[global_of(t)], 1.f); }, 100, 64);
}

TEST_CASE("poison marks whole words only") {
  alignas(4) char memory[16] = {};
  softmetal::simt::poison(memory + 1, 12);
  uint32_t words[4];
  std::memcpy(words, memory, 16);
  CHECK(words[0] == 0);
  CHECK(words[1] == softmetal::simt::poison_pattern());
  CHECK(words[2] == softmetal::simt::poison_pattern());
  CHECK(words[3] == 0);
}
