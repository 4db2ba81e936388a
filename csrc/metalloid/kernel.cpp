#include "metalloid/kernel.h"

#include <algorithm>
#include <limits>

#include "metalloid/buffer.h"
#include "metalloid/device.h"
#include "metalloid/software.h"
#include "metalloid/source_arguments.h"

namespace metalloid {

namespace {

// Of constant memory, which Apple's GPUs want on at least so many bytes.
constexpr uint64_t kConstantAlignment = 4;
// The most that Metal's setBytes takes.
constexpr uint64_t kMaxInlineBytes = 4096;
// Positions of threads are 32-bit numbers in the shading language, sizes of grids 64-bit ones here.
constexpr uint64_t kMaxGridSide = std::numeric_limits<uint32_t>::max();
constexpr uint64_t kMaxGridThreads = uint64_t{1} << 62;

// What an atomic holds: to Metal it is a struct of one member, whose name is the language's own.
MTL::DataType type_of(const MTL::BufferBinding* buffer) {
  const MTL::DataType type = buffer->bufferDataType();
  if (type != MTL::DataTypeStruct) return type;
  const MTL::StructType* layout = buffer->bufferStructType();
  const NS::Array* members = layout ? layout->members() : nullptr;
  if (!members || members->count() != 1) return type;
  const auto* member = members->object<MTL::StructMember>(0);
  const Element held = element_of(member->dataType());
  const bool scalar = held.dtype && held.lanes == 1 && held.columns == 1 && member->offset() == 0 &&
                      size_of(*held.dtype) == buffer->bufferDataSize();
  return scalar && to_string(member->name()).starts_with("__") ? member->dataType() : type;
}

KernelArgument describe(const MTL::Binding* binding) {
  KernelArgument argument{};
  argument.name = to_string(binding->name());
  argument.index = static_cast<uint32_t>(binding->index());
  argument.active = binding->isUsed();
  argument.size = argument.alignment = 1;
  switch (binding->access()) {
    case MTL::BindingAccessReadOnly:
      argument.access = Access::read;
      break;
    case MTL::BindingAccessWriteOnly:
      argument.access = Access::write;
      break;
    default:
      argument.access = Access::read_write;
  }
  if (binding->type() == MTL::BindingTypeBuffer) {
    auto* buffer = static_cast<const MTL::BufferBinding*>(binding);
    argument.kind = KernelArgument::Kind::buffer;
    argument.type = type_of(buffer);
    argument.size = std::max<uint64_t>(buffer->bufferDataSize(), 1);
    argument.alignment = std::max<uint64_t>(buffer->bufferAlignment(), 1);
  } else {
    auto* memory = static_cast<const MTL::ThreadgroupBinding*>(binding);
    argument.kind = KernelArgument::Kind::threadgroup;
    argument.address_space = "threadgroup";
    argument.type = MTL::DataTypeNone;
    argument.size = std::max<uint64_t>(memory->threadgroupMemoryDataSize(), 1);
    argument.alignment = std::max<uint64_t>(memory->threadgroupMemoryAlignment(), 1);
  }
  argument.element = element_of(argument.type);
  argument.element_type = name_of(argument.type);
  argument.type_name = argument.element_type;
  return argument;
}

std::string_view name_of(KernelArgument::Kind kind) {
  return kind == KernelArgument::Kind::buffer ? "buffer" : "threadgroup";
}

bool is_empty(const Extent& extent) { return extent.x == 0 || extent.y == 0 || extent.z == 0; }

// The product, or the largest number where it does not fit.
uint64_t volume(const Extent& extent) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(extent.x, extent.y, &product) ||
      __builtin_mul_overflow(product, extent.z, &product)) {
    return std::numeric_limits<uint64_t>::max();
  }
  return product;
}

}  // namespace

