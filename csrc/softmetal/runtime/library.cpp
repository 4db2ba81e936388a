#include "softmetal/runtime/library.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "softmetal/runtime/archive.h"
#include "softmetal/runtime/softmetal.h"

namespace softmetal {

namespace {

constexpr const char* kLibraryDomain = "MTLLibraryErrorDomain";
constexpr const char* kPipelineDomain = "AGXMetal";

// What the build makes libraries for, best first.
struct Isa {
  const char* name;
  bool usable;
};

std::vector<Isa> known_isas() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // Every CPU with AVX2 has the rest of x86-64-v3 that has no name here.
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  const bool bf16 = v4 && __builtin_cpu_supports("avx512bf16");
  return {{"x86-64-v4-bf16", bf16}, {"x86-64-v4", v4}, {"x86-64-v3", v3}};
#elif defined(__aarch64__)
  return {{"aarch64", true}};
#else
  return {};
#endif
}

std::vector<std::string> all_usable_isas() {
  std::vector<std::string> usable;
  for (const Isa& isa : known_isas())
    if (isa.usable) usable.emplace_back(isa.name);
  return usable;
}

std::string joined(const std::vector<std::string>& names) {
  std::string result;
  for (const auto& name : names) result += (result.empty() ? "" : ", ") + name;
  return result.empty() ? "none" : result;
}

bool is_directory(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool exists(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
}

bool is_known_isa(const std::string& name) {
  const auto isas = known_isas();
  return std::any_of(isas.begin(), isas.end(), [&](const Isa& isa) { return name == isa.name; });
}

// Checked libraries exist for one instruction set only, so METALLOID_ISA is not about them.
std::vector<std::string> isas_for(const Device& device, std::string* error) {
  return device.executor.checks() ? all_usable_isas() : usable_isas(error);
}

// A message when a kernel cannot be run one thread at a time.
std::string thread_problem(const SoftmetalLibrary& table, const SoftmetalKernel& kernel) {
  std::string problem;
  if (!table.hooks)
    problem = "its threads wait for each other, needs hooks in the library";
  else if (kernel.mode != SOFTMETAL_MODE_THREADGROUPS)
    problem = text("it has mode %u, needs %u (threadgroups)", kernel.mode, SOFTMETAL_MODE_THREADGROUPS);
  else if (kernel.execution_width != SOFTMETAL_LANES)
    problem = text("it has an execution width of %u, needs %u", kernel.execution_width, SOFTMETAL_LANES);
  else if (kernel.max_threads_per_threadgroup > kMaxThreadgroupSide)
    problem = text("it allows threadgroups of %u threads, needs at most %zu",
                   kernel.max_threads_per_threadgroup, static_cast<size_t>(kMaxThreadgroupSide));
  return problem.empty() ? "" : text("kernel \"%s\": %s", kernel.name, problem.c_str());
}

// A message when the runtime cannot work with the table.
std::string table_problem(const Device& device, const SoftmetalLibrary* table) {
  if (table->abi_version != SOFTMETAL_ABI_VERSION)
    return text("its ABI version is %u, needs %u", table->abi_version, SOFTMETAL_ABI_VERSION);
  const std::string isa = table->isa ? table->isa : "";
  const auto usable = isas_for(device, nullptr);
  if (is_known_isa(isa) && std::find(usable.begin(), usable.end(), isa) == usable.end())
    return text("it was compiled for %s, needs one of: %s", isa.c_str(), joined(usable).c_str());
  const bool checks = device.executor.checks();
  if (checks != (table->checked != 0))
    return text("it was compiled %s checks, device \"%s\" needs a library %s", checks ? "without" : "with",
                device.executor.device_name(), checks ? "with them" : "without");
  for (uint32_t u = 0; u < table->unit_count; ++u) {
    for (uint32_t k = 0; k < table->units[u]->kernel_count; ++k) {
      const SoftmetalKernel& kernel = table->units[u]->kernels[k];
      if (!kernel.thread && (checks || !kernel.run))
        return text("kernel \"%s\" cannot be run: it has no function for %s", kernel.name,
                    checks ? "one thread, which checks need" : "one thread, nor for threadgroups");
      if (std::string problem; kernel.thread && !(problem = thread_problem(*table, kernel)).empty())
        return problem;
      if (kernel.constant_count > 64)
        return text("kernel \"%s\" has %u function constants, needs at most 64", kernel.name,
                    kernel.constant_count);
      for (uint32_t i = 0; i < kernel.argument_count; ++i)
        if (kernel.arguments[i].index >= SOFTMETAL_MAX_BUFFERS)
          return text("kernel \"%s\": argument \"%s\" has index %u, needs at most %u", kernel.name,
                      kernel.arguments[i].name, kernel.arguments[i].index, SOFTMETAL_MAX_BUFFERS - 1);
      for (uint32_t i = 0; i < kernel.constant_count; ++i)
        if (kernel.constants[i].index >= kMaxFunctionConstants)
          return text("kernel \"%s\": function constant \"%s\" has index %u, needs at most %zu", kernel.name,
                      kernel.constants[i].name, kernel.constants[i].index,
                      static_cast<size_t>(kMaxFunctionConstants - 1));
    }
  }
  return {};
}

}  // namespace

std::vector<std::string> usable_isas(std::string* error) {
  const std::vector<std::string> usable = all_usable_isas();
  const char* forced = std::getenv("METALLOID_ISA");
  if (!forced || !*forced) return usable;
  if (std::find(usable.begin(), usable.end(), forced) != usable.end()) return {forced};
  if (error)
    *error = text("METALLOID_ISA is \"%s\", needs one that this CPU has: %s", forced, joined(usable).c_str());
  return {};
}

uint32_t static_threadgroup_bytes(const SoftmetalKernel& kernel) {
  if (!kernel.variables) return kernel.static_threadgroup_bytes;
  uint32_t bytes = 0;
  for (const SoftmetalVariable* variable = kernel.variables; variable; variable = variable->next)
    bytes += (variable->bytes + 15) / 16 * 16;
  return bytes;
}

const char* data_type_name(MTL::DataType type) {
  static constexpr const char* kScalars[] = {"float", "half",  "int",  "uint", "short", "ushort",
                                             "char",  "uchar", "bool", "long", "ulong", "bfloat"};
  static constexpr const char* kVectors[][3] = {
      {"float2", "float3", "float4"}, {"half2", "half3", "half4"},    {"int2", "int3", "int4"},
      {"uint2", "uint3", "uint4"},    {"short2", "short3", "short4"}, {"ushort2", "ushort3", "ushort4"},
      {"char2", "char3", "char4"},    {"uchar2", "uchar3", "uchar4"}, {"bool2", "bool3", "bool4"},
      {"long2", "long3", "long4"},    {"ulong2", "ulong3", "ulong4"}, {"bfloat2", "bfloat3", "bfloat4"},
  };
  static constexpr MTL::DataType kFirst[] = {MTL::DataTypeFloat, MTL::DataTypeHalf,  MTL::DataTypeInt,
                                             MTL::DataTypeUInt,  MTL::DataTypeShort, MTL::DataTypeUShort,
                                             MTL::DataTypeChar,  MTL::DataTypeUChar, MTL::DataTypeBool,
                                             MTL::DataTypeLong,  MTL::DataTypeULong, MTL::DataTypeBFloat};
  for (size_t i = 0; i < std::size(kFirst); ++i) {
    if (type == kFirst[i]) return kScalars[i];
    if (type > kFirst[i] && type <= kFirst[i] + 3) return kVectors[i][type - kFirst[i] - 1];
  }
  if (type == MTL::DataTypeNone) return "none";
  return type == MTL::DataTypeStruct ? "struct" : "an unknown type";
}

size_t data_type_size(MTL::DataType type) {
  // Each scalar type is followed by its vectors of 2, 3 and 4; three take the space of four.
  struct Family {
    MTL::DataType first;
    size_t size;
  };
  static constexpr Family kFamilies[] = {
      {MTL::DataTypeFloat, 4}, {MTL::DataTypeHalf, 2},   {MTL::DataTypeInt, 4},   {MTL::DataTypeUInt, 4},
      {MTL::DataTypeShort, 2}, {MTL::DataTypeUShort, 2}, {MTL::DataTypeChar, 1},  {MTL::DataTypeUChar, 1},
      {MTL::DataTypeBool, 1},  {MTL::DataTypeLong, 8},   {MTL::DataTypeULong, 8}, {MTL::DataTypeBFloat, 2}};
  for (const Family& family : kFamilies) {
    if (type >= family.first && type <= family.first + 3) {
      const size_t lanes = type - family.first + 1;
      return family.size * (lanes == 3 ? 4 : lanes);
    }
  }
  return 0;
}

// Function constants ------------------------------------------------------------------------------

Object* ConstantValues::clone() {
  auto* made = new ConstantValues;
  made->entries = entries;
  return made;
}

void ConstantValues::set(Entry entry) {
  for (Entry& known : entries) {
    if (known.name == entry.name && known.index == entry.index) {
      known = std::move(entry);
      return;
    }
  }
  entries.push_back(std::move(entry));
}

const ConstantValues::Entry* ConstantValues::find(const SoftmetalFunctionConstant& constant) const {
  for (const Entry& entry : entries)
    if (entry.name.empty() ? entry.index == constant.index : entry.name == constant.name) return &entry;
  return nullptr;
}

static std::string constant_description(const SoftmetalFunctionConstant& constant) {
  return text("function constant \"%s\" (index %u, %s)", constant.name, constant.index,
              data_type_name(static_cast<MTL::DataType>(constant.data_type)));
}

// Function ----------------------------------------------------------------------------------------

Function::Function(Library& owner, const SoftmetalKernel& entry)
    : library(&owner), kernel(entry), constants(entry.constants_bytes), name(entry.name) {}

std::string Function::describe() const {
  return text("<MTL::Function: %p> name = %s", static_cast<const void*>(this), name.c_str());
}

std::string Function::specialize(const ConstantValues* values) {
  for (uint32_t i = 0; i < kernel.constant_count; ++i) {
    const SoftmetalFunctionConstant& constant = kernel.constants[i];
    const ConstantValues::Entry* entry = values ? values->find(constant) : nullptr;
    if (!entry) continue;
    if (entry->type != constant.data_type || entry->bytes.size() != constant.size)
      return text("kernel \"%s\": %s was given a value of type %s", kernel.name,
                  constant_description(constant).c_str(), data_type_name(entry->type));
    std::memcpy(constants.data() + constant.offset, entry->bytes.data(), constant.size);
    constants_defined |= uint64_t{1} << i;
  }
  return missing_constant();
}

std::string Function::missing_constant() const {
  for (uint32_t i = 0; i < kernel.constant_count; ++i)
    if (kernel.constants[i].required && !(constants_defined >> i & 1))
      return text("kernel \"%s\": %s has no value, needs one", kernel.name,
                  constant_description(kernel.constants[i]).c_str());
  return {};
}

// An argument with [[function_constant(c)]] exists only when c is true.
static bool exists(const Function& function, const SoftmetalArgument& argument) {
  if (argument.active_constant < 0) return true;
  const auto i = static_cast<uint32_t>(argument.active_constant);
  return (function.constants_defined >> i & 1) && function.constants[function.kernel.constants[i].offset];
}

bool is_active(const Function& function, const SoftmetalArgument& argument) {
  return !(argument.flags & SOFTMETAL_ARGUMENT_UNUSED) && exists(function, argument);
}

MTL::DataType pointee_type(const SoftmetalArgument& argument) {
  return argument.flags & SOFTMETAL_ARGUMENT_ATOMIC ? MTL::DataTypeStruct
                                                    : static_cast<MTL::DataType>(argument.data_type);
}

// Null for all but atomics: nobody knows what other structs have.
static MTL::StructType* struct_type(const SoftmetalArgument& argument) {
  if (!(argument.flags & SOFTMETAL_ARGUMENT_ATOMIC)) return nullptr;
  return face(autoreleased(new StructType(static_cast<MTL::DataType>(argument.data_type))));
}

Object* FunctionDescriptor::clone() {
  auto* made = new FunctionDescriptor;
  made->name = name;
  made->specialized_name = specialized_name;
  made->constants = constants;
  return made;
}

// Library -----------------------------------------------------------------------------------------

Library::Library(Device& owner, void* handle, const SoftmetalLibrary* tables)
    : device(owner), table(tables), handle_(handle) {
  if (handle_) divisions_.emplace(table);
  for (uint32_t u = 0; u < table->unit_count; ++u)
    for (uint32_t k = 0; k < table->units[u]->kernel_count; ++k) {
      const SoftmetalKernel& kernel = table->units[u]->kernels[k];
      kernels.emplace(kernel.name, &kernel);
    }
}

Library::~Library() {
  divisions_.reset();
  if (handle_) dlclose(handle_);
  if (object_ >= 0) close(object_);
}

std::string Library::object_path() const {
  return object_ >= 0 ? "/proc/self/fd/" + std::to_string(object_) : std::string();
}

Library* Library::create(Device& device, void* handle, const SoftmetalLibrary* table,
                         const std::string& origin, NS::Error** error) {
  std::string problem = table_problem(device, table);
  if (problem.empty()) {
    if (table->hooks) *table->hooks = &device.executor.hooks();
    auto* made = new Library(device, handle, table);
    // Until it is set: what was picked, and what compiled it.
    if (table->isa && table->compiler) made->label = text("%s; %s", table->isa, table->compiler);
    return made;
  }
  if (handle) dlclose(handle);
  return fail(error, kLibraryDomain, MTL::LibraryErrorUnsupported, "newLibrary: " + origin + ": " + problem);
}

Library* Library::open(Device& device, const std::string& path, NS::Error** error) {
  std::string file = path;
  if (!exists(path))
    return fail(error, kLibraryDomain, MTL::LibraryErrorFileNotFound,
                text("newLibrary: \"%s\" does not exist", path.c_str()));
  if (is_directory(path)) {
    std::string problem;
    const auto isas = isas_for(device, &problem);
    if (!problem.empty())
      return fail(error, kLibraryDomain, MTL::LibraryErrorUnsupported, "newLibrary: " + problem);
    const std::string folder = device.executor.checks() ? path + "/checked" : path;
    const auto found = std::find_if(
        isas.begin(), isas.end(), [&](const std::string& isa) { return exists(folder + "/" + isa + ".so"); });
    if (found == isas.end())
      return fail(error, kLibraryDomain, MTL::LibraryErrorUnsupported,
                  text("newLibrary: \"%s\" has no library that this CPU can run, needs one of: %s",
                       folder.c_str(), joined(isas).c_str()));
    file = folder + "/" + *found + ".so";
  }
  // Without a slash dlopen would search the system's library path.
  if (file.find('/') == std::string::npos) file = "./" + file;
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* reason = dlerror();
    return fail(error, kLibraryDomain, MTL::LibraryErrorInternal,
                text("newLibrary: cannot load \"%s\": %s", file.c_str(), reason ? reason : "unknown reason"));
  }
  auto entry = reinterpret_cast<SoftmetalLibraryEntry>(dlsym(handle, SOFTMETAL_LIBRARY_SYMBOL));
  if (!entry) {
    dlclose(handle);
    return fail(error, kLibraryDomain, MTL::LibraryErrorUnsupported,
                text("newLibrary: \"%s\" is not a compiled shader library: it does not export %s",
                     file.c_str(), SOFTMETAL_LIBRARY_SYMBOL));
  }
  Library* made = create(device, handle, entry(), "\"" + file + "\"", error);
  if (made && device.executor.checks()) made->object_ = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  return made;
}

