// Prefix scans: blocks, their sums, and the offsets put back; and in one pass, by looking back.
#include <metal_stdlib>

using namespace metal;

constant constexpr uint per_thread = 4;

template <typename T>
struct CumSum {
  static constexpr constant T init = static_cast<T>(0);
  T operator()(T a, T b) const { return a + b; }
  T simd_exclusive(T v) const { return simd_prefix_exclusive_sum(v); }
};

template <typename T>
struct CumProd {
  static constexpr constant T init = static_cast<T>(1);
  T operator()(T a, T b) const { return a * b; }
  T simd_exclusive(T v) const { return simd_prefix_exclusive_product(v); }
};

template <typename T>
struct CumMax {
  static constexpr constant T init = metal::numeric_limits<T>::lowest();
  T operator()(T a, T b) const { return a > b ? a : b; }
  T simd_exclusive(T v) const {
    for (uint delta = 1; delta < 32; delta *= 2) {
      v = (*this)(v, simd_shuffle_and_fill_up(v, T(init), ushort(delta)));
    }
    return simd_shuffle_and_fill_up(v, T(init), ushort(1));
  }
};

template <typename T, typename Op, bool inclusive>
[[kernel]] void scan_blocks(const device T* in [[buffer(0)]], device T* out [[buffer(1)]],
                            device T* totals [[buffer(2)]], constant uint& n [[buffer(3)]],
                            uint group [[threadgroup_position_in_grid]], uint t [[thread_index_in_threadgroup]],
                            uint threads [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                            uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  Op op;
  threadgroup T simdgroup_totals[32];
  const uint first = (group * threads + t) * per_thread;

  T values[per_thread];
  T total = Op::init;
  for (uint i = 0; i < per_thread; i++) {
    values[i] = first + i < n ? in[first + i] : T(Op::init);
    total = op(total, values[i]);
  }
  T before = op.simd_exclusive(total);
  if (lane == 31) simdgroup_totals[simdgroup] = op(before, total);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  T prefix = Op::init;
  for (uint s = 0; s < simdgroup; s++) prefix = op(prefix, simdgroup_totals[s]);
  before = op(prefix, before);

  for (uint i = 0; i < per_thread; i++) {
    const T through = op(before, values[i]);
    if (first + i < n) out[first + i] = inclusive ? through : before;
    before = through;
  }
  if (t == threads - 1) totals[group] = before;
}

// The scanned totals of the blocks before, folded into every element.
template <typename T, typename Op>
[[kernel]] void scan_add(device T* out [[buffer(0)]], const device T* totals [[buffer(1)]],
                         constant uint& n [[buffer(2)]], uint group [[threadgroup_position_in_grid]],
                         uint t [[thread_index_in_threadgroup]], uint threads [[threads_per_threadgroup]]) {
  Op op;
  const T prefix = totals[group];
  for (uint i = 0; i < per_thread; i++) {
    const uint at = (group * per_thread + i) * threads + t;
    if (at < n) out[at] = op(prefix, out[at]);
  }
}

#define instantiate_scan(name, type, op)                                                        \
  template [[host_name("scan_inclusive_" name)]] [[kernel]] decltype(scan_blocks<type, op<type>, true>)   \
      scan_blocks<type, op<type>, true>;                                                        \
  template [[host_name("scan_exclusive_" name)]] [[kernel]] decltype(scan_blocks<type, op<type>, false>)  \
      scan_blocks<type, op<type>, false>;                                                       \
  template [[host_name("scan_add_" name)]] [[kernel]] decltype(scan_add<type, op<type>>)        \
      scan_add<type, op<type>>;

instantiate_scan("sum_float32", float, CumSum)
instantiate_scan("sum_int32", int32_t, CumSum)
instantiate_scan("prod_float32", float, CumProd)
instantiate_scan("max_int32", int32_t, CumMax)
instantiate_scan("max_float32", float, CumMax)

// One pass over the data. A threadgroup takes the number of its block from a counter, so that all blocks before
// have begun, and adds up what those have published: a total (state 1) or all up to there (state 2), with the
// state in the two highest bits.
constant constexpr uint state_total = 1u << 30, state_prefix = 2u << 30, value_mask = state_total - 1;

kernel void scan_look_back(const device uint* in [[buffer(0)]], device uint* out [[buffer(1)]],
                           device atomic_uint* next_block [[buffer(2)]], device atomic_uint* published [[buffer(3)]],
                           constant uint& n [[buffer(4)]], uint t [[thread_index_in_threadgroup]],
                           uint threads [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                           uint simdgroup [[simdgroup_index_in_threadgroup]],
                           uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup uint block, block_prefix;
  threadgroup uint totals[32];
  if (t == 0) block = atomic_fetch_add_explicit(next_block, 1u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const uint i = block * threads + t;
  const uint value = i < n ? in[i] : 0;
  const uint inclusive = simd_prefix_inclusive_sum(value);
  if (lane == 31) totals[simdgroup] = inclusive;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint before = 0;
  for (uint s = 0; s < simdgroup; s++) before += totals[s];

  if (t == 0) {
    uint total = 0;
    for (uint s = 0; s < simdgroups; s++) total += totals[s];
    uint prefix = 0;
    if (block != 0) {
      atomic_store_explicit(&published[block], state_total | total, memory_order_relaxed);
      for (uint look = block; look > 0;) {
        const uint seen = atomic_load_explicit(&published[look - 1], memory_order_relaxed);
        if (seen == 0) continue;
        prefix += seen & value_mask;
        if ((seen & state_prefix) != 0) break;
        look--;
      }
    }
    atomic_store_explicit(&published[block], state_prefix | (prefix + total), memory_order_relaxed);
    block_prefix = prefix;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (i < n) out[i] = block_prefix + before + inclusive;
}
