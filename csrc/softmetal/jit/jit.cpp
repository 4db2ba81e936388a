// Device::newLibrary from source text.
#include <algorithm>
#include <memory>
#include <string_view>
#include <system_error>
#include <thread>

#include "softmetal/jit/cache.h"
#include "softmetal/jit/compile_options.h"
#include "softmetal/jit/setup.h"
#include "softmetal/jit/sha256.h"
#include "softmetal/msl/compile.h"
#include "softmetal/runtime/library.h"

namespace softmetal::jit {
namespace {

constexpr const char* kDomain = "MTLLibraryErrorDomain";
// Apple's name for source that comes from no file.
constexpr const char* kSourceName = "program_source";
// Kernels that do not depend on the SIMD width run faster without one.
constexpr std::string_view kAnyWidth = "METALLOID_SIMD_WIDTH_ANY=1";

// Whether text from outside may be read that the key of the cache does not cover. Of Metal's own headers
// nothing is read, and nothing else can be found by a name in angle brackets.
bool includes_files(std::string_view source) {
  for (size_t at = source.find("include"); at != std::string_view::npos;
       at = source.find("include", at + 7)) {
    size_t before = at;
    while (before > 0 && (source[before - 1] == ' ' || source[before - 1] == '\t')) --before;
    if (before == 0 || source[before - 1] != '#') continue;
    const size_t name = source.find_first_not_of(" \t", at + 7);
    if (name == std::string_view::npos || source[name] != '<' || source[name + 1] == '/') return true;
    const std::string_view line = source.substr(name, source.find('\n', name) - name);
    if (line.find("..") != std::string_view::npos) return true;
  }
  return source.find("#embed") != std::string_view::npos ||
         source.find("include_next") != std::string_view::npos;
}

std::string key_of(const Setup& with, const msl::Options& options, const std::string& source) {
  Sha256 hash;
  hash.field(with.identity);
  hash.field(source);
  hash.field(options.isa);
  hash.field(options.width);
  hash.field(uint64_t{options.checked});
  hash.field(uint64_t{options.fast_math});
  hash.field(static_cast<uint64_t>(options.language_version));
  for (const std::string& define : options.defines) hash.field(define);
  return hex(hash.digest());
}

// What the caller's options mean on the device; a message when that cannot be done.
std::string translate_options(const Device& device, const CompileOptions& from, msl::Options& to) {
  std::string problem = from.macros(to.defines);
  if (!problem.empty()) return problem;
  to.language_version = from.metal_version();
  if (to.language_version == 0)
    return text("languageVersion is %zu, needs one of Metal 1.0 to 4.0",
                static_cast<size_t>(from.language_version));
  if (from.library_type != MTL::LibraryTypeExecutable)
    return "libraryType is not executable, needs LibraryTypeExecutable";
  const std::vector<std::string> isas = usable_isas(&problem);
  if (isas.empty())
    return problem.empty() ? "there is no compiler for the processor of this machine" : problem;
  to.fast_math = from.math_mode != MTL::MathModeSafe;
  to.checked = device.executor.checks();
  // Vectors as wide as they get serve speed alone.
  to.isa = to.checked ? isas.back() : isas.front();
  const bool any = std::find(to.defines.begin(), to.defines.end(), kAnyWidth) != to.defines.end();
  to.width = any && !to.checked ? "any" : "32";
  return {};
}

std::string without_last_newline(std::string log) {
  while (!log.empty() && log.back() == '\n') log.pop_back();
  return log.empty() ? "the compiler gave no reason" : log;
}

Library* compile(Device& device, const NS::String* source, const CompileOptions* given, NS::Error** error) {
  const auto refuse = [&](MTL::LibraryError code, const std::string& why) -> Library* {
    return fail(error, kDomain, code, "newLibrary: " + why);
  };
  if (!source)
    return refuse(MTL::LibraryErrorCompileFailure, "source is null, needs the text of a Metal file");
  const std::string& code = impl(source)->value;
  msl::Options options;
  const auto defaults = Ref<CompileOptions>::adopt(given ? nullptr : new CompileOptions);
  if (std::string problem = translate_options(device, given ? *given : *defaults, options); !problem.empty())
    return refuse(MTL::LibraryErrorUnsupported, problem);

  const Setup& with = setup();
  if (with.compiler.empty()) return refuse(MTL::LibraryErrorInternal, with.missing);
  const Cache cache(includes_files(code) ? "" : with.cache);
  const std::string key = key_of(with, options, code);
  if (const std::string entry = cache.find(key); !entry.empty())
    if (Library* library = Library::open(device, entry, nullptr)) return library;

  const msl::TemporaryDirectory directory;
  if (directory.path().empty())
    return refuse(MTL::LibraryErrorInternal, "cannot make a temporary directory in $TMPDIR or /tmp");
  options.compiler = with.compiler;
  options.runtime_directory = with.headers;
  // Named by the key, as the loader takes two files of one name for the same.
  options.output = directory.file(key + ".so");
  const msl::Result result = msl::compile(options, {{kSourceName, code}});
  if (!result.ok)
    return fail(error, kDomain, MTL::LibraryErrorCompileFailure, without_last_newline(result.log));
  Library* library = Library::open(device, options.output, error);
  if (library) cache.keep(key, options.output);
  return library;
}

}  // namespace
}  // namespace softmetal::jit

namespace MTL {

using softmetal::face;
using softmetal::impl;

Library* Device::newLibrary(const NS::String* source, const MTL::CompileOptions* options, NS::Error** error) {
  return face(softmetal::jit::compile(*impl(this), source, impl(options), error));
}

void Device::newLibrary(const NS::String* pSource, const MTL::CompileOptions* pOptions,
                        const MTL::NewLibraryCompletionHandlerFunction& completionHandler) {
  // Copies, as the caller may change what it gave.
  auto source = NS::TransferPtr(pSource ? pSource->copy() : nullptr);
  auto options = NS::TransferPtr(pOptions ? pOptions->copy() : nullptr);
  const auto work = [this, source, options, completionHandler] {
    auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
    NS::Error* error = nullptr;
    auto library = NS::TransferPtr(newLibrary(source.get(), options.get(), &error));
    completionHandler(library.get(), error);
  };
  try {
    std::thread(work).detach();
  } catch (const std::system_error&) {
    work();  // late, but done
  }
}

}  // namespace MTL