MTL::Library* new_library(MTL::Device* device, const SoftmetalLibrary* table, NS::Error** error) {
  return face(Library::create(*impl(device), nullptr, table, "a library in memory", error));
}

// Pipeline ----------------------------------------------------------------------------------------

Object* PipelineDescriptor::clone() {
  auto* made = new PipelineDescriptor;
  made->function = function;
  made->label = label;
  made->archives = archives;
  made->max_threads = max_threads;
  made->multiple_of_width = multiple_of_width;
  made->indirect = indirect;
  return made;
}

Pipeline::Pipeline(Function& entry)
    : function(&entry),
      kernel(entry.kernel),
      max_threads(entry.kernel.max_threads_per_threadgroup),
      static_bytes(static_threadgroup_bytes(entry.kernel)),
      constants(entry.constants.data()),
      constants_defined(entry.constants_defined) {
  for (uint32_t i = 0; i < kernel.argument_count; ++i) {
    const SoftmetalArgument& argument = kernel.arguments[i];
    const bool buffer = argument.kind == SOFTMETAL_ARGUMENT_BUFFER;
    // The kernel looks up what it is given for each, active or not.
    uint32_t& slots = buffer ? buffer_slots : threadgroup_slots;
    slots = std::max(slots, argument.index + 1);
    if (!is_active(entry, argument)) continue;
    const uint32_t least = argument.address_space == SOFTMETAL_SPACE_CONSTANT ? kConstantAlignment : 1;
    const Need need{&argument, argument.index, std::max(argument.element_align, least),
                    argument.element_size};
    if (buffer) {
      buffers.push_back(need);
      buffer_mask |= 1u << argument.index;
    } else {
      threadgroup.push_back(need);
    }
  }
}

