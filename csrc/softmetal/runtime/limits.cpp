#include "softmetal/runtime/limits.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "softmetal/runtime/object.h"

namespace softmetal {

namespace {

constexpr NS::UInteger kGiB = NS::UInteger{1} << 30;
// Less is no use to anybody, and a multiple of every page size.
constexpr NS::UInteger kLeastBufferLength = 64 * 1024;

// Of Apple8 the GPUs of Macs have minimum and maximum of 64 bits, those of phones do not.
constexpr uint32_t kAtomics64 = SOFTMETAL_FEATURE_ATOMIC_ULONG;

constexpr GpuFamily kFamilies[] = {
    {"apple7", MTL::GPUFamilyApple7, 0, 4 * kGiB},             // A14, M1
    {"apple8", MTL::GPUFamilyApple8, kAtomics64, 4 * kGiB},    // A15, A16, M2
    {"apple9", MTL::GPUFamilyApple9, kAtomics64, 4 * kGiB},    // A17 Pro, M3, M4
    {"apple10", MTL::GPUFamilyApple10, kAtomics64, 8 * kGiB},  // A19, M5
};

constexpr const char* kFamilyName = "METALLOID_GPU_FAMILY";
constexpr const char* kLengthName = "METALLOID_MAX_BUFFER_LENGTH";
constexpr const char* kThreadsName = "METALLOID_MAX_THREADS_PER_THREADGROUP";

std::string_view trimmed(std::string_view word) {
  const size_t begin = word.find_first_not_of(" \t");
  return begin == std::string_view::npos ? std::string_view()
                                         : word.substr(begin, word.find_last_not_of(" \t") + 1 - begin);
}

// The number that is all of `word`; 0 where there is none, or none that fits.
NS::UInteger number_in(std::string_view word) {
  NS::UInteger number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc() && end == word.data() + word.size() ? number : 0;
}

NS::UInteger bytes_in(std::string_view word) {
  constexpr std::string_view kUnits = "KMG";
  const size_t unit = word.empty() ? std::string_view::npos : kUnits.find(word.back());
  if (unit == std::string_view::npos) return number_in(word);
  const NS::UInteger number = number_in(word.substr(0, word.size() - 1));
  const size_t shift = 10 * (unit + 1);
  return number << shift >> shift == number ? number << shift : 0;
}

// Whether `pattern` with * for any text fits all of `name`.
bool fits(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, mark = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++mark;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace

NS::UInteger physical_memory() {
  static const auto bytes =
      static_cast<NS::UInteger>(sysconf(_SC_PHYS_PAGES)) * static_cast<NS::UInteger>(sysconf(_SC_PAGESIZE));
  return bytes;
}

LimitSettings limit_settings(const char* family, const char* max_buffer_length) {
  const NS::UInteger memory = physical_memory();
  LimitSettings settings;
  settings.max_buffer_length = memory;
  if (family && *family) {
    const auto* found = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                     [&](const GpuFamily& each) { return trimmed(family) == each.name; });
    if (found == std::end(kFamilies)) {
      std::string names;
      for (const GpuFamily& each : kFamilies) names += (names.empty() ? "" : ", ") + std::string(each.name);
      settings.problem =
          text("%s is \"%s\", needs one of: %s (or not to be set)", kFamilyName, family, names.c_str());
      return settings;
    }
    settings.family = found;
    settings.max_buffer_length = std::min(memory, found->max_buffer_length);
  }
  if (max_buffer_length && *max_buffer_length) {
    const NS::UInteger bytes = bytes_in(trimmed(max_buffer_length));
    if (bytes < kLeastBufferLength) {
      settings = {nullptr, memory,
                  text("%s is \"%s\", needs a number of bytes, at least %zu, or of KiB, MiB or GiB with K, M "
                       "or G behind it",
                       kLengthName, max_buffer_length, static_cast<size_t>(kLeastBufferLength))};
      return settings;
    }
    // Whole pages, so that wrapping memory of the largest length works.
    settings.max_buffer_length = std::min(memory, bytes / kLeastBufferLength * kLeastBufferLength);
  }
  return settings;
}

const LimitSettings& limit_settings() {
  static const auto* const settings =
      new LimitSettings(limit_settings(std::getenv(kFamilyName), std::getenv(kLengthName)));
  return *settings;
}

NS::UInteger thread_limit(const char* rules, std::string_view kernel, NS::UInteger width,
                          std::string* problem) {
  const std::string_view all = rules ? rules : "";
  NS::UInteger limit = 0;
  for (size_t begin = 0, end = 0; !all.empty() && begin <= all.size(); begin = end + 1) {
    end = std::min(all.find(',', begin), all.size());
    const std::string_view rule = all.substr(begin, end - begin);
    const size_t equals = rule.rfind('=');
    const bool named = equals != std::string_view::npos;
    const std::string_view name = named ? trimmed(rule.substr(0, equals)) : "*";
    const NS::UInteger threads = number_in(trimmed(named ? rule.substr(equals + 1) : rule));
    // A number alone is for all kernels, so there is nothing that could stand beside it.
    if (threads == 0 || name.empty() || (!named && rule.size() != all.size())) {
      *problem = text(
          "%s is \"%s\", needs a number of threads, at least 1, or rules such as "
          "\"rms_norm_f32=384,*=768\"",
          kThreadsName, rules);
      return 0;
    }
    if (limit == 0 && fits(name, kernel)) limit = std::max(threads / width * width, width);
  }
  return limit;
}

NS::UInteger thread_limit(std::string_view kernel, NS::UInteger width, std::string* problem) {
  return thread_limit(std::getenv(kThreadsName), kernel, width, problem);
}

bool lacks_kernel(std::string_view kernel) {
  const char* names = std::getenv("METALLOID_NO_PIPELINE");
  const std::string_view all = names ? names : "";
  for (size_t begin = 0, end = 0; begin < all.size(); begin = end + 1) {
    end = std::min(all.find(',', begin), all.size());
    const std::string_view name = trimmed(all.substr(begin, end - begin));
    if (!name.empty() && fits(name, kernel)) return true;
  }
  return false;
}

std::string limits_problem() {
  std::string problem = limit_settings().problem;
  if (problem.empty()) thread_limit("", 1, &problem);
  return problem;
}

bool supports_family(const GpuFamily* imitated, MTL::GPUFamily family) {
  const MTL::GPUFamily newest = imitated ? imitated->newest : MTL::GPUFamilyApple9;
  if (family >= MTL::GPUFamilyApple1 && family < MTL::GPUFamilyMac1) return family <= newest;
  // A Mac with a GPU of Apple's has both families. What Metal 4 brings, softmetal does not have.
  if (family == MTL::GPUFamilyMac2) return imitated != nullptr;
  return (family >= MTL::GPUFamilyCommon1 && family <= MTL::GPUFamilyCommon3) ||
         family == MTL::GPUFamilyMetal3;
}

}  // namespace softmetal
