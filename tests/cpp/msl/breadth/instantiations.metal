#include <metal_stdlib>
using namespace metal;
// mlx style
#define MLX_MTL_CONST static constant constexpr const
MLX_MTL_CONST int SIMD_SIZE = 32;
MLX_MTL_CONST constexpr int kOther = 3;
#define instantiate_kernel(name, func, ...) \
  template [[host_name(name)]] [[kernel]] decltype(func<__VA_ARGS__>) func<__VA_ARGS__>;
constant bool align_M [[function_constant(200)]];
constant bool has_mask [[function_constant(20)]];
template <typename U>
struct Limits {
  static const constant U max;
  static const constant U min;
  static const constant U finite_max;
};
#define instantiate_default_limit(type)                                             \
  template <>                                                                       \
  struct Limits<type> {                                                             \
    static constexpr constant type max = metal::numeric_limits<type>::max();        \
    static constexpr constant type min = metal::numeric_limits<type>::min();        \
    static constexpr constant type finite_max = metal::numeric_limits<type>::max(); \
  };
instantiate_default_limit(int32_t);
instantiate_default_limit(uint8_t);
template <>
struct Limits<float> {
  static constexpr constant float max = metal::numeric_limits<float>::infinity();
  static constexpr constant float min = -metal::numeric_limits<float>::infinity();
  static constexpr constant float finite_max = 3.0f;
};
template <typename U>
inline U out_val() {
  return Limits<U>::max;
}
struct complex64_t {
  float real;
  float imag;
  constexpr complex64_t(float real, float imag) : real(real), imag(imag) {};
  constexpr complex64_t() : real(0), imag(0) {};
  constexpr complex64_t() threadgroup : real(0), imag(0) {};
  template <typename T, typename = typename enable_if<is_convertible_v<T, float>>::type>
  constexpr complex64_t(T x) thread : real(x), imag(0) {}
  template <typename T, typename = typename enable_if<is_convertible_v<T, float>>::type>
  constexpr complex64_t(T x) device : real(x), imag(0) {}
  template <typename T>
  constexpr operator T() const thread {
    return static_cast<T>(real);
  }
  template <typename T>
  constexpr operator T() const device {
    return static_cast<T>(real);
  }
};
constexpr complex64_t operator+(complex64_t a, complex64_t b) { return {a.real + b.real, a.imag + b.imag}; }
constexpr bool operator==(complex64_t a, complex64_t b) { return a.real == b.real && a.imag == b.imag; }
constexpr complex64_t operator-(complex64_t a) { return {-a.real, -a.imag}; }
#define BINARY_OP(op)        \
  struct op##_ {             \
    template <typename T>    \
    T operator()(T a, T b) { \
      return a op b;         \
    }                        \
  };
struct Add {
  template <typename T>
  T operator()(T x, T y) {
    return x + y;
  }
};
struct LogAddExp {
  template <typename T>
  T operator()(T x, T y) {
    if (metal::isnan(x) || metal::isnan(y)) {
      return metal::numeric_limits<T>::quiet_NaN();
    }
    constexpr T inf = metal::numeric_limits<T>::infinity();
    T maxval = metal::max(x, y);
    T minval = metal::min(x, y);
    return (minval == -inf || maxval == inf) ? maxval : (maxval + log(metal::exp(minval - maxval)));
  };
};
template <typename T, typename U, typename Op, int N = 4>
[[kernel]] void binary_vv(device const T* a, device const T* b, device U* c, constant uint& size,
                          uint index [[thread_position_in_grid]]) {
  index *= N;
  if (N > 1 && index + N > size) {
    for (int i = 0; index + i < size; ++i) c[index + i] = Op()(a[index + i], b[index + i]);
  } else {
    for (int i = 0; i < N; ++i) {
      c[index + i] = Op()(a[index + i], b[index + i]);
    }
  }
}
#define instantiate_binary(tname, type) instantiate_kernel("vv_Add" #tname, binary_vv, type, type, Add)
instantiate_binary(float32, float) instantiate_binary(bool_, bool)
    instantiate_kernel("lae", binary_vv, float, float, LogAddExp, 1) template <typename IdxT = int64_t>
    METAL_FUNC IdxT
    elem_to_loc(IdxT elem, constant const int* shape, constant const int64_t* strides, int ndim) {
  IdxT loc = 0;
  for (int i = ndim - 1; i >= 0 && elem > 0; --i) {
    loc += (elem % shape[i]) * IdxT(strides[i]);
    elem /= shape[i];
  }
  return loc;
}
METAL_FUNC ulong2 elem_to_loc_2(uint3 elem, constant const int64_t strides[3]) {
  return ulong2(elem.x * strides[0], elem.y * strides[1]);
}
template <int D, bool B>
struct Cond;
template <int D>
struct Cond<D, true> {
  static constant constexpr int v = D;
};
template <typename T, short BROWS, short BCOLS, short dst_ld, short reduction_dim, short tgp_size,
          short alignment = 1, short n_reads = (BCOLS * BROWS) / (tgp_size), short TCOLS = BCOLS / n_reads,
          short TROWS = tgp_size / TCOLS>
