#include "metalloid/library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "metalloid/compile.h"
#include "metalloid/device.h"
#include "metalloid/error.h"
#include "metalloid/forked.h"
#include "metalloid/include.h"

namespace metalloid {

namespace {

std::mutex path_mutex;
std::string& chosen_path() {
  static std::string path;
  return path;
}

std::atomic<uint32_t>& kernel_count() {
  static std::atomic<uint32_t> count{0};
  return count;
}

bool is_there(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

bool is_source(const std::string& path) { return path.ends_with(".metal"); }

// With what the build gives Metal's compiler.
NS::SharedPtr<MTL::Library> compile_kernels(Device& device, const std::string& path,
                                            SourceArguments& arguments) {
  CompileRequest request;
  request.path = path;
  request.language_version = "3.1";
  request.keep_non_finite = true;
  request.any_simd_width = true;
  std::optional<std::string> source = read_file(path);
  if (!source) throw DeviceError(text("Device: cannot read the kernels from ", path));
  if (source->find('\0') != std::string::npos) {
    throw DeviceError(text("Device: cannot compile the kernels from ", path, ": it has a null character"));
  }
  request.source = std::move(*source);
  NS::Error* error = nullptr;
  auto library = compile(device.metal(), request, arguments, &error);
  if (library) return library;
  const std::string log = describe(error, "Metal gave no reason");
  if (error && error->code() == MTL::LibraryErrorCompileFailure) {
    throw CompileError(text("Device: the kernels from ", path, " do not compile:\n", log), log);
  }
  throw DeviceError(text("Device: cannot compile the kernels from ", path, ": ", log));
}

}  // namespace

void set_library_path(std::string path) {
  std::lock_guard lock(path_mutex);
  chosen_path() = std::move(path);
}

std::string library_path() {
  {
    std::lock_guard lock(path_mutex);
    if (!chosen_path().empty()) return chosen_path();
  }
  if (const char* path = std::getenv("METALLOID_LIBRARY"); path && *path) return path;
  Dl_info binary{};
  dladdr(reinterpret_cast<const void*>(&kernel_count), &binary);
  std::string path = binary.dli_fname ? binary.dli_fname : "";
  size_t slash = path.rfind('/');
  const std::string beside = (slash == std::string::npos ? "." : path.substr(0, slash)) + "/metalloid";
  return !is_there(beside + ".metallib") && is_there(beside + ".metal") ? beside + ".metal"
                                                                        : beside + ".metallib";
}

BuiltinKernel::BuiltinKernel(std::string name) : name_(std::move(name)), slot_(kernel_count().fetch_add(1)) {}

uint32_t BuiltinKernel::count() { return kernel_count().load(); }

Library::Library(Device& device, NS::SharedPtr<MTL::Library> library, std::string path,
                 SourceArguments arguments)
    : device_(device),
      library_(std::move(library)),
      path_(std::move(path)),
      arguments_(std::move(arguments)) {}

std::unique_ptr<Library> Library::load(Device& device, const std::string& path) {
  AutoreleaseScope scope;
  NS::Error* error = nullptr;
  SourceArguments arguments;
  auto library = is_source(path) ? compile_kernels(device, path, arguments)
                                 : NS::TransferPtr(device.metal()->newLibrary(ns_string(path).get(), &error));
  if (!library) {
    throw DeviceError(
        text("Device: cannot load the kernels from ", path, ": ", describe(error, "Metal gave no reason")));
  }
  auto loaded = std::make_unique<Library>(device, std::move(library), path, std::move(arguments));
  if (loaded->kernels().empty()) throw DeviceError(text("Device: there are no kernels in ", path));
  return loaded;
}

bool Library::from_source() const { return path_.empty() || is_source(path_); }

std::vector<std::string> Library::kernels() const {
  AutoreleaseScope scope;
  std::vector<std::string> names;
  const NS::Array* functions = library_->functionNames();
  for (NS::UInteger i = 0; functions && i < functions->count(); ++i) {
    names.push_back(to_string(functions->object<NS::String>(i)));
  }
  return names;
}

std::string Library::label() const {
  AutoreleaseScope scope;
  return to_string(library_->label());
}

NS::SharedPtr<MTL::Function> Library::function(std::string_view name) const {
  return NS::TransferPtr(library_->newFunction(ns_string(std::string(name)).get()));
}

std::vector<KernelConstant> Library::constants(std::string_view name) const {
  AutoreleaseScope scope;
  NS::SharedPtr<MTL::Function> plain = function(name);
  if (!plain) {
    std::string known;
    for (const std::string& each : kernels()) known += (known.empty() ? "" : ", ") + each;
    throw ValidationError(text("Library.kernel: the library has no kernel \"", name,
                               "\", needs one of: ", known.empty() ? "none" : known));
  }
  std::vector<KernelConstant> constants;
  const NS::Dictionary* declared = plain->functionConstantsDictionary();
  if (!declared) return constants;
  NS::Enumerator<NS::String>* names = declared->keyEnumerator<NS::String>();
  while (const NS::String* key = names->nextObject()) {
    auto* constant = declared->object<MTL::FunctionConstant>(key);
    constants.push_back({to_string(constant->name()), static_cast<uint32_t>(constant->index()),
                         constant->type(), constant->required()});
  }
  std::sort(constants.begin(), constants.end(),
            [](const KernelConstant& a, const KernelConstant& b) { return a.index < b.index; });
  return constants;
}

namespace {

std::string name_of(const KernelConstant& constant) {
  return text(constant.name, " (index ", constant.index, ", ", metalloid::name_of(constant.type), ')');
}

std::string list_of(const std::vector<KernelConstant>& constants) {
  std::string all;
  for (const KernelConstant& constant : constants) all += (all.empty() ? "" : ", ") + name_of(constant);
  return all.empty() ? "none" : all;
}

size_t find(std::string_view kernel, const std::vector<KernelConstant>& constants,
            const ConstantValue& value) {
  for (size_t i = 0; i < constants.size(); ++i) {
    if (value.name.empty() ? constants[i].index == value.index : constants[i].name == value.name) return i;
  }
  throw ValidationError(text("kernel ", kernel, ": there is no function constant ",
                             value.name.empty() ? text("of index ", value.index) : '"' + value.name + '"',
                             ", needs some of: ", list_of(constants)));
}

// The bytes of a value, as Metal takes them.
std::string pack(std::string_view kernel, const KernelConstant& constant, const ConstantValue& value) {
  Element element = element_of(constant.type);
  if (!element.dtype || element.columns > 1) {
    throw ValidationError(text("kernel ", kernel, ": function constant ", name_of(constant),
                               " has a type that takes no value"));
  }
  if (value.lanes.size() != element.lanes) {
    throw ValidationError(text("kernel ", kernel, ": function constant ", name_of(constant), " got ",
                               value.lanes.size(), " numbers, needs ", +element.lanes));
  }
  const size_t size = size_of(*element.dtype);
  // Three lanes take the space of four.
  std::string bytes(size * (element.lanes == 3 ? 4 : element.lanes), '\0');
  for (size_t lane = 0; lane < value.lanes.size(); ++lane) {
    if (const char* needs = store(value.lanes[lane], *element.dtype, bytes.data() + lane * size)) {
      throw ValidationError(text("kernel ", kernel, ": function constant ", name_of(constant), " is ",
                                 value.lanes[lane], ", needs ", needs));
    }
  }
  return bytes;
}

}  // namespace

std::shared_ptr<const Kernel> Library::kernel(std::string_view name, std::span<const ConstantValue> values) {
  std::string key(name);
  if (values.empty()) {
    std::lock_guard lock(mutex_);
    if (auto known = kernels_.find(key); known != kernels_.end()) return known->second;
  }
  AutoreleaseScope scope;
  std::vector<KernelConstant> declared = constants(name);
  std::vector<std::string> given(declared.size());
  for (const ConstantValue& value : values) {
    size_t i = find(name, declared, value);
    if (!given[i].empty()) {
      throw ValidationError(text("kernel ", name, ": function constant ", name_of(declared[i]),
                                 " is given twice, needs one value"));
    }
    given[i] = pack(name, declared[i], value);
  }
  auto packed = NS::TransferPtr(MTL::FunctionConstantValues::alloc()->init());
  for (size_t i = 0; i < declared.size(); ++i) {
    const KernelConstant& constant = declared[i];
    if (given[i].empty()) {
      if (!constant.required) continue;
      throw ValidationError(text("kernel ", name, ": function constant ", name_of(constant),
                                 " has no value, needs one: constants={\"", constant.name, "\": ...}"));
    }
    packed->setConstantValue(given[i].data(), constant.type, constant.index);
    key.append(1, '\0').append(std::to_string(constant.index)).append(1, '=').append(given[i]);
  }
  std::lock_guard lock(mutex_);
  if (auto known = kernels_.find(key); known != kernels_.end()) return known->second;
  const MTL::FunctionConstantValues* given_values = declared.empty() ? nullptr : packed.get();
  std::shared_ptr<const Kernel> kernel = make(name, given_values, std::move(declared));
  kernels_.emplace(std::move(key), kernel);  // not before it has been made
  return kernel;
}

const Pipeline& Library::pipeline(std::string_view name) {
  try {
    return kernel(name)->pipeline();
  } catch (const ValidationError& e) {
    throw DeviceError(e.what());
  }
}

std::shared_ptr<const Kernel> Library::make(std::string_view name, const MTL::FunctionConstantValues* values,
                                            std::vector<KernelConstant> constants) {
  refuse_forked("Library.kernel");
  constexpr auto kReflected = MTL::PipelineOptionBindingInfo | MTL::PipelineOptionBufferTypeInfo;
  NS::Error* error = nullptr;
  NS::SharedPtr<MTL::Function> specialized =
      values ? NS::TransferPtr(library_->newFunction(ns_string(std::string(name)).get(), values, &error))
             : function(name);
  if (!specialized) throw DeviceError(text("kernel ", name, ": ", describe(error, "Metal gave no reason")));
  auto descriptor = NS::TransferPtr(MTL::ComputePipelineDescriptor::alloc()->init());
  descriptor->setComputeFunction(specialized.get());
  descriptor->setLabel(ns_string(std::string(name)).get());
  MTL::ComputePipelineReflection* reflection = nullptr;
  NS::SharedPtr<MTL::ComputePipelineState> state;
  // Not every device can make every kernel ready for indirect command buffers.
  for (bool indirect : {true, false}) {
    if (state || indirect > device_.has_indirect_commands()) continue;
    if (device_.has_indirect_commands()) descriptor->setSupportIndirectCommandBuffers(indirect);
    error = nullptr;
    if (cache_) state = cache_->make(descriptor.get(), kReflected, &reflection);
    if (state) break;
    state = NS::TransferPtr(
        device_.metal()->newComputePipelineState(descriptor.get(), kReflected, &reflection, &error));
  }
  if (!state) {
    throw DeviceError(text("kernel ", name, ": no pipeline: ", describe(error, "Metal gave no reason")));
  }
  Pipeline pipeline{};
  pipeline.name = name;
  pipeline.execution_width = static_cast<uint32_t>(state->threadExecutionWidth());
  pipeline.max_threads = static_cast<uint32_t>(state->maxTotalThreadsPerThreadgroup());
  pipeline.static_memory = state->staticThreadgroupMemoryLength();
  pipeline.threadgroup_memory_limit = device_.max_threadgroup_memory_length();
  pipeline.state = std::move(state);
  return std::make_shared<Kernel>(device_, std::move(pipeline), reflection, std::move(constants), arguments_);
}

}  // namespace metalloid
