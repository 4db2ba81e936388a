#include "softmetal/runtime/archive.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "softmetal/runtime/library.h"

namespace softmetal {

namespace {

constexpr const char* kDomain = "MTLBinaryArchiveDomain";
constexpr uint32_t kVersion = 1;

// Before the names of the functions, each with its length before it.
struct Header {
  char magic[16] = {'s', 'o', 'f', 't', 'm', 'e', 't', 'a', 'l', ' ', 'a', 'r', 'c', 'h', '.', '\n'};
  uint32_t version = kVersion;
  uint32_t count = 0;
  uint64_t sum = 0;
};

uint64_t sum_of(const std::string& bytes) {
  uint64_t sum = 0xcbf29ce484222325;
  for (const char byte : bytes) sum = (sum ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  return sum;
}

// All that code compiled for a pipeline would depend on.
std::string identity_of(const PipelineDescriptor& descriptor) {
  const Function& function = *descriptor.function;
  const SoftmetalLibrary& table = *function.library->table;
  std::string identity =
      text("%s\n%s\n%s\n%zu %d %d %llx ", function.kernel.name, table.isa ? table.isa : "",
           table.compiler ? table.compiler : "", static_cast<size_t>(descriptor.max_threads),
           descriptor.multiple_of_width, descriptor.indirect,
           static_cast<unsigned long long>(function.constants_defined));
  return identity.append(function.constants.begin(), function.constants.end());
}

}  // namespace

Object* ArchiveDescriptor::clone() {
  auto* made = new ArchiveDescriptor;
  made->url = url;
  return made;
}

Archive* Archive::create(Device& device, const ArchiveDescriptor* descriptor, NS::Error** error) {
  if (!descriptor)
    return softmetal::fail(error, kDomain, MTL::BinaryArchiveErrorUnexpectedElement,
                           "newBinaryArchive: descriptor is null, needs one");
  auto made = Ref<Archive>::adopt(new Archive(device));
  std::string problem;
  if (descriptor->url) problem = made->read(descriptor->url->path);
  if (!problem.empty())
    return softmetal::fail(error, kDomain, MTL::BinaryArchiveErrorInvalidFile,
                           "newBinaryArchive: \"" + descriptor->url->path + "\" " + problem);
  made->retain();
  return made.get();
}

std::string Archive::read(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  Header header;
  if (!stream || stream.peek() == std::ifstream::traits_type::eof()) return "cannot be read, or is empty";
  if (!stream.read(reinterpret_cast<char*>(&header), sizeof header)) return "ends in its header";
  if (std::memcmp(header.magic, Header{}.magic, sizeof header.magic) != 0) return "is not an archive";
  if (header.version != kVersion) return text("has version %u, needs %u", header.version, kVersion);
  const std::string body{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (sum_of(body) != header.sum) return "is damaged";
  size_t at = 0;
  for (uint32_t i = 0; i < header.count; ++i) {
    uint32_t length = 0;
    if (body.size() - at < sizeof length) return "is damaged";
    std::memcpy(&length, body.data() + at, sizeof length);
    at += sizeof length;
    if (body.size() - at < length) return "is damaged";
    functions_.insert(body.substr(at, length));
    at += length;
  }
  return {};
}

bool Archive::add(const PipelineDescriptor* descriptor, NS::Error** error) {
  std::string problem;
  if (!descriptor || !descriptor->function)
    problem = "descriptor has no computeFunction, needs one";
  else
    problem = descriptor->function->missing_constant();
  if (!problem.empty()) {
    softmetal::fail(error, kDomain, MTL::BinaryArchiveErrorCompilationFailure,
                    "addComputePipelineFunctions: " + problem);
    return false;
  }
  functions_.insert(identity_of(*descriptor));
  return true;
}

bool Archive::has(const PipelineDescriptor& descriptor) const {
  return descriptor.function && functions_.count(identity_of(descriptor)) != 0;
}

bool Archive::write(const std::string& path, NS::Error** error) const {
  std::string body;
  for (const std::string& function : functions_) {
    const auto length = static_cast<uint32_t>(function.size());
    body.append(reinterpret_cast<const char*>(&length), sizeof length).append(function);
  }
  Header header;
  header.count = static_cast<uint32_t>(functions_.size());
  header.sum = sum_of(body);
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream.write(reinterpret_cast<const char*>(&header), sizeof header);
  stream.write(body.data(), static_cast<std::streamsize>(body.size()));
  stream.close();
  if (stream) return true;
  softmetal::fail(error, kDomain, MTL::BinaryArchiveErrorInternalError,
                  text("serializeToURL: cannot write \"%s\": %s", path.c_str(), std::strerror(errno)));
  return false;
}

}  // namespace softmetal

namespace MTL {

using softmetal::face;
using softmetal::impl;

const NS::ErrorDomain BinaryArchiveDomain = softmetal::constant_string(softmetal::kDomain);

BinaryArchiveDescriptor* BinaryArchiveDescriptor::alloc() { return face(new softmetal::ArchiveDescriptor); }
BinaryArchiveDescriptor* BinaryArchiveDescriptor::init() { return this; }
void BinaryArchiveDescriptor::setUrl(const NS::URL* url) { impl(this)->url = impl(url); }
NS::URL* BinaryArchiveDescriptor::url() const { return face(impl(this)->url.get()); }

BinaryArchive* Device::newBinaryArchive(const MTL::BinaryArchiveDescriptor* descriptor, NS::Error** error) {
  return face(softmetal::Archive::create(*impl(this), impl(descriptor), error));
}

bool BinaryArchive::addComputePipelineFunctions(const MTL::ComputePipelineDescriptor* descriptor,
                                                NS::Error** error) {
  return impl(this)->add(impl(descriptor), error);
}
Device* BinaryArchive::device() const { return face(&impl(this)->device); }
NS::String* BinaryArchive::label() const { return softmetal::label_string(impl(this)->label); }
bool BinaryArchive::serializeToURL(const NS::URL* url, NS::Error** error) {
  return impl(this)->write(url ? impl(url)->path : std::string(), error);
}
void BinaryArchive::setLabel(const NS::String* label) { impl(this)->label = softmetal::str(label); }

}  // namespace MTL
