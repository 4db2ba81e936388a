// What depends on the SIMD width, at width 1: SIMD-group and quad-group functions, barriers and
// simdgroup_matrix; and the bulk stores.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "softmetal/msl/stdlib/softmetal_stdlib.h"

namespace {

// Small whole numbers: every product and sum below is exact in every type.
template <class T>
std::vector<T> ramp(size_t n, int modulus) {
  std::vector<T> v(n);
  for (size_t i = 0; i < n; i++) v[i] = T(float(int(i * 7) % modulus - modulus / 2));
  return v;
}

template <class A, class B, class C>
void check_product() {
  constexpr int K = 24, N = 40, M = 16;
  const std::vector<A> a = ramp<A>(M * K, 11);
  const std::vector<B> b = ramp<B>(K * N, 5);
  std::vector<C> c(M * N, C(-1.0f));
  for (int i = 0; i < M; i += 8) {
    for (int j = 0; j < N; j += 8) {
      metal::simdgroup_matrix<C, 8, 8> sum = metal::make_filled_simdgroup_matrix<C, 8, 8>(C(2.0f));
      for (int k = 0; k < K; k += 8) {
        metal::simdgroup_matrix<A, 8, 8> left;
        metal::simdgroup_matrix<B, 8, 8> right;
        metal::simdgroup_load(left, a.data(), K, ulong2(k, i));
        metal::simdgroup_load(right, b.data() + k * N + j, N);
        metal::simdgroup_multiply_accumulate(sum, left, right, sum);
      }
      metal::simdgroup_store(sum, c.data(), N, ulong2(j, i));
    }
  }
  int wrong = 0;
  for (int i = 0; i < M; i++) {
    for (int j = 0; j < N; j++) {
      float want = 2.0f;
      for (int k = 0; k < K; k++) want += float(a[i * K + k]) * float(b[k * N + j]);
      wrong += float(c[i * N + j]) != float(C(want));
    }
  }
  CHECK(wrong == 0);
}

template <class T>
void check_transposes() {
  const std::vector<T> source = ramp<T>(12 * 12, 101);
  metal::simdgroup_matrix<T, 8, 8> m;
  metal::simdgroup_load(m, source.data(), 12, ulong2(3, 2), true);
  std::vector<T> plain(64), turned(12 * 12, T(0.0f));
  metal::simdgroup_store(m, plain.data());
  metal::simdgroup_store(m, turned.data(), 12, ulong2(3, 2), true);
  int wrong = 0;
  for (int r = 0; r < 8; r++) {
    for (int c = 0; c < 8; c++) {
      wrong += plain[r * 8 + c] != source[(c + 2) * 12 + r + 3];
      wrong += turned[(r + 2) * 12 + c + 3] != source[(r + 2) * 12 + c + 3];
    }
  }
  CHECK(wrong == 0);
  CHECK(turned[0] == T(0.0f));
}

}  // namespace

TEST_CASE("simdgroup_matrix multiplies tiles of every type") {
  check_product<float, float, float>();
  check_product<half, half, float>();
  check_product<bfloat, bfloat, float>();
  check_product<half, half, half>();
  check_product<bfloat, bfloat, bfloat>();
  check_product<bfloat, float, float>();
}

TEST_CASE("simdgroup_matrix loads and stores transposed") {
  check_transposes<float>();
  check_transposes<half>();
  check_transposes<bfloat>();
}

TEST_CASE("tiles of small floats round like the type itself") {
  const float values[8] = {1.00390625f, 1.01171875f, 65519.0f,    65520.0f,
                           0x1p-25f,    0x1.8p-24f,  -0x1.004p0f, 3e38f};
  metal::simdgroup_matrix<half, 8, 8> h;
  metal::simdgroup_matrix<bfloat, 8, 8> b;
  for (int i = 0; i < 64; i++) {
    h.rows[i / 8][i % 8] = values[i % 8];
    b.rows[i / 8][i % 8] = i == 63 ? __builtin_nanf("") : values[i % 8];
  }
  half h_out[64];
  bfloat b_out[64];
  metal::simdgroup_store(h, h_out);
  metal::simdgroup_store(b, b_out);
  for (int i = 0; i < 63; i++) {
    CHECK(h_out[i].bits == half(values[i % 8]).bits);
    CHECK(b_out[i].bits == bfloat(values[i % 8]).bits);
  }
  CHECK(metal::isnan(b_out[63]));
}

TEST_CASE("simdgroup_matrix: diagonal, product and elements") {
  const metal::simdgroup_float8x8 identity(1.0f),
      twice = metal::make_diagonal_simdgroup_matrix<float, 8, 8>(2.0f);
  metal::simdgroup_float8x8 m, product;
  const std::vector<float> source = ramp<float>(64, 53);
  metal::simdgroup_load(m, source.data());
  metal::simdgroup_multiply(product, m, twice);
  CHECK(product.thread_elements()[9] == 2 * source[9]);
  product = m * identity;
  float out[64];
  metal::simdgroup_store(product, out);
  CHECK(std::memcmp(out, source.data(), sizeof(out)) == 0);
  for (size_t i = 0; i < product.thread_elements().size(); i++) product.thread_elements()[i] += 1.0f;
  CHECK(product.thread_elements()[63] == source[63] + 1.0f);
  metal::simdgroup_half8x8 h(half(1.0f));
  h.thread_elements()[1] = half(0.1f);
  h.thread_elements()[1] *= half(3.0f);
  CHECK(h.thread_elements()[1] == half(0.1f) * half(3.0f));
}