Pipeline* Pipeline::create(Function* function, const PipelineDescriptor* descriptor, NS::Error** error) {
  std::string problem;
  NS::UInteger limit = 0;  // of threads, from outside
  if (!function)
    problem = "computeFunction is null, needs a function";
  else if (problem = function->missing_constant();
           problem.empty() && descriptor &&
           descriptor->max_threads > function->kernel.max_threads_per_threadgroup &&
           descriptor->max_threads > kMaxThreadgroupSide)
    problem =
        text("kernel \"%s\": maxTotalThreadsPerThreadgroup is %zu, needs at most %zu", function->kernel.name,
             static_cast<size_t>(descriptor->max_threads), static_cast<size_t>(kMaxThreadgroupSide));
  if (problem.empty() && static_threadgroup_bytes(function->kernel) > kMaxThreadgroupMemory)
    problem = text("kernel \"%s\" declares %u bytes of threadgroup memory, needs at most %zu",
                   function->kernel.name, static_threadgroup_bytes(function->kernel),
                   static_cast<size_t>(kMaxThreadgroupMemory));
  const GpuFamily* family = limit_settings().family;
  if (problem.empty() && family && function->kernel.features & ~family->features)
    problem =
        text("kernel \"%s\" uses atomic_ulong, needs a GPU family that has it (METALLOID_GPU_FAMILY is %s)",
             function->kernel.name, family->name);
  if (problem.empty() && lacks_kernel(function->kernel.name))
    problem = text("kernel \"%s\" needs what the device does not have (METALLOID_NO_PIPELINE names it)",
                   function->kernel.name);
  // A GPU may take fewer threads of one kernel than of others, for want of registers.
  if (problem.empty()) {
    const SoftmetalKernel& kernel = function->kernel;
    limit = thread_limit(kernel.name, kernel.execution_width, &problem);
  }
  if (!problem.empty())
    return fail(error, kPipelineDomain, MTL::LibraryErrorUnsupported, "newComputePipelineState: " + problem);
  auto* pipeline = new Pipeline(*function);
  if (limit) pipeline->max_threads = std::min(pipeline->max_threads, limit);
  if (descriptor) {
    if (descriptor->max_threads)
      pipeline->max_threads = std::min(pipeline->max_threads, descriptor->max_threads);
    pipeline->multiple_of_width = descriptor->multiple_of_width;
    pipeline->indirect = descriptor->indirect && !function->library->device.executor.checks();
    if (descriptor->label) pipeline->label = descriptor->label->value;
  }
  return pipeline;
}