struct BlockLoader {
  static constant constexpr const short n_rows = (BROWS + TROWS - 1) / TROWS;
  const int src_ld;
  const int tile_stride;
  const short thread_idx;
  const short bi;
  const short bj;
  threadgroup T* dst;
  const device T* src;
  struct alignas(alignment * sizeof(T)) ReadVector {
    uint8_t v[sizeof(T) * 4];
  };
  METAL_FUNC BlockLoader(const device T* src_, const int src_ld_, threadgroup T* dst_,
                         ushort simd_group_id [[simdgroup_index_in_threadgroup]],
                         ushort simd_lane_id [[thread_index_in_simdgroup]])
      : src_ld(src_ld_),
        tile_stride(reduction_dim ? BCOLS : BROWS * src_ld),
        thread_idx(simd_group_id * 32 + simd_lane_id),
        bi(thread_idx / TCOLS),
        bj(4 * (thread_idx % TCOLS)),
        dst(dst_ + bi * dst_ld + bj),
        src(src_ + bi * src_ld + bj) {}
  METAL_FUNC void load_unsafe() const {
    _Pragma("clang loop unroll(full)") for (short i = 0; i < BROWS; i += TROWS) {
      *((threadgroup ReadVector*)(&dst[i * dst_ld])) = *((const device ReadVector*)(&src[i * src_ld]));
    }
  }
  METAL_FUNC void next() { src += tile_stride; }
};
template <typename T>
[[kernel, max_total_threads_per_threadgroup(32 * 2)]] void steel(
    const device T* A [[buffer(0)]], device T* D [[buffer(3)]],
    const constant int* batch_shape [[buffer(6), function_constant(has_mask)]],
    const constant int64_t* bs [[buffer(7)]], uint simd_lane_id [[thread_index_in_simdgroup]],
    uint simd_group_id [[simdgroup_index_in_threadgroup]], uint3 tid [[threadgroup_position_in_grid]],
    uint3 lid [[thread_position_in_threadgroup]]) {
  (void)lid;
  using loader_t = BlockLoader<T, 32, 16, 20, 1, 64>;
  threadgroup T As[32 * 20];
  thread loader_t loader(A, 16, As, simd_group_id, simd_lane_id);
  loader.load_unsafe();
  loader.next();
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float v = As[simd_lane_id];
  v = simd_max(v);
  v += align_M ? 1 : 0;
  ulong2 l = elem_to_loc_2(tid, bs);
  if (has_mask) v += elem_to_loc<int>(3, batch_shape, bs, 2);
  thread const auto& vr = v;
  D[tid.x + l.x] = T(vr + out_val<T>() + kOther);
}
instantiate_kernel("steel_f32", steel, float)
    [[kernel]] void cplx(device complex64_t* x [[buffer(0)]], device complex64_t& y [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
  complex64_t z = x[i];
  x[i] = z + complex64_t(1.0f) + static_cast<complex64_t>(y) + (-z);
}
