#include "ops/rope.h"

#include <cmath>
#include <deque>
#include <mutex>

namespace metalloid::ops {

namespace {

// A model has one or two of them.
constexpr size_t kTablesKept = 32;

struct Table {
  const Device* device;
  double theta;
  uint64_t dim;
  uint64_t pairs;
  Buffer values;
};

struct Tables {
  std::mutex mutex;
  std::deque<Table> tables;
};

Tables& kept() {
  static auto* tables = new Tables;  // never destroyed: the devices that its buffers belong to are not either
  return *tables;
}

Buffer make_table(Device& device, double theta, uint64_t dim, uint64_t pairs) {
  Buffer table = device.empty({pairs, 2}, DType::float32);
  auto* values = reinterpret_cast<float*>(table.address());
  for (uint64_t i = 0; i < pairs; ++i) {
    double exact = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
    auto rounded = static_cast<float>(exact);
    values[2 * i] = rounded;
    values[2 * i + 1] = std::isfinite(rounded) ? static_cast<float>(exact - rounded) : 0.0f;
  }
  return table;
}

}  // namespace

Buffer inverse_frequencies(Device& device, double theta, uint64_t dim, uint64_t pairs) {
  Tables& all = kept();
  std::lock_guard lock(all.mutex);
  for (const Table& table : all.tables) {
    if (table.device == &device && table.theta == theta && table.dim == dim && table.pairs == pairs) {
      return table.values;
    }
  }
  if (all.tables.size() == kTablesKept) all.tables.pop_back();
  all.tables.push_front({&device, theta, dim, pairs, make_table(device, theta, dim, pairs)});
  return all.tables.front().values;
}

}  // namespace metalloid::ops
