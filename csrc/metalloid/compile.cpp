#include "metalloid/compile.h"

#include <algorithm>
#include <cctype>

#include "metalloid/availability.h"
#include "metalloid/device.h"
#include "metalloid/forked.h"
#include "metalloid/include.h"
#include "metalloid/system.h"

namespace metalloid {

namespace {

// Metal's name of sources that come from no file.
constexpr const char* kUnnamed = "program_source";
// How softmetal is told; to Metal it is a macro like any other.
constexpr const char* kAnyWidth = "METALLOID_SIMD_WIDTH_ANY";

struct Version {
  const char* name;
  NS::UInteger number;
};

// Numbers of MTL::LanguageVersion: the major version in the upper half.
constexpr Version kVersions[] = {
    {"1.0", 0x10000}, {"1.1", 0x10001}, {"1.2", 0x10002}, {"2.0", 0x20000},
    {"2.1", 0x20001}, {"2.2", 0x20002}, {"2.3", 0x20003}, {"2.4", 0x20004},
    {"3.0", 0x30000}, {"3.1", 0x30001}, {"3.2", 0x30002}, {"4.0", 0x40000},
};

// What is newer than the system must not get to Metal, and without a version Metal takes one that depends on
// what the running program was linked with.
MTL::LanguageVersion version_of(const std::string& name) {
  const Language known = language();
  std::string all;
  for (const Version& version : kVersions) {
    const bool newest = known.newest == version.name;
    // availability: language() has asked the system for its version.
    if (name.empty() ? newest : name == version.name)
      return static_cast<MTL::LanguageVersion>(version.number);
    all += (all.empty() ? "" : ", ") + std::string(version.name);
    if (newest) break;
  }
  throw ValidationError(text("Device.compile: language_version is \"", name, "\", needs one of: ", all, " (",
                             known.system, " knows no newer one)"));
}

bool is_identifier(const std::string& name) {
  return !name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; });
}

void check_macros(const std::map<std::string, std::string>& macros) {
  for (const auto& [name, value] : macros) {
    if (!is_identifier(name)) {
      throw ValidationError(
          text("Device.compile: macros has a name \"", name, "\", needs letters, digits and underscores"));
    }
    if (value.find_first_of(std::string("\n\r\0", 3)) != std::string::npos) {
      throw ValidationError(text("Device.compile: macro ", name, " has more than one line, needs one"));
    }
  }
}

NS::SharedPtr<NS::Dictionary> dictionary_of(const std::map<std::string, std::string>& entries) {
  std::vector<NS::SharedPtr<NS::String>> strings;
  std::vector<const NS::Object*> keys, values;
  for (const auto& [name, value] : entries) {
    strings.push_back(ns_string(name));
    keys.push_back(strings.back().get());
    strings.push_back(ns_string(value));
    values.push_back(strings.back().get());
  }
  return NS::TransferPtr(NS::Dictionary::alloc()->init(values.data(), keys.data(), keys.size()));
}

std::string name_of(const CompileRequest& request) {
  return !request.name.empty() ? request.name : !request.path.empty() ? request.path : kUnnamed;
}

}  // namespace

const char* newest_language(long major) {
  // There are none between 15 and 26, which tells programs that were linked for older ones that it is 16.
  return major > 15 ? "4.0" : major == 15 ? "3.2" : "3.1";
}

NS::SharedPtr<MTL::Library> compile(MTL::Device* metal, const CompileRequest& request,
                                    SourceArguments& arguments, NS::Error** error) {
  check_macros(request.macros);
  const std::string name = name_of(request);
  // A C string would end there.
  if (request.source.find('\0') != std::string::npos) {
    throw ValidationError(text("Device.compile: the source of ", name, " has a null character, needs text"));
  }
  auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
  options->setFastMathEnabled(request.fast_math);
  if (request.fast_math && request.keep_non_finite && available(options.get(), Feature::math_mode)) {
    options->setMathMode(MTL::MathModeRelaxed);
  }
  options->setLanguageVersion(version_of(request.language_version));

  IncludePaths paths{.headers = request.headers, .directories = request.include_dirs, .defined = {}};
  std::map<std::string, std::string> macros = request.macros;
  for (const auto& [macro, value] : macros) paths.defined.push_back(macro);
  if (request.any_simd_width) macros[kAnyWidth] = "1";
  if (!macros.empty()) options->setPreprocessorMacros(dictionary_of(macros).get());

  std::string source = flatten_includes(request.source, {.name = name, .path = request.path}, paths);
  auto library = NS::TransferPtr(metal->newLibrary(ns_string(source).get(), options.get(), error));
  arguments = SourceArguments(std::move(source));
  return library;
}

std::shared_ptr<Library> Device::compile(const CompileRequest& request) {
  refuse_forked("Device.compile");
  AutoreleaseScope scope;
  NS::Error* error = nullptr;
  const std::string name = name_of(request);
  SourceArguments arguments;
  auto library = metalloid::compile(metal(), request, arguments, &error);
  if (!library) {
    std::string log = describe(error, "Metal gave no reason");
    throw CompileError(text("Device.compile: ", name, " does not compile:\n", log), log);
  }
  library->setLabel(ns_string(name).get());
  return std::make_shared<Library>(*this, std::move(library), std::string(), std::move(arguments));
}

}  // namespace metalloid