Kernel::Kernel(Device& device, Pipeline pipeline, const MTL::ComputePipelineReflection* reflection,
               std::vector<KernelConstant> constants, const SourceArguments& source)
    : device_(device), pipeline_(std::move(pipeline)), constants_(std::move(constants)) {
  const NS::Array* bindings = reflection ? reflection->bindings() : nullptr;
  for (NS::UInteger i = 0; bindings && i < bindings->count(); ++i) {
    auto* binding = bindings->object<MTL::Binding>(i);
    MTL::BindingType type = binding->type();
    if (type != MTL::BindingTypeBuffer && type != MTL::BindingTypeThreadgroupMemory) {
      throw ValidationError(text("kernel ", name(), ": argument ", to_string(binding->name()),
                                 " is neither a buffer nor threadgroup memory, which are all that "
                                 "metalloid has"));
    }
    arguments_.push_back(describe(binding));
  }
  software::KernelInfo info = software::kernel_info(pipeline_.state.get());
  builtins_ = std::move(info.builtins);
  for (KernelArgument& argument : arguments_) {
    for (const software::KernelInfo::Argument& known : info.arguments) {
      if (known.threadgroup != (argument.kind == KernelArgument::Kind::threadgroup)) continue;
      if (known.index != argument.index) continue;
      argument.address_space = known.address_space;
      argument.type_name = known.type_name;
      if (!known.threadgroup) continue;
      argument.type = known.type;
      argument.element = element_of(known.type);
      argument.element_type = name_of(known.type);
    }
    if (argument.address_space.empty()) {
      argument.address_space = source.address_space(name(), argument.name);
    }
    if (argument.address_space == "constant") {
      argument.alignment = std::max(argument.alignment, kConstantAlignment);
    }
  }
  if (!info.known && !constants_.empty()) {
    add_switched_off(source);
    may_lack_arguments_ = !source.has(name());
  }
  std::sort(arguments_.begin(), arguments_.end(), [](const KernelArgument& a, const KernelArgument& b) {
    return a.kind != b.kind ? a.kind < b.kind : a.index < b.index;
  });
  std::sort(constants_.begin(), constants_.end(),
            [](const KernelConstant& a, const KernelConstant& b) { return a.index < b.index; });
  for (uint32_t i = 0; i < arguments_.size(); ++i) {
    all_.push_back(i);
    if (arguments_[i].active) active_.push_back(i);
  }
  auto most = device.max_threads_per_threadgroup();
  max_threads_ = {most[0], most[1], most[2]};
}

// Those that Metal does not tell of.
void Kernel::add_switched_off(const SourceArguments& source) {
  for (const SourceArguments::Argument& declared : source.switched(name())) {
    if (!declared.index || has(declared.name)) continue;
    KernelArgument argument{};
    argument.name = declared.name;
    argument.index = *declared.index;
    argument.kind = declared.address_space == "threadgroup" ? KernelArgument::Kind::threadgroup
                                                            : KernelArgument::Kind::buffer;
    argument.access = Access::read;
    argument.address_space = declared.address_space;
    argument.element_type = argument.type_name = name_of(MTL::DataTypeNone);
    argument.size = argument.alignment = 1;
    arguments_.push_back(std::move(argument));
  }
}

bool Kernel::has(std::string_view wanted) const {
  return std::any_of(arguments_.begin(), arguments_.end(),
                     [&](const KernelArgument& argument) { return argument.name == wanted; });
}

std::string Kernel::place(const KernelArgument& argument) const {
  return text("dispatch of ", name(), ": argument ", argument.name, " (", name_of(argument.kind), ' ',
              argument.index, ')');
}

size_t Kernel::position(std::string_view wanted) const {
  std::string known;
  for (const KernelArgument& argument : arguments_) {
    if (argument.name == wanted) return static_cast<size_t>(&argument - arguments_.data());
    known += (known.empty() ? "" : ", ") + argument.name;
  }
  throw ValidationError(text("dispatch of ", name(), ": the kernel has no argument \"", wanted,
                             "\", needs names among: ", known.empty() ? "none" : known));
}

