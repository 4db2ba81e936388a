// SHA-256 (FIPS 180-4).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace softmetal::jit {

class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;

  void update(const void* data, size_t bytes);
  // A field of its own: its length goes in as well, so that neighbours cannot be mistaken for each other.
  void field(std::string_view text);
  void field(uint64_t number) { update(&number, sizeof number); }
  Digest digest();  // ends it

 private:
  void block(const uint8_t* data);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_{};
  uint64_t bytes_ = 0;
};

std::string hex(const Sha256::Digest& digest);

}  // namespace softmetal::jit
