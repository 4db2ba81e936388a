// How the threads of a threadgroup walk, reduce and store the rows that they share.
#pragma once

#include <metal_stdlib>

using namespace metal;

#if defined(__SOFTMETAL__)
// One lane walks a whole row: the compiler vectorises loops of unit stride by itself,
// and an output is stored in runs that hold whole cache lines.
constant constexpr uint read_size = 1;
constant constexpr uint chunk_size = 32;
constant constexpr bool chunks_need_alignment = false;
#else
// Neighbouring lanes move four neighbouring elements each, in one vector access.
constant constexpr uint read_size = 4;
constant constexpr uint chunk_size = 4;
constant constexpr bool chunks_need_alignment = true;
#endif

// SIMD-groups of the largest threadgroup that any of these kernels is launched with.
constant constexpr uint max_simdgroups = 64;

// Where a thread stands among those that share its threadgroup's work.
struct Team {
  uint thread_index;
  uint threads;
  uint lane;
  uint width;
  uint simdgroup;
  uint simdgroups;
};

// The arguments of a kernel that say so, and the Team made of them.
#define TEAM_ARGUMENTS                                                                         \
  uint thread_index [[thread_index_in_threadgroup]], uint threads [[threads_per_threadgroup]], \
      uint lane [[thread_index_in_simdgroup]], uint width [[threads_per_simdgroup]],           \
      uint simdgroup [[simdgroup_index_in_threadgroup]], uint simdgroups [[simdgroups_per_threadgroup]]
#define TEAM \
  Team { thread_index, threads, lane, width, simdgroup, simdgroups }

template <uint N, typename T>
inline void load_chunk(thread float (&v)[N], const device T* from) {
#if defined(__SOFTMETAL__)
  softmetal::load_floats<N>(v, from);
#else
  if (N == 4) {
    const float4 four = float4(*reinterpret_cast<const device vec<T, 4>*>(from));
    for (uint j = 0; j < N; j++) v[j] = four[j];
    return;
  }
  for (uint j = 0; j < N; j++) v[j] = float(from[j]);
#endif
}

// Asks for n elements that this threadgroup, or the next, will read soon. A GPU hides the wait by other
// means.
template <typename T>
inline void prefetch(const device T* from, uint n) {
#if defined(__SOFTMETAL__)
  softmetal::prefetch(from, n);
#endif
}

// Whether an output of this size is better written past the caches, by the lone lane that writes it in order.
inline bool streams(ulong output_bytes, uint width) {
#if defined(__SOFTMETAL__)
  return width == 1 && output_bytes >= softmetal::stream_threshold;
#else
  return false;
#endif
}

// Stores what the threads computed in float, rounded to T. A lone lane stores from `start` on without gaps.
template <typename T>
struct RowWriter {
#if defined(__SOFTMETAL__)
  bool stream;
  softmetal::RunStream<T> run;

  RowWriter(device T* start, bool stream_run) : stream(stream_run), run(start) {}

  void store(device T* to, thread const float* v, uint n) {
    if (stream) {
      run.append_floats(v, n);
    } else {
      softmetal::store_floats(to, v, n);
    }
  }

  void finish() {
    if (stream) run.finish();
  }
#else
  RowWriter(device T*, bool) {}
  void finish() {}
#endif

  template <uint N>
  void store_chunk(device T* to, thread const float (&v)[N]) {
#if defined(__SOFTMETAL__)
    store(to, v, N);
#else
    if (N == 4) {
      *reinterpret_cast<device vec<T, 4>*>(to) = vec<T, 4>(float4(v[0], v[1], v[2], v[3]));
      return;
    }
    for (uint j = 0; j < N; j++) to[j] = T(v[j]);
#endif
  }

  void store_one(device T* to, float v) {
#if defined(__SOFTMETAL__)
    store(to, &v, 1);
#else
    *to = T(v);
#endif
  }

  // The lanes of one SIMD-group store n floats of threadgroup memory.
  void store_row(device T* to, threadgroup const float* row, uint n, uint lane, uint width) {
#if defined(__SOFTMETAL__)
    if (width == 1) {
      store(to, row, n);
      return;
    }
#endif
    for (uint i = lane; i < n; i += width) to[i] = T(row[i]);
  }

  // They copy n elements, bit for bit. `to` may be `from`.
  void copy_row(device T* to, const device T* from, uint n, uint lane, uint width) {
#if defined(__SOFTMETAL__)
    if (stream) {
      run.append(from, n);
      return;
    }
#endif
    for (uint i = lane; i < n; i += width) to[i] = from[i];
  }
};

// The sum of one value of every thread, given to every thread.
inline float threadgroup_sum(float value, Team team, threadgroup float* partial) {
  value = simd_sum(value);
  if (team.simdgroups == 1) return value;
  if (team.lane == 0) partial[team.simdgroup] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0.0f;
  for (uint i = team.lane; i < team.simdgroups; i += team.width) sum += partial[i];
  return simd_sum(sum);
}