std::span<const uint32_t> Kernel::positions(size_t values) const {
  if (values == all_.size()) return all_;
  if (values == active_.size()) return active_;
  std::string wanted;
  for (uint32_t i : active_) wanted += (wanted.empty() ? "" : ", ") + arguments_[i].name;
  throw ValidationError(text("dispatch of ", name(), ": got ", values, " arguments, needs ", active_.size(),
                             wanted.empty() ? "" : " (" + wanted + ")"));
}

void Kernel::refuse_kind(const KernelArgument& argument, const Value& value) const {
  if (value.kind == Value::Kind::none) {
    throw ValidationError(text(place(argument), " is not bound, needs ",
                               argument.kind == KernelArgument::Kind::buffer
                                   ? "a Buffer or a value"
                                   : "metalloid.threadgroup_memory(bytes)"));
  }
  if (argument.kind == KernelArgument::Kind::threadgroup) {
    throw ValidationError(text(place(argument), " is ",
                               value.kind == Value::Kind::bytes ? "a value" : "a Buffer",
                               ", needs metalloid.threadgroup_memory(bytes)"));
  }
  throw ValidationError(text(place(argument), " is threadgroup memory, needs a Buffer or a value"));
}

void Kernel::check_buffer(const KernelArgument& argument, const Value& value, bool empty_grid) const {
  const Buffer& buffer = *static_cast<const Buffer*>(value.object);
  if (&buffer.device() != &device_) [[unlikely]] {
    throw ValidationError(text(place(argument), " is on device ", buffer.device().name(),
                               ", needs to be on the kernel's device ", device_.name()));
  }
  if (value.kind == Value::Kind::buffer) {
    // Bytes are what every struct consists of.
    DType needed = argument.element.dtype.value_or(DType::uint8);
    if (buffer.dtype() != needed && argument.type != MTL::DataTypeNone) [[unlikely]] {
      throw ValidationError(text(place(argument), " is ", buffer.dtype(), ", needs ", needed,
                                 " (the kernel has ", argument.type_name,
                                 "); metalloid.reinterpret(buffer) passes any type"));
    }
  }
  if (argument.access != Access::read && buffer.readonly()) [[unlikely]] {
    throw ValidationError(
        text(place(argument), " is a read-only buffer, needs one that the kernel may write"));
  }
  if (buffer.nbytes() < argument.size && !empty_grid) [[unlikely]] {
    throw ValidationError(text(place(argument), " has ", buffer.nbytes(), " bytes, needs at least ",
                               argument.size, " (one ", argument.type_name, ")"));
  }
  if (buffer.offset() % argument.alignment != 0 && buffer.nbytes() != 0) [[unlikely]] {
    throw ValidationError(text(place(argument), " starts ", buffer.offset(),
                               " bytes into its allocation, needs a multiple of ", argument.alignment,
                               " (the alignment of ", argument.type_name, ")"));
  }
  // Where nobody knows whether it is constant, the caller has to.
  if (argument.address_space.empty() && argument.access == Access::read &&
      argument.alignment < kConstantAlignment && value.kind == Value::Kind::buffer &&
      buffer.offset() % kConstantAlignment != 0 && buffer.nbytes() != 0) [[unlikely]] {
    throw ValidationError(text(place(argument), " starts ", buffer.offset(),
                               " bytes into its allocation, needs a multiple of ", kConstantAlignment,
                               " unless it is in device memory, which neither Metal nor the source tells; "
                               "metalloid.reinterpret(buffer) says that it is"));
  }
}

void Kernel::check_bytes(const KernelArgument& argument, const Value& value) const {
  if (argument.access != Access::read) {
    throw ValidationError(
        text(place(argument), " is a value, needs a Buffer, because the kernel may write it"));
  }
  if (value.length == 0 || value.length % argument.size != 0) {
    throw ValidationError(text(place(argument), " is a value of ", value.length, " bytes, needs ",
                               argument.size, " (one ", argument.type_name, ") or a multiple of it"));
  }
  if (value.length > kMaxInlineBytes) {
    throw ValidationError(text(place(argument), " is a value of ", value.length, " bytes, needs at most ",
                               kMaxInlineBytes, "; Device.array() makes a Buffer of it"));
  }
}

