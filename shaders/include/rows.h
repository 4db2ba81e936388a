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

template <uint N, typename T>
inline void load_chunk(thread float (&v)[N], const device T* from) {
#if !defined(__SOFTMETAL__)
  if (N == 4) {
    const float4 four = float4(*reinterpret_cast<const device vec<T, 4>*>(from));
    for (uint j = 0; j < N; j++) v[j] = four[j];
    return;
  }
#endif
  for (uint j = 0; j < N; j++) v[j] = float(from[j]);
}

// `stream`: the output as a whole is too large for the caches (see streams()).
template <uint N, typename T>
inline void store_chunk(device T* to, thread const float (&v)[N], bool stream) {
#if defined(__SOFTMETAL__)
  softmetal::store_floats(to, v, N, stream);
#else
  if (N == 4) {
    *reinterpret_cast<device vec<T, 4>*>(to) = vec<T, 4>(float4(v[0], v[1], v[2], v[3]));
    return;
  }
  for (uint j = 0; j < N; j++) to[j] = T(v[j]);
#endif
}

// The lanes of one SIMD-group round n floats of threadgroup memory to T and store them.
template <typename T>
inline void store_row(device T* to, threadgroup const float* row, uint n, uint lane, uint width, bool stream) {
#if defined(__SOFTMETAL__)
  if (width == 1) {
    softmetal::store_floats(to, row, n, stream);
    return;
  }
#endif
  for (uint i = lane; i < n; i += width) to[i] = T(row[i]);
}

inline bool streams(ulong output_bytes) {
#if defined(__SOFTMETAL__)
  return output_bytes >= softmetal::stream_threshold;
#else
  return false;
#endif
}

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