std::string Pipeline::describe() const {
  return text("<MTL::ComputePipelineState: %p> kernel = %s", static_cast<const void*>(this), kernel.name);
}

std::string Binding::describe() const {
  return text("<MTL::Binding: %p> %s %s = %s* %s", static_cast<const void*>(this),
              table.kind == SOFTMETAL_ARGUMENT_BUFFER ? "buffer" : "threadgroup",
              std::to_string(table.index).c_str(), table.type_name, table.name);
}

Reflection::Reflection(Pipeline& pipeline) : bindings(Ref<Array>::adopt(new Array)) {
  for (uint32_t i = 0; i < pipeline.kernel.argument_count; ++i) {
    const SoftmetalArgument& argument = pipeline.kernel.arguments[i];
    // Metal may not know of what the specialised kernel does not have.
    if (imitates_mac() && !exists(*pipeline.function, argument)) continue;
    bindings->items.push_back(Ref<Object>::adopt(new Binding(pipeline, argument)));
  }
}

static bool is_archived(const PipelineDescriptor* descriptor) {
  if (!descriptor || !descriptor->archives) return false;
  const auto& archives = descriptor->archives->items;
  return std::any_of(archives.begin(), archives.end(), [&](const Ref<Object>& each) {
    return static_cast<const Archive&>(*each).has(*descriptor);
  });
}

