// Integer functions, packing and atomics of our <metal_stdlib>.
#include <doctest/doctest.h>

#include <cmath>
#include <thread>
#include <vector>

#include "softmetal/msl/stdlib/softmetal_stdlib.h"

namespace {

__extension__ typedef __int128 wide;

template <class T>
std::vector<T> interesting() {
  const wide low = wide(metal::numeric_limits<T>::min()), high = wide(metal::numeric_limits<T>::max());
  std::vector<T> v;
  for (wide x : {low, low + 1, low / 2, wide(-7), wide(-1), wide(0), wide(1), wide(2), wide(3), wide(77),
                 high / 3, high / 2, high / 2 + 1, high - 1, high}) {
    if (x >= low && x <= high) v.push_back(T(x));
  }
  uint32_t seed = 9;
  for (int i = 0; i < 20; i++) {
    seed = seed * 1664525u + 1013904223u;
    v.push_back(T((uint64_t(seed) << 32) ^ (uint64_t(seed) * 2654435761u)));
  }
  return v;
}
template <class T>
T saturate(wide x) {
  const wide low = wide(metal::numeric_limits<T>::min()), high = wide(metal::numeric_limits<T>::max());
  return T(x < low ? low : x > high ? high : x);
}
wide floor_half(wide x) { return x >= 0 ? x / 2 : -((-x + 1) / 2); }

template <class T>
void check_integer() {
  constexpr int bits = int(sizeof(T) * 8);
  using U = metal::make_unsigned_t<T>;
  int wrong = 0;
  for (T a : interesting<T>()) {
    int ones = 0, leading = bits, trailing = bits;
    U reversed = 0;
    for (int i = 0; i < bits; i++) {
      if (((U(a) >> i) & 1) == 0) continue;
      ones++;
      leading = bits - 1 - i;
      if (trailing == bits) trailing = i;
      reversed = U(reversed | (U(1) << (bits - 1 - i)));
    }
    wrong += metal::popcount(a) != T(ones);
    wrong += metal::clz(a) != T(leading);
    wrong += metal::ctz(a) != T(trailing);
    wrong += U(metal::reverse_bits(a)) != reversed;
    wrong += U(metal::abs(a)) != U(a < 0 ? -wide(a) : wide(a));
    for (uint offset = 0; offset < uint(bits); offset += 3) {
      for (uint count = 0; count + offset <= uint(bits); count += 5) {
        const U field =
            count == 0 ? U(0) : U(U(U(a) >> offset) << (uint(bits) - count)) >> (uint(bits) - count);
        const bool negative = metal::is_signed_v<T> && count > 0 && ((field >> (count - 1)) & 1) != 0;
        const wide value = negative ? wide(field) - (wide(1) << count) : wide(field);
        wrong += wide(metal::extract_bits(a, offset, count)) != value;
        const T inserted = metal::insert_bits(a, T(-1), offset, count);
        for (uint i = 0; i < uint(bits); i++) {
          const bool expected = (i >= offset && i < offset + count) || ((U(a) >> i) & 1) != 0;
          wrong += (((U(inserted) >> i) & 1) != 0) != expected;
        }
      }
    }
    for (T b : interesting<T>()) {
      const wide x = wide(a), y = wide(b);
      wrong += wide(U(metal::absdiff(a, b))) != (x > y ? x - y : y - x);
      wrong += metal::addsat(a, b) != saturate<T>(x + y);
      wrong += metal::subsat(a, b) != saturate<T>(x - y);
      wrong += wide(metal::hadd(a, b)) != floor_half(x + y);
      wrong += wide(metal::rhadd(a, b)) != floor_half(x + y + 1);
      wrong += metal::max(a, b) != (x > y ? a : b);
      const uint turn = uint(U(b)) % uint(bits);
      wrong +=
          U(metal::rotate(a, b)) != (turn == 0 ? U(a) : U(U(U(a) << turn) | U(U(a) >> (uint(bits) - turn))));
      if (sizeof(T) < 8 || metal::is_signed_v<T>) {
        wrong += metal::mulhi(a, b) != T((x * y) >> bits);
        wrong += metal::madhi(a, b, T(3)) != T(U(U(T((x * y) >> bits)) + 3));
      }
      if (sizeof(T) < 8) wrong += metal::madsat(a, b, a) != saturate<T>(x * y + x);
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("integer functions at every width") {
  check_integer<char>();
  check_integer<uchar>();
  check_integer<short>();
  check_integer<ushort>();
  check_integer<int>();
  check_integer<uint>();
  check_integer<long>();
  check_integer<ulong>();
  CHECK(metal::mulhi(0xFFFFFFFFFFFFFFFFul, 0xFFFFFFFFFFFFFFFFul) == 0xFFFFFFFFFFFFFFFEul);
  CHECK(metal::mul24(3, -4) == -12);
  CHECK(metal::mul24(0x01000003u, 2u) == 6u);
  CHECK(metal::mad24(1000u, 1000u, 1u) == 1000001u);
  CHECK(metal::all(metal::clz(uint2(1, 0)) == uint2(31, 32)));
  CHECK(metal::all(metal::extract_bits(uint2(0xF0, 0x10), 4, 4) == uint2(15, 1)));
  CHECK(metal::all(metal::insert_bits(uint2(0, 1), uint2(3, 0), 1, 2) == uint2(6, 1)));
}

TEST_CASE("packing") {
  for (uint byte = 0; byte < 256; byte++) {
    const uint word = byte | (255 - byte) << 8 | 128u << 16 | byte << 24;
    CHECK(metal::pack_float_to_unorm4x8(metal::unpack_unorm4x8_to_float(word)) == word);
    CHECK(metal::pack_half_to_unorm4x8(metal::unpack_unorm4x8_to_half(word)) == word);
    CHECK(metal::pack_float_to_srgb_unorm4x8(metal::unpack_unorm4x8_srgb_to_float(word)) == word);
    const uint without_least =
        word ^ (byte == 128 ? 0x01000001u : 0u) ^ (byte == 127 ? 0x100u : 0u) ^ 0x10000u;
    CHECK(metal::pack_float_to_snorm4x8(metal::unpack_snorm4x8_to_float(without_least)) == without_least);
  }
  CHECK(metal::unpack_unorm4x8_to_float(0xFF000080u).x == 128.0f / 255.0f);
  CHECK(metal::unpack_unorm4x8_to_float(0xFF000080u).w == 1.0f);
  CHECK(metal::unpack_snorm4x8_to_float(0x0000807Fu).x == 1.0f);
  CHECK(metal::unpack_snorm4x8_to_float(0x0000807Fu).y == -1.0f);
  CHECK(metal::pack_float_to_unorm2x16(float2(1.5f, -1.0f)) == 0xFFFFu);
  CHECK(metal::pack_float_to_unorm2x16(metal::unpack_unorm2x16_to_float(0x12345678u)) == 0x12345678u);
  CHECK(metal::pack_float_to_snorm2x16(metal::unpack_snorm2x16_to_float(0x9234F678u)) == 0x9234F678u);
  CHECK(metal::pack_float_to_unorm10a2(metal::unpack_unorm10a2_to_float(0xDEADBEEFu)) == 0xDEADBEEFu);
  CHECK(metal::pack_float_to_unorm565(metal::unpack_unorm565_to_float(ushort(0xBEEF))) == 0xBEEF);
  CHECK(metal::unpack_unorm565_to_float(ushort(0xF800)).x == 1.0f);
  CHECK(metal::pack_float_to_snorm2x16(float2(__builtin_nanf(""), 2.0f)) == 0x7FFF0000u);
}

TEST_CASE("atomics, one thread") {
  using namespace metal;
  metal::atomic_int i;
  atomic_store_explicit(&i, 5, memory_order_relaxed);
  CHECK(atomic_fetch_add_explicit(&i, 3, memory_order_relaxed) == 5);
  CHECK(atomic_fetch_sub_explicit(&i, 1, memory_order_relaxed) == 8);
  CHECK(atomic_fetch_min_explicit(&i, -2, memory_order_relaxed) == 7);
  CHECK(atomic_fetch_max_explicit(&i, 12, memory_order_relaxed) == -2);
  CHECK(atomic_fetch_and_explicit(&i, 10, memory_order_relaxed) == 12);
  CHECK(atomic_fetch_or_explicit(&i, 1, memory_order_relaxed) == 8);
  CHECK(atomic_fetch_xor_explicit(&i, 3, memory_order_relaxed) == 9);
  CHECK(atomic_exchange_explicit(&i, 100, memory_order_relaxed) == 10);
  int expected = 99;
  CHECK(!atomic_compare_exchange_weak_explicit(&i, &expected, 1, memory_order_relaxed, memory_order_relaxed));
  CHECK(expected == 100);
  while (
      !atomic_compare_exchange_weak_explicit(&i, &expected, 1, memory_order_relaxed, memory_order_relaxed)) {
  }
  CHECK(atomic_load_explicit(&i, memory_order_relaxed) == 1);
  metal::atomic_float f;
  atomic_store_explicit(&f, 1.5f, memory_order_relaxed);
  CHECK(atomic_fetch_add_explicit(&f, 2, memory_order_relaxed) == 1.5f);
  CHECK(atomic_fetch_sub_explicit(&f, 0.5f, memory_order_relaxed) == 3.5f);
  CHECK(atomic_load_explicit(&f, memory_order_relaxed) == 3.0f);
  metal::atomic_ulong u;
  atomic_store_explicit(&u, 1ul << 40, memory_order_relaxed);
  atomic_max_explicit(&u, 1ul << 50, memory_order_relaxed);
  atomic_min_explicit(&u, 1ul << 45, memory_order_relaxed);
  CHECK(atomic_load_explicit(&u, memory_order_relaxed) == 1ul << 45);
  metal::atomic_bool b;
  atomic_store_explicit(&b, true, memory_order_relaxed);
  CHECK(atomic_exchange_explicit(&b, false, memory_order_relaxed));
  atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
}

TEST_CASE("atomics, several threads") {
  metal::atomic_uint count, largest;
  metal::atomic_float sum;
  metal::atomic_store_explicit(&count, 0u, metal::memory_order_relaxed);
  metal::atomic_store_explicit(&largest, 0u, metal::memory_order_relaxed);
  metal::atomic_store_explicit(&sum, 0.0f, metal::memory_order_relaxed);
  constexpr uint threads = 4, steps = 20000;
  std::vector<std::thread> pool;
  for (uint t = 0; t < threads; t++) {
    pool.emplace_back([&, t] {
      for (uint i = 0; i < steps; i++) {
        metal::atomic_fetch_add_explicit(&count, 1u, metal::memory_order_relaxed);
        metal::atomic_fetch_max_explicit(&largest, i * threads + t, metal::memory_order_relaxed);
        metal::atomic_fetch_add_explicit(&sum, 1.0f, metal::memory_order_relaxed);
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
  CHECK(metal::atomic_load_explicit(&count, metal::memory_order_relaxed) == threads * steps);
  CHECK(metal::atomic_load_explicit(&largest, metal::memory_order_relaxed) == threads * steps - 1);
  CHECK(metal::atomic_load_explicit(&sum, metal::memory_order_relaxed) == float(threads * steps));
}
