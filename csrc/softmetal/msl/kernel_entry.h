// What the wrappers of translated kernels are made of: arguments, builtins, loops over a dispatch and
// reflection. Compiled with the shaders, after the standard library.
#pragma once

#include "softmetal/runtime/kernel_abi.h"

#if SOFTMETAL_WIDTH > 1
#include "softmetal_thread.h"
#endif

#ifndef SOFTMETAL_CHECKED
#define SOFTMETAL_CHECKED 0
#endif

#ifndef SOFTMETAL_INLINE
#define SOFTMETAL_INLINE inline __attribute__((always_inline))
#endif

// Marks code that looks at the runtime's memory, of which the checker knows nothing.
#if defined(__clang__)
#define SOFTMETAL_UNCHECKED __attribute__((no_sanitize("thread", "coverage")))
#else
#define SOFTMETAL_UNCHECKED __attribute__((no_sanitize("thread"), no_sanitize_coverage))
#endif

namespace softmetal::entry {

template <class T>
struct remove_reference {
  using type = T;
};
template <class T>
struct remove_reference<T&> {
  using type = T;
};
template <class T>
struct remove_pointer {
  using type = T;
};
template <class T>
struct remove_pointer<T*> {
  using type = T;
};
template <class T>
struct remove_const {
  using type = T;
};
template <class T>
struct remove_const<const T> {
  using type = T;
};

template <bool, class T>
struct when {};
template <class T>
struct when<true, T> {
  using type = T;
};

template <class T>
inline constexpr bool is_const = false;
template <class T>
inline constexpr bool is_const<const T> = true;
template <class T>
inline constexpr bool is_reference = false;
template <class T>
inline constexpr bool is_reference<T&> = true;

// `float` of `const float*`, `const float&` and `float`.
template <class T>
using Pointee = typename remove_pointer<typename remove_reference<T>::type>::type;
template <class T>
using Bare = typename remove_const<Pointee<T>>::type;

template <unsigned I, class First, class... Rest>
struct pick : pick<I - 1, Rest...> {};
template <class First, class... Rest>
struct pick<0, First, Rest...> {
  using type = First;
};

// The argument types of a kernel, as the compiler sees them.
template <class F>
struct signature;
template <class... Arguments>
struct signature<void (*)(Arguments...)> {
  static constexpr unsigned count = sizeof...(Arguments);
  template <unsigned I>
  using at = typename pick<I, Arguments...>::type;
};

// --- arguments

template <class T>
struct BufferArgument;

template <class T>
struct BufferArgument<T*> {
  T* pointer;
  SOFTMETAL_INLINE BufferArgument(const SoftmetalLaunch* launch, uint32_t index)
      : pointer(static_cast<T*>(launch->buffers[index])) {}
  SOFTMETAL_INLINE T* get() const { return pointer; }
};

// A small read-only argument is copied, so that no store of the kernel can be thought to change it; unless
// what the kernel reads of it is checked.
template <class T, bool = is_const<T> && (sizeof(T) <= 512) && !SOFTMETAL_CHECKED>
struct Referenced {
  T* pointer;
  SOFTMETAL_INLINE explicit Referenced(void* address) : pointer(static_cast<T*>(address)) {}
  SOFTMETAL_INLINE T& get() const { return *pointer; }
};
template <class T>
struct Referenced<T, true> {
  union Storage {
    unsigned char bytes[sizeof(T)];
    typename remove_const<T>::type value;
    SOFTMETAL_INLINE Storage() : bytes{} {}
  } storage;
  // An argument that a function constant switched off may be unbound: it reads as zero.
  SOFTMETAL_INLINE explicit Referenced(const void* address) {
    if (address) __builtin_memcpy(storage.bytes, address, sizeof(T));
  }
  SOFTMETAL_INLINE T& get() const { return storage.value; }
};
template <class T>
struct BufferArgument<T&> : Referenced<T> {
  SOFTMETAL_INLINE BufferArgument(const SoftmetalLaunch* launch, uint32_t index)
      : Referenced<T>(launch->buffers[index]) {}
};

template <class T>
struct ThreadgroupArgument;
template <class T>
struct ThreadgroupArgument<T*> {
  T* pointer;
  SOFTMETAL_INLINE ThreadgroupArgument(const SoftmetalLaunch* launch, char* memory, uint32_t index)
      : pointer(
            reinterpret_cast<T*>(__builtin_assume_aligned(memory + launch->threadgroup_offsets[index], 16))) {
  }
  SOFTMETAL_INLINE T* get() const { return pointer; }
};
template <class T>
struct ThreadgroupArgument<T&> : ThreadgroupArgument<T*> {
  using ThreadgroupArgument<T*>::ThreadgroupArgument;
  SOFTMETAL_INLINE T& get() const { return *this->pointer; }
};

#if SOFTMETAL_CHECKED
// --- casts of pointers that are read at once, which have to be aligned for it

extern "C" __attribute__((visibility("hidden"))) void softmetal_aligned(const void* address,
                                                                        uint32_t alignment);

template <class T>
SOFTMETAL_INLINE T* checked(T* pointer) {
  if (reinterpret_cast<uintptr_t>(pointer) % alignof(T) != 0)
    softmetal_aligned(const_cast<const void*>(static_cast<const volatile void*>(pointer)), alignof(T));
  return pointer;
}

// `*reinterpret_cast<T*>(from)`.
template <class Pointer, class From>
SOFTMETAL_INLINE Pointer aligned_cast(From&& from) {
  return checked(reinterpret_cast<Pointer>(from));
}

// `(T*)from` as AlignedCast<T*>() ->* from, and `*(T*)from` as the same with a star before it.
template <class Pointer>
struct AlignedRead {};
template <class Pointer>
struct AlignedCast {
  SOFTMETAL_INLINE AlignedRead<Pointer> operator*() const { return {}; }
};
template <class T, class From>
SOFTMETAL_INLINE T* operator->*(AlignedCast<T*>, From&& from) {
  return checked((T*)from);
}
template <class T, class From>
SOFTMETAL_INLINE T& operator->*(AlignedRead<T*>, From&& from) {
  return *checked((T*)from);
}
#endif

// Finds a thread's own variables for the first time, which may call an allocator, while no value is in a
// register: clang counts on it that this leaves xmm16 to xmm31 alone, and an allocator need not.
SOFTMETAL_INLINE void find_thread_variables(const void* one) { __asm__ volatile("" : : "r"(one) : "memory"); }

template <class T>
SOFTMETAL_INLINE T constant_value(const SoftmetalLaunch* launch, uint32_t offset) {
  T value;
  __builtin_memcpy(&value, static_cast<const char*>(launch->constants) + offset, sizeof(T));
  return value;
}

template <class... T>
constexpr uint32_t constant_offset(uint32_t which) {
  constexpr uint32_t sizes[] = {sizeof(T)..., 1};
  constexpr uint32_t aligns[] = {alignof(T)..., 1};
  uint32_t offset = 0;
  for (uint32_t i = 0;; ++i) {
    offset = (offset + aligns[i] - 1) / aligns[i] * aligns[i];
    if (i == which || i == sizeof...(T)) return offset;
    offset += sizes[i];
  }
}

template <unsigned N>
constexpr bool indices_fit(const uint32_t (&indices)[N]) {
  for (unsigned i = 0; i < N; ++i) {
    if (indices[i] >= SOFTMETAL_MAX_BUFFERS) return false;
    for (unsigned j = 0; j < i; ++j)
      if (indices[i] == indices[j]) return false;
  }
  return true;
}

// --- positions

struct Triple {
  uint32_t x, y, z;
};

template <class T>
struct BuiltinType {
  static constexpr int size = 0;
  static SOFTMETAL_INLINE T make(Triple) { return T(); }
};
template <>
struct BuiltinType<uint32_t> {
  static constexpr int size = 1;
  static SOFTMETAL_INLINE uint32_t make(Triple v) { return v.x; }
};
template <>
struct BuiltinType<uint16_t> {
  static constexpr int size = 1;
  static SOFTMETAL_INLINE uint16_t make(Triple v) { return static_cast<uint16_t>(v.x); }
};
template <>
struct BuiltinType<uint2> {
  static constexpr int size = 2;
  static SOFTMETAL_INLINE uint2 make(Triple v) { return uint2(v.x, v.y); }
};
template <>
struct BuiltinType<uint3> {
  static constexpr int size = 3;
  static SOFTMETAL_INLINE uint3 make(Triple v) { return uint3(v.x, v.y, v.z); }
};
template <>
struct BuiltinType<ushort2> {
  static constexpr int size = 2;
  static SOFTMETAL_INLINE ushort2 make(Triple v) {
    return ushort2(static_cast<uint16_t>(v.x), static_cast<uint16_t>(v.y));
  }
};
template <>
struct BuiltinType<ushort3> {
  static constexpr int size = 3;
  static SOFTMETAL_INLINE ushort3 make(Triple v) {
    return ushort3(static_cast<uint16_t>(v.x), static_cast<uint16_t>(v.y), static_cast<uint16_t>(v.z));
  }
};

template <class T>
using Value = typename remove_const<T>::type;
template <class T>
inline constexpr bool is_position_type = BuiltinType<Value<T>>::size >= 1;
template <class T>
inline constexpr bool is_index_type = BuiltinType<Value<T>>::size == 1;

template <class T>
SOFTMETAL_INLINE Value<T> builtin(Triple value) {
  return BuiltinType<Value<T>>::make(value);
}
template <class T>
SOFTMETAL_INLINE Value<T> builtin(uint32_t value) {
  return BuiltinType<Value<T>>::make({value, 0, 0});
}

SOFTMETAL_INLINE Triple triple(const uint32_t (&v)[3]) { return {v[0], v[1], v[2]}; }

// A threadgroup of one thread, its own SIMD-group: everything but its place is known to the compiler.
struct SingleThread {
  const SoftmetalLaunch* launch;
  Triple group;
  SOFTMETAL_INLINE Triple thread_position_in_grid() const { return group; }
  SOFTMETAL_INLINE Triple threadgroup_position_in_grid() const { return group; }
  SOFTMETAL_INLINE Triple threads_per_grid() const { return triple(launch->threads_per_grid); }
  SOFTMETAL_INLINE Triple threadgroups_per_grid() const { return triple(launch->threadgroups_per_grid); }
  SOFTMETAL_INLINE Triple grid_origin() const { return {0, 0, 0}; }
  SOFTMETAL_INLINE Triple grid_size() const { return threads_per_grid(); }
  SOFTMETAL_INLINE Triple thread_position_in_threadgroup() const { return {0, 0, 0}; }
  SOFTMETAL_INLINE Triple threads_per_threadgroup() const { return {1, 1, 1}; }
  SOFTMETAL_INLINE Triple dispatch_threads_per_threadgroup() const { return {1, 1, 1}; }
  SOFTMETAL_INLINE uint32_t thread_index_in_threadgroup() const { return 0; }
  SOFTMETAL_INLINE uint32_t thread_index_in_simdgroup() const { return 0; }
  SOFTMETAL_INLINE uint32_t simdgroup_index_in_threadgroup() const { return 0; }
  SOFTMETAL_INLINE uint32_t threads_per_simdgroup() const { return 1; }
  SOFTMETAL_INLINE uint32_t simdgroups_per_threadgroup() const { return 1; }
  SOFTMETAL_INLINE uint32_t dispatch_simdgroups_per_threadgroup() const { return 1; }
  SOFTMETAL_INLINE uint32_t thread_execution_width() const { return 1; }
  SOFTMETAL_INLINE uint32_t thread_index_in_quadgroup() const { return 0; }
  SOFTMETAL_INLINE uint32_t quadgroup_index_in_threadgroup() const { return 0; }
  SOFTMETAL_INLINE uint32_t quadgroups_per_threadgroup() const { return 1; }
  SOFTMETAL_INLINE uint32_t dispatch_quadgroups_per_threadgroup() const { return 1; }
};

// One thread of a threadgroup of several, for kernels whose threads never meet.
struct GroupThread {
  const SoftmetalLaunch* launch;
  Triple group, size, thread;
  SOFTMETAL_INLINE Triple thread_position_in_grid() const {
    const uint32_t (&n)[3] = launch->threads_per_threadgroup;
    return {group.x * n[0] + thread.x, group.y * n[1] + thread.y, group.z * n[2] + thread.z};
  }
  SOFTMETAL_INLINE Triple threadgroup_position_in_grid() const { return group; }
  SOFTMETAL_INLINE Triple threads_per_grid() const { return triple(launch->threads_per_grid); }
  SOFTMETAL_INLINE Triple threadgroups_per_grid() const { return triple(launch->threadgroups_per_grid); }
  SOFTMETAL_INLINE Triple grid_origin() const { return {0, 0, 0}; }
  SOFTMETAL_INLINE Triple grid_size() const { return threads_per_grid(); }
  SOFTMETAL_INLINE Triple thread_position_in_threadgroup() const { return thread; }
  SOFTMETAL_INLINE Triple threads_per_threadgroup() const { return size; }
  SOFTMETAL_INLINE Triple dispatch_threads_per_threadgroup() const {
    return triple(launch->threads_per_threadgroup);
  }
  SOFTMETAL_INLINE uint32_t thread_index_in_threadgroup() const {
    return (thread.z * size.y + thread.y) * size.x + thread.x;
  }
};

SOFTMETAL_INLINE bool single(const SoftmetalLaunch* launch) {
  const uint32_t (&n)[3] = launch->threads_per_threadgroup;
  return n[0] == 1 && n[1] == 1 && n[2] == 1;
}

// One thread of the grid, for kernels that ask for nothing else.
struct GridThread {
  const SoftmetalLaunch* launch;
  Triple thread;
  SOFTMETAL_INLINE Triple thread_position_in_grid() const { return thread; }
  SOFTMETAL_INLINE Triple threads_per_grid() const { return triple(launch->threads_per_grid); }
  SOFTMETAL_INLINE Triple grid_origin() const { return {0, 0, 0}; }
  SOFTMETAL_INLINE Triple grid_size() const { return threads_per_grid(); }
};

// Walks the threadgroups [begin, end) of a dispatch, x fastest.
struct Threadgroups {
  uint32_t nx, ny;
  uint64_t left;
  Triple at;
  SOFTMETAL_INLINE Threadgroups(const SoftmetalLaunch* launch, uint64_t begin, uint64_t end)
      : nx(launch->threadgroups_per_grid[0]),
        ny(launch->threadgroups_per_grid[1]),
        left(end - begin),
        at{0, 0, 0} {
    if (begin >= end) {
      left = 0;
      return;
    }
    at.x = static_cast<uint32_t>(begin % nx);
    at.y = static_cast<uint32_t>(begin / nx % ny);
    at.z = static_cast<uint32_t>(begin / nx / ny);
  }
  SOFTMETAL_INLINE bool more() const { return left != 0; }
  SOFTMETAL_INLINE void next() {
    --left;
    if (++at.x != nx) return;
    at.x = 0;
    if (++at.y != ny) return;
    at.y = 0;
    ++at.z;
  }
  // Threads of this one: those at the far edges of a grid of threads may be smaller.
  SOFTMETAL_INLINE Triple size(const SoftmetalLaunch* launch) const {
    return {edge(launch, at.x, 0), edge(launch, at.y, 1), edge(launch, at.z, 2)};
  }
  static SOFTMETAL_INLINE uint32_t edge(const SoftmetalLaunch* launch, uint32_t group, int axis) {
    const uint32_t whole = launch->threads_per_threadgroup[axis];
    const uint32_t left = launch->threads_per_grid[axis] - group * whole;
    return left < whole ? left : whole;
  }
};

// Walks the threads [begin, end) of a grid as runs along x: the loop over a run is the one to vectorise.
struct Rows {
  uint32_t nx, ny;
  uint64_t left;
  uint32_t first, last, y, z;
  SOFTMETAL_INLINE Rows(const SoftmetalLaunch* launch, uint64_t begin, uint64_t end)
      : nx(launch->threads_per_grid[0]),
        ny(launch->threads_per_grid[1]),
        left(0),
        first(0),
        last(0),
        y(0),
        z(0) {
    if (begin >= end) return;
    left = end - begin;
    first = static_cast<uint32_t>(begin % nx);
    y = static_cast<uint32_t>(begin / nx % ny);
    z = static_cast<uint32_t>(begin / nx / ny);
    clip();
  }
  SOFTMETAL_INLINE void clip() { last = nx - first < left ? nx : static_cast<uint32_t>(first + left); }
  SOFTMETAL_INLINE bool more() const { return left != 0; }
  SOFTMETAL_INLINE void next() {
    left -= last - first;
    first = 0;
    if (++y == ny) {
      y = 0;
      ++z;
    }
    clip();
  }
};

// --- reflection

// Numbers of MTL::DataType. An enumeration is what it is stored as, anything else not listed a struct.
template <class T, bool = __is_enum(T)>
struct TypeInfo {
  static constexpr uint32_t code = 1;
  static constexpr const char* name = nullptr;
};
template <class T>
struct TypeInfo<T, true> : TypeInfo<__underlying_type(T)> {
  static constexpr const char* name = nullptr;
};

#define SOFTMETAL_TYPE(type, number)           \
  template <>                                  \
  struct TypeInfo<type, false> {               \
    static constexpr uint32_t code = number;   \
    static constexpr const char* name = #type; \
  };
#define SOFTMETAL_TYPES(type, number) \
  SOFTMETAL_TYPE(type, number)        \
  SOFTMETAL_TYPE(type##2, number + 1) \
  SOFTMETAL_TYPE(type##3, number + 2) \
  SOFTMETAL_TYPE(type##4, number + 3)
SOFTMETAL_TYPES(float, 3)
SOFTMETAL_TYPES(half, 16)
SOFTMETAL_TYPES(int, 29)
SOFTMETAL_TYPES(uint, 33)
SOFTMETAL_TYPES(short, 37)
SOFTMETAL_TYPES(ushort, 41)
SOFTMETAL_TYPES(char, 45)
SOFTMETAL_TYPES(uchar, 49)
SOFTMETAL_TYPES(bool, 53)
SOFTMETAL_TYPES(long, 81)
SOFTMETAL_TYPES(ulong, 85)
SOFTMETAL_TYPES(bfloat, 121)
#undef SOFTMETAL_TYPES
#undef SOFTMETAL_TYPE
// What int8_t is.
template <>
struct TypeInfo<signed char, false> : TypeInfo<char> {};
template <>
struct TypeInfo<void, false> {
  static constexpr uint32_t code = 0;
  static constexpr const char* name = nullptr;
};
// Numbered 2x2, 2x3, 2x4, 3x2, ...
template <int C, int R>
struct TypeInfo<metal::matrix<float, C, R>, false> {
  static constexpr uint32_t code = 7 + 3 * (C - 2) + R - 2;
  static constexpr const char* name = nullptr;
};
template <int C, int R>
struct TypeInfo<metal::matrix<half, C, R>, false> {
  static constexpr uint32_t code = 20 + 3 * (C - 2) + R - 2;
  static constexpr const char* name = nullptr;
};
// Stored as what they hold.
template <class T>
struct TypeInfo<metal::atomic<T>, false> : TypeInfo<T> {
  static constexpr const char* name = nullptr;
};
template <class T>
inline constexpr uint32_t atomic_flag = 0;
template <class T>
inline constexpr uint32_t atomic_flag<metal::atomic<T>> = SOFTMETAL_ARGUMENT_ATOMIC;
template <class T, int N>
struct TypeInfo<metal::packed_vec<T, N>, false> : TypeInfo<metal::vec<T, N>> {
  static constexpr const char* name = nullptr;
};

// Bytes, where the type does not say.
template <class T>
struct Sized {
  using type = T;
};
template <>
struct Sized<void> {
  using type = char;
};

template <class T>
constexpr SoftmetalArgument describe(const char* name, const char* written, uint32_t index,
                                     SoftmetalArgumentKind kind, SoftmetalAddressSpace space, int32_t active,
                                     uint32_t flags) {
  using Info = TypeInfo<Bare<T>>;
  using Element = typename Sized<Bare<T>>::type;
  return {name,
          Info::name ? Info::name : written,
          index,
          Info::code,
          sizeof(Element),
          alignof(Element),
          static_cast<uint8_t>(kind),
          static_cast<uint8_t>(space),
          static_cast<uint8_t>(is_const<Pointee<T>> ? SOFTMETAL_ACCESS_READ : SOFTMETAL_ACCESS_READ_WRITE),
          is_reference<T>,
          active,
          flags | atomic_flag<Bare<T>>};
}

template <class T>
constexpr SoftmetalFunctionConstant describe_constant(const char* name, uint32_t index, uint32_t offset,
                                                      bool required) {
  return {name, index, TypeInfo<Bare<T>>::code, offset, sizeof(T), required};
}

// The threadgroup variables in a kernel's body. Their sizes may depend on anything in it, so each notes
// itself: instantiating the kernel instantiates the note, which takes its place when the library is loaded.
struct ThreadgroupVariables {
  uint32_t bytes = 0;  // of all of them
  uint32_t end = 0;    // with what keeps them apart
  const SoftmetalVariable* first = nullptr;
};
template <auto Kernel>
inline ThreadgroupVariables threadgroup_variables;

template <class T>
struct remove_extents {
  using type = T;
};
template <class T, size_t N>
struct remove_extents<T[N]> : remove_extents<T> {};

SOFTMETAL_INLINE bool note(SoftmetalVariable& variable, uint32_t alignment, ThreadgroupVariables& all) {
#if SOFTMETAL_CHECKED
  constexpr uint32_t apart = SOFTMETAL_RED_ZONE;
#else
  constexpr uint32_t apart = 0;
#endif
  const uint32_t mask = (alignment > 16 ? alignment : 16) - 1;
  variable.offset = (all.end + apart + mask) & ~mask;
  variable.next = all.first;
  all.first = &variable;
  all.end = (variable.offset + variable.bytes + 15) / 16 * 16;
  all.bytes = ((all.bytes + mask) & ~mask) + (variable.bytes + 15) / 16 * 16;
  return true;
}

// `Tag` has the variable's name and the alignment that the source asks for.
template <auto Kernel, class Tag, class T>
struct ThreadgroupVariable {
  using Element = typename remove_extents<T>::type;
  static inline SoftmetalVariable variable = {
      Tag::name(), 0, sizeof(T), sizeof(Element), TypeInfo<typename remove_const<Element>::type>::code,
      nullptr};
  static constexpr uint32_t alignment = alignof(T) > alignof(Tag) ? alignof(T) : alignof(Tag);
  static inline const bool noted = note(variable, alignment, threadgroup_variables<Kernel>);
};

#if SOFTMETAL_WIDTH > 1
template <auto Kernel, class Tag, class T>
SOFTMETAL_INLINE T& threadgroup_variable() {
  (void)&ThreadgroupVariable<Kernel, Tag, T>::noted;
  return *reinterpret_cast<T*>(current_thread().variables +
                               ThreadgroupVariable<Kernel, Tag, T>::variable.offset);
}

// One of many threads, which all run by themselves.
struct LaneThread {
  const SoftmetalThread* self;
  SOFTMETAL_INLINE Triple thread_position_in_grid() const {
    const uint32_t (&n)[3] = self->launch->threads_per_threadgroup;
    const uint32_t (&group)[3] = self->threadgroup_position_in_grid;
    const uint32_t (&thread)[3] = self->thread_position_in_threadgroup;
    return {group[0] * n[0] + thread[0], group[1] * n[1] + thread[1], group[2] * n[2] + thread[2]};
  }
  SOFTMETAL_INLINE Triple threadgroup_position_in_grid() const {
    return triple(self->threadgroup_position_in_grid);
  }
  SOFTMETAL_INLINE Triple threads_per_grid() const { return triple(self->launch->threads_per_grid); }
  SOFTMETAL_INLINE Triple threadgroups_per_grid() const {
    return triple(self->launch->threadgroups_per_grid);
  }
  SOFTMETAL_INLINE Triple grid_origin() const { return {0, 0, 0}; }
  SOFTMETAL_INLINE Triple grid_size() const { return threads_per_grid(); }
  SOFTMETAL_INLINE Triple thread_position_in_threadgroup() const {
    return triple(self->thread_position_in_threadgroup);
  }
  SOFTMETAL_INLINE Triple threads_per_threadgroup() const { return triple(self->threads_per_threadgroup); }
  SOFTMETAL_INLINE Triple dispatch_threads_per_threadgroup() const {
    return triple(self->launch->threads_per_threadgroup);
  }
  SOFTMETAL_INLINE uint32_t thread_index_in_threadgroup() const { return self->thread_index_in_threadgroup; }
  SOFTMETAL_INLINE uint32_t thread_index_in_simdgroup() const { return self->thread_index_in_simdgroup; }
  SOFTMETAL_INLINE uint32_t simdgroup_index_in_threadgroup() const {
    return self->simdgroup_index_in_threadgroup;
  }
  SOFTMETAL_INLINE uint32_t threads_per_simdgroup() const { return SOFTMETAL_LANES; }
  SOFTMETAL_INLINE uint32_t simdgroups_per_threadgroup() const { return self->simdgroups_per_threadgroup; }
  SOFTMETAL_INLINE uint32_t dispatch_simdgroups_per_threadgroup() const {
    return (threads(self->launch->threads_per_threadgroup) + SOFTMETAL_LANES - 1) / SOFTMETAL_LANES;
  }
  SOFTMETAL_INLINE uint32_t thread_execution_width() const { return SOFTMETAL_LANES; }
  SOFTMETAL_INLINE uint32_t thread_index_in_quadgroup() const {
    return self->thread_index_in_threadgroup % kQuad;
  }
  SOFTMETAL_INLINE uint32_t quadgroup_index_in_threadgroup() const {
    return self->thread_index_in_threadgroup / kQuad;
  }
  SOFTMETAL_INLINE uint32_t quadgroups_per_threadgroup() const {
    return (threads(self->threads_per_threadgroup) + kQuad - 1) / kQuad;
  }
  SOFTMETAL_INLINE uint32_t dispatch_quadgroups_per_threadgroup() const {
    return (threads(self->launch->threads_per_threadgroup) + kQuad - 1) / kQuad;
  }

 private:
  static constexpr uint32_t kQuad = 4;
  static SOFTMETAL_INLINE uint32_t threads(const uint32_t (&size)[3]) { return size[0] * size[1] * size[2]; }
};
#endif

}  // namespace softmetal::entry