// Makes a pipeline and, when asked, its reflection.
static MTL::ComputePipelineState* new_pipeline(Function* function, const PipelineDescriptor* descriptor,
                                               MTL::PipelineOption options,
                                               const MTL::AutoreleasedComputePipelineReflection* reflection,
                                               NS::Error** error) {
  if (options & MTL::PipelineOptionFailOnBinaryArchiveMiss && function && !is_archived(descriptor))
    return fail(error, kPipelineDomain, MTL::LibraryErrorUnsupported,
                text("newComputePipelineState: kernel \"%s\" is in none of the binaryArchives, which "
                     "FailOnBinaryArchiveMiss asks for",
                     function->kernel.name));
  Pipeline* pipeline = Pipeline::create(function, descriptor, error);
  constexpr auto kWanted = MTL::PipelineOptionBindingInfo | MTL::PipelineOptionBufferTypeInfo;
  // metal-cpp declares this out parameter const.
  if (pipeline && reflection && (options & kWanted))
    *const_cast<MTL::AutoreleasedComputePipelineReflection*>(reflection) =
        face(autoreleased(new Reflection(*pipeline)));
  return face(pipeline);
}

}  // namespace softmetal

namespace MTL {

using softmetal::autoreleased;
using softmetal::face;
using softmetal::impl;

// As Metal's headers name what an atomic holds.
static constexpr const char* kAtomicMember = "__s";

Library* Device::newLibrary(const NS::String* filepath, NS::Error** error) {
  return face(softmetal::Library::open(*impl(this), softmetal::str(filepath), error));
}
Library* Device::newLibrary(const NS::URL* url, NS::Error** error) {
  return face(softmetal::Library::open(*impl(this), url ? impl(url)->path : std::string(), error));
}

Device* Library::device() const { return face(&impl(this)->device); }
NS::Array* Library::functionNames() const {
  auto* names = new softmetal::Array;
  for (const auto& entry : impl(this)->kernels)
    names->items.push_back(softmetal::Ref<softmetal::Object>::adopt(new softmetal::String(entry.first)));
  return face(autoreleased(names));
}
NS::String* Library::label() const { return softmetal::label_string(impl(this)->label); }
void Library::setLabel(const NS::String* label) { impl(this)->label = softmetal::str(label); }
LibraryType Library::type() const { return LibraryTypeExecutable; }

Function* Library::newFunction(const NS::String* functionName) {
  auto* library = impl(this);
  const auto found = library->kernels.find(softmetal::str(functionName));
  return found == library->kernels.end() ? nullptr : face(new softmetal::Function(*library, *found->second));
}

Function* Library::newFunction(const NS::String* name, const MTL::FunctionConstantValues* constantValues,
                               NS::Error** error) {
  Function* function = newFunction(name);
  std::string problem;
  LibraryError code = LibraryErrorFunctionNotFound;
  if (!function) {
    problem = softmetal::text("the library has no function \"%s\"", softmetal::str(name).c_str());
  } else {
    problem = impl(function)->specialize(constantValues ? impl(constantValues) : nullptr);
    code = LibraryErrorCompileFailure;
  }
  if (problem.empty()) return function;
  if (function) function->release();
  return softmetal::fail(error, softmetal::kLibraryDomain, code, "newFunction: " + problem);
}

Function* Library::newFunction(const MTL::FunctionDescriptor* descriptor, NS::Error** error) {
  auto* wanted = impl(descriptor);
  Function* function = newFunction(face(wanted->name.get()), face(wanted->constants.get()), error);
  if (function && wanted->specialized_name) impl(function)->name = wanted->specialized_name->value;
  return function;
}

Device* Function::device() const { return face(&impl(this)->library->device); }
NS::Dictionary* Function::functionConstantsDictionary() const {
  auto* function = impl(this);
  auto* table = new softmetal::Dictionary;
  for (uint32_t i = 0; i < function->kernel.constant_count; ++i) {
    const SoftmetalFunctionConstant& constant = function->kernel.constants[i];
    table->items.emplace_back(softmetal::Ref<softmetal::Object>::adopt(new softmetal::String(constant.name)),
                              softmetal::Ref<softmetal::Object>::adopt(
                                  new softmetal::FunctionConstant(*function->library, constant)));
  }
  return face(autoreleased(table));
}
FunctionType Function::functionType() const { return FunctionTypeKernel; }
NS::String* Function::label() const { return softmetal::label_string(impl(this)->label); }
NS::String* Function::name() const { return softmetal::autoreleased_string(impl(this)->name); }
void Function::setLabel(const NS::String* label) { impl(this)->label = softmetal::str(label); }

NS::UInteger FunctionConstant::index() const { return impl(this)->table.index; }
NS::String* FunctionConstant::name() const { return softmetal::autoreleased_string(impl(this)->table.name); }
bool FunctionConstant::required() const { return impl(this)->table.required; }
DataType FunctionConstant::type() const { return static_cast<DataType>(impl(this)->table.data_type); }

FunctionConstantValues* FunctionConstantValues::alloc() { return face(new softmetal::ConstantValues); }
FunctionConstantValues* FunctionConstantValues::init() { return this; }
void FunctionConstantValues::reset() { impl(this)->entries.clear(); }

// The value of one constant as bytes; empty (and misuse) when the type cannot be one.
static std::vector<char> constant_bytes(const void* value, DataType type) {
  const size_t size = softmetal::data_type_size(type);
  if (!size || !value) {
    softmetal::report_misuse(softmetal::text(
        "FunctionConstantValues::setConstantValue: %s, needs a value of a scalar or vector type",
        value ? softmetal::data_type_name(type) : "value is null"));
    return {};
  }
  const char* bytes = static_cast<const char*>(value);
  return {bytes, bytes + size};
}

void FunctionConstantValues::setConstantValue(const void* value, MTL::DataType type, NS::UInteger index) {
  impl(this)->set({{}, index, type, constant_bytes(value, type)});
}
void FunctionConstantValues::setConstantValue(const void* value, MTL::DataType type, const NS::String* name) {
  impl(this)->set({softmetal::str(name), 0, type, constant_bytes(value, type)});
}
void FunctionConstantValues::setConstantValues(const void* values, MTL::DataType type, NS::Range range) {
  const char* bytes = static_cast<const char*>(values);
  for (NS::UInteger i = 0; i < range.length; ++i)
    setConstantValue(bytes + i * softmetal::data_type_size(type), type, range.location + i);
}

FunctionDescriptor* FunctionDescriptor::alloc() { return face(new softmetal::FunctionDescriptor); }
FunctionDescriptor* FunctionDescriptor::functionDescriptor() { return alloc()->init()->autorelease(); }
FunctionDescriptor* FunctionDescriptor::init() { return this; }
FunctionConstantValues* FunctionDescriptor::constantValues() const {
  return face(impl(this)->constants.get());
}
NS::String* FunctionDescriptor::name() const { return face(impl(this)->name.get()); }
NS::String* FunctionDescriptor::specializedName() const { return face(impl(this)->specialized_name.get()); }
void FunctionDescriptor::setConstantValues(const MTL::FunctionConstantValues* constantValues) {
  impl(this)->constants = softmetal::Ref<softmetal::ConstantValues>::adopt(
      constantValues ? impl(constantValues->copy()) : nullptr);
}
void FunctionDescriptor::setName(const NS::String* name) { impl(this)->name = impl(name); }
void FunctionDescriptor::setSpecializedName(const NS::String* specializedName) {
  impl(this)->specialized_name = impl(specializedName);
}

ComputePipelineState* Device::newComputePipelineState(const MTL::Function* computeFunction,
                                                      NS::Error** error) {
  return softmetal::new_pipeline(impl(computeFunction), nullptr, PipelineOptionNone, nullptr, error);
}
ComputePipelineState* Device::newComputePipelineState(
    const MTL::Function* computeFunction, MTL::PipelineOption options,
    const MTL::AutoreleasedComputePipelineReflection* reflection, NS::Error** error) {
  return softmetal::new_pipeline(impl(computeFunction), nullptr, options, reflection, error);
}
ComputePipelineState* Device::newComputePipelineState(
    const MTL::ComputePipelineDescriptor* descriptor, MTL::PipelineOption options,
    const MTL::AutoreleasedComputePipelineReflection* reflection, NS::Error** error) {
  return softmetal::new_pipeline(impl(descriptor)->function.get(), impl(descriptor), options, reflection,
                                 error);
}

ComputePipelineDescriptor* ComputePipelineDescriptor::alloc() {
  return face(new softmetal::PipelineDescriptor);
}
ComputePipelineDescriptor* ComputePipelineDescriptor::init() { return this; }
NS::Array* ComputePipelineDescriptor::binaryArchives() const { return face(impl(this)->archives.get()); }
Function* ComputePipelineDescriptor::computeFunction() const { return face(impl(this)->function.get()); }
NS::String* ComputePipelineDescriptor::label() const { return face(impl(this)->label.get()); }
NS::UInteger ComputePipelineDescriptor::maxTotalThreadsPerThreadgroup() const {
  return impl(this)->max_threads;
}
void ComputePipelineDescriptor::reset() {
  impl(this)->function = nullptr;
  impl(this)->label = nullptr;
  impl(this)->archives = nullptr;
  impl(this)->max_threads = 0;
  impl(this)->multiple_of_width = false;
  impl(this)->indirect = false;
}
void ComputePipelineDescriptor::setBinaryArchives(const NS::Array* binaryArchives) {
  impl(this)->archives = impl(binaryArchives);
}
void ComputePipelineDescriptor::setComputeFunction(const MTL::Function* computeFunction) {
  impl(this)->function = impl(computeFunction);
}
void ComputePipelineDescriptor::setLabel(const NS::String* label) { impl(this)->label = impl(label); }
void ComputePipelineDescriptor::setMaxTotalThreadsPerThreadgroup(NS::UInteger maxTotalThreadsPerThreadgroup) {
  impl(this)->max_threads = maxTotalThreadsPerThreadgroup;
}
void ComputePipelineDescriptor::setThreadGroupSizeIsMultipleOfThreadExecutionWidth(
    bool threadGroupSizeIsMultipleOfThreadExecutionWidth) {
  impl(this)->multiple_of_width = threadGroupSizeIsMultipleOfThreadExecutionWidth;
}
void ComputePipelineDescriptor::setSupportIndirectCommandBuffers(bool supportIndirectCommandBuffers) {
  impl(this)->indirect = supportIndirectCommandBuffers;
}
bool ComputePipelineDescriptor::supportIndirectCommandBuffers() const { return impl(this)->indirect; }
bool ComputePipelineDescriptor::threadGroupSizeIsMultipleOfThreadExecutionWidth() const {
  return impl(this)->multiple_of_width;
}

Device* ComputePipelineState::device() const { return face(&impl(this)->function->library->device); }
NS::String* ComputePipelineState::label() const { return softmetal::label_string(impl(this)->label); }
NS::UInteger ComputePipelineState::maxTotalThreadsPerThreadgroup() const { return impl(this)->max_threads; }
ComputePipelineReflection* ComputePipelineState::reflection() const {
  return face(autoreleased(new softmetal::Reflection(*impl(this))));
}
NS::UInteger ComputePipelineState::staticThreadgroupMemoryLength() const { return impl(this)->static_bytes; }
bool ComputePipelineState::supportIndirectCommandBuffers() const { return impl(this)->indirect; }
NS::UInteger ComputePipelineState::threadExecutionWidth() const { return impl(this)->kernel.execution_width; }

NS::Array* ComputePipelineReflection::arguments() const { return bindings(); }
NS::Array* ComputePipelineReflection::bindings() const { return face(impl(this)->bindings.get()); }

DataType Type::dataType() const { return impl(this)->type(); }
DataType StructMember::dataType() const { return impl(this)->type; }
NS::String* StructMember::name() const { return softmetal::autoreleased_string(kAtomicMember); }
NS::UInteger StructMember::offset() const { return 0; }
StructMember* StructType::memberByName(const NS::String* name) {
  return softmetal::str(name) == kAtomicMember ? members()->object<StructMember>(0) : nullptr;
}
NS::Array* StructType::members() const { return face(impl(this)->members.get()); }
BindingAccess PointerType::access() const { return static_cast<BindingAccess>(impl(this)->table.access); }
NS::UInteger PointerType::alignment() const { return impl(this)->table.element_align; }
NS::UInteger PointerType::dataSize() const { return impl(this)->table.element_size; }
StructType* PointerType::elementStructType() { return softmetal::struct_type(impl(this)->table); }
DataType PointerType::elementType() const { return softmetal::pointee_type(impl(this)->table); }

BindingAccess Binding::access() const { return static_cast<BindingAccess>(impl(this)->table.access); }
NS::UInteger Binding::index() const { return impl(this)->table.index; }
bool Binding::isArgument() const { return true; }
bool Binding::isUsed() const {
  return softmetal::is_active(*impl(this)->pipeline->function, impl(this)->table);
}
NS::String* Binding::name() const { return softmetal::autoreleased_string(impl(this)->table.name); }
BindingType Binding::type() const { return static_cast<BindingType>(impl(this)->table.kind); }
NS::UInteger BufferBinding::bufferAlignment() const { return impl(this)->table.element_align; }
NS::UInteger BufferBinding::bufferDataSize() const { return impl(this)->table.element_size; }
DataType BufferBinding::bufferDataType() const { return softmetal::pointee_type(impl(this)->table); }
StructType* BufferBinding::bufferStructType() const { return softmetal::struct_type(impl(this)->table); }
PointerType* BufferBinding::bufferPointerType() const {
  return face(autoreleased(new softmetal::PointerType(*impl(this)->pipeline, impl(this)->table)));
}
NS::UInteger ThreadgroupBinding::threadgroupMemoryAlignment() const {
  return impl(this)->table.element_align;
}
NS::UInteger ThreadgroupBinding::threadgroupMemoryDataSize() const { return impl(this)->table.element_size; }

// The older reflection: the same facts under MTL::Argument's names.
BindingAccess Argument::access() const { return static_cast<BindingAccess>(impl(this)->table.access); }
NS::UInteger Argument::bufferAlignment() const { return impl(this)->table.element_align; }
NS::UInteger Argument::bufferDataSize() const { return impl(this)->table.element_size; }
DataType Argument::bufferDataType() const { return softmetal::pointee_type(impl(this)->table); }
StructType* Argument::bufferStructType() const { return softmetal::struct_type(impl(this)->table); }
PointerType* Argument::bufferPointerType() const {
  return face(autoreleased(new softmetal::PointerType(*impl(this)->pipeline, impl(this)->table)));
}
NS::UInteger Argument::index() const { return impl(this)->table.index; }
bool Argument::isActive() const {
  return softmetal::is_active(*impl(this)->pipeline->function, impl(this)->table);
}
NS::String* Argument::name() const { return softmetal::autoreleased_string(impl(this)->table.name); }
NS::UInteger Argument::threadgroupMemoryAlignment() const { return impl(this)->table.element_align; }
NS::UInteger Argument::threadgroupMemoryDataSize() const { return impl(this)->table.element_size; }
ArgumentType Argument::type() const { return static_cast<ArgumentType>(impl(this)->table.kind); }

}  // namespace MTL