TEST_CASE("SIMD-group and quad-group functions of one lane") {
  using namespace metal;
  CHECK(simd_sum(3.5f) == 3.5f);
  CHECK(simd_max(half(2.0f)) == half(2.0f));
  CHECK(all(simd_product(float3(1, 2, 3)) == float3(1, 2, 3)));
  CHECK(simd_xor(5u) == 5u);
  CHECK(simd_prefix_inclusive_sum(4) == 4);
  CHECK(simd_prefix_exclusive_sum(4) == 0);
  CHECK(simd_prefix_exclusive_product(4.0f) == 1.0f);
  CHECK(simd_broadcast(7, 0) == 7);
  CHECK(simd_broadcast_first(7) == 7);
  CHECK(simd_shuffle(7, 0) == 7);
  CHECK(simd_shuffle_xor(7, 0) == 7);
  CHECK(simd_shuffle_rotate_down(7, 3) == 7);
  CHECK(simd_shuffle_and_fill_up(7, 9, 1) == 9);
  CHECK(simd_shuffle_and_fill_down(7, 9, 0) == 7);
  CHECK(simd_all(true));
  CHECK(!simd_any(false));
  CHECK(simd_is_first());
  CHECK(ulong(simd_ballot(true)) == 1);
  CHECK(ulong(simd_active_threads_mask()) == 1);
  CHECK(!simd_ballot(false).any());
  CHECK(quad_sum(3) == 3);
  CHECK(quad_prefix_exclusive_sum(3) == 0);
  CHECK(uint(quad_ballot(true)) == 1);
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  simdgroup_barrier(mem_flags::mem_none);
}

TEST_CASE("copies of a lone lane") {
  const std::vector<float> source = ramp<float>(12 * 12, 101);
  float line[20], tile[6 * 8];
  for (float& x : tile) x = -9.0f;
  metal::simdgroup_event events[2];
  events[0].async_copy(line, source.data() + 1, 20);
  events[1].async_copy(tile, 8, ushort2(5, 6), source.data(), 12, ushort2(4, 5));
  metal::simdgroup_event::wait(2, events);
  CHECK(std::memcmp(line, source.data() + 1, sizeof(line)) == 0);
  int wrong = 0;
  for (int r = 0; r < 6; r++)
    for (int c = 0; c < 8; c++)
      wrong += tile[r * 8 + c] != (c > 4 ? -9.0f : r < 5 && c < 4 ? source[size_t(r * 12 + c)] : 0.0f);
  CHECK(wrong == 0);
}

TEST_CASE("store_floats rounds and stores every length") {
  std::vector<float> values = ramp<float>(160, 97);
  values[5] = 1.00390625f;
  values[40] = 0x1p-130f;  // a subnormal, which some instructions flush
  for (uint32_t n : {0u, 1u, 7u, 16u, 18u, 31u, 32u, 64u, 100u, 160u}) {
    for (size_t offset : {0, 8, 1}) {
      alignas(64) bfloat out[200];
      for (bfloat& x : out) x = bfloat(-1.0f);
      softmetal::store_floats(out + offset, values.data(), n);
      int wrong = 0;
      for (uint32_t i = 0; i < n; i++) wrong += out[offset + i].bits != bfloat(values[i]).bits;
      CHECK(wrong == 0);
      CHECK(float(out[offset + n]) == -1.0f);
    }
  }
}

TEST_CASE("RunStream stores what plain stores would, from every place in a line") {
  const std::vector<float> values = ramp<float>(40000, 97);
  std::vector<bfloat> out(40200);
  for (size_t offset = 0; offset < 70; offset += 3) {
    for (uint32_t length : {1u, 18u, 32u, 72u, 100u, 11000u}) {
      const uint32_t total = length == 11000 ? 33000 : 7 * length;
      std::fill(out.begin(), out.end(), bfloat(-1.0f));
      softmetal::RunStream<bfloat> run(out.data() + offset);
      for (uint32_t i = 0; i < total; i += length) {
        if (length == 18) {
          bfloat* room = run.reserve(length);
          for (uint32_t k = 0; k < length; k++) room[k] = bfloat(values[i + k]);
        } else {
          run.append_floats(values.data() + i, length);
        }
      }
      run.finish();
      softmetal::stream_fence();
      int wrong = 0;
      for (size_t i = 0; i < out.size(); i++) {
        const bool ours = i >= offset && i < offset + total;
        wrong += out[i].bits != bfloat(ours ? values[i - offset] : -1.0f).bits;
      }
      CHECK(wrong == 0);
    }
  }
}