void Kernel::check_geometry(const Grid& grid, const Extent& threadgroup) const {
  const uint64_t threads = volume(threadgroup);
  if (threads == 0) {
    throw ValidationError(
        text("dispatch of ", name(), ": threadgroup is ", threadgroup, ", needs at least 1 x 1 x 1"));
  }
  if (threads > pipeline_.max_threads) {
    throw ValidationError(text("dispatch of ", name(), ": threadgroup is ", threadgroup, ", which is ",
                               threads, " threads, needs at most ", pipeline_.max_threads,
                               " (max_total_threads_per_threadgroup)"));
  }
  if (threadgroup.x > max_threads_.x || threadgroup.y > max_threads_.y || threadgroup.z > max_threads_.z) {
    throw ValidationError(text("dispatch of ", name(), ": threadgroup is ", threadgroup, ", needs at most ",
                               max_threads_, " (the device's max_threads_per_threadgroup)"));
  }
  const bool by_threads = grid.unit == Grid::Unit::threads;
  const Extent& size = grid.size;
  Extent total = size;
  if (!by_threads) {
    const Extent most{kMaxGridSide / threadgroup.x, kMaxGridSide / threadgroup.y,
                      kMaxGridSide / threadgroup.z};
    if (size.x > most.x || size.y > most.y || size.z > most.z) {
      throw ValidationError(text("dispatch of ", name(), ": threadgroups is ", size, " of ", threadgroup,
                                 " threads, needs less than 2^32 threads along each axis"));
    }
    total = {size.x * threadgroup.x, size.y * threadgroup.y, size.z * threadgroup.z};
  } else if (size.x > kMaxGridSide || size.y > kMaxGridSide || size.z > kMaxGridSide) {
    throw ValidationError(
        text("dispatch of ", name(), ": threads is ", size, ", needs less than 2^32 along each axis"));
  }
  if (!is_empty(total) && volume(total) > kMaxGridThreads) {
    throw ValidationError(text("dispatch of ", name(), ": ", by_threads ? "threads" : "threadgroups", " is ",
                               size, ", needs at most 2^62 threads in all"));
  }
}

void Kernel::check(std::span<const Value> values, const Grid& grid, const Extent& threadgroup) const {
  check_geometry(grid, threadgroup);
  const bool empty_grid = is_empty(grid.size);
  uint64_t memory = 0;
  for (size_t i = 0; i < arguments_.size(); ++i) {
    const KernelArgument& argument = arguments_[i];
    const Value& value = values[i];
    if (!argument.active) continue;
    const bool takes_buffer = argument.kind == KernelArgument::Kind::buffer;
    switch (value.kind) {
      case Value::Kind::buffer:
      case Value::Kind::reinterpreted:
        if (!takes_buffer) refuse_kind(argument, value);
        check_buffer(argument, value, empty_grid);
        break;
      case Value::Kind::bytes:
        if (!takes_buffer) refuse_kind(argument, value);
        check_bytes(argument, value);
        break;
      case Value::Kind::memory: {
        if (takes_buffer) refuse_kind(argument, value);
        const uint64_t limit = pipeline_.threadgroup_memory_limit;
        if (value.length < argument.size) {
          throw ValidationError(
              text(place(argument), " has ", value.length, " bytes, needs at least ", argument.size));
        }
        // Each alone first, so that the sum cannot overflow.
        if (value.length <= limit) memory += padded_memory(value.length);
        if (value.length > limit || memory + pipeline_.static_memory > limit) {
          throw ValidationError(text(place(argument), " has ", value.length, " bytes of threadgroup memory, ",
                                     "of which the kernel declares ", pipeline_.static_memory,
                                     " itself and its other arguments take ",
                                     value.length <= limit ? memory - padded_memory(value.length) : memory,
                                     ", needs at most ", limit, " in all"));
        }
        break;
      }
      default:
        refuse_kind(argument, value);
    }
  }
}

}  // namespace metalloid
