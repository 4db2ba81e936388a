#include "softmetal/runtime/counters.h"

#include "softmetal/runtime/encoder.h"
#include "softmetal/runtime/queue.h"

namespace softmetal {

CounterSet* CounterSet::timestamp() {
  static auto* const set = new CounterSet(MTL::CommonCounterSetTimestamp, MTL::CommonCounterTimestamp);
  return set;
}

Object* CounterSampleBufferDescriptor::clone() {
  auto* made = new CounterSampleBufferDescriptor;
  made->set = set;
  made->label = label;
  made->count = count;
  made->storage = storage;
  return made;
}

CounterSampleBuffer::CounterSampleBuffer(Device& owner, const CounterSampleBufferDescriptor& descriptor)
    : device(owner),
      label(descriptor.label),
      count(descriptor.count),
      storage(descriptor.storage),
      samples(new std::atomic<uint64_t>[descriptor.count]) {
  for (NS::UInteger i = 0; i < count; ++i)
    samples[i].store(MTL::CounterErrorValue, std::memory_order_relaxed);
}

Object* SampleAttachment::clone() {
  auto* made = new SampleAttachment;
  made->buffer = buffer;
  made->start = start;
  made->end = end;
  return made;
}

bool SampleAttachments::valid(const char* call, NS::UInteger index) {
  if (index < kMaxSampleAttachments) return true;
  report_misuse(
      text("ComputePassSampleBufferAttachmentDescriptorArray::%s: attachmentIndex is %zu, needs at "
           "most %zu",
           call, static_cast<size_t>(index), static_cast<size_t>(kMaxSampleAttachments - 1)));
  return false;
}

Object* PassDescriptor::clone() {
  auto* made = new PassDescriptor;
  made->type = type;
  if (!attachments) return made;
  made->attachments = Ref<SampleAttachments>::adopt(new SampleAttachments);
  for (NS::UInteger i = 0; i < kMaxSampleAttachments; ++i)
    if (SampleAttachment* attachment = attachments->items[i].get())
      made->attachments->items[i] =
          Ref<SampleAttachment>::adopt(static_cast<SampleAttachment*>(attachment->clone()));
  return made;
}

void PassDescriptor::sample(CommandBuffer& buffer, ComputeEncoder& encoder) const {
  if (!attachments) return;
  Recording& recording = *buffer.recording;
  for (NS::UInteger i = 0; i < kMaxSampleAttachments; ++i) {
    const SampleAttachment* attachment = attachments->items[i].get();
    if (!attachment || !attachment->buffer) continue;
    CounterSampleBuffer& into = *attachment->buffer;
    const auto fail = [&](const std::string& problem) {
      buffer.fail(text("CommandBuffer::computeCommandEncoder: sampleBufferAttachments[%zu].%s",
                       static_cast<size_t>(i), problem.c_str()));
    };
    if (&into.device != &buffer.queue->device) {
      fail("sampleBuffer belongs to another device, needs one of the command buffer's device");
      continue;
    }
    const auto command = [&](const char* name, NS::UInteger index) -> SampleCommand* {
      if (index == MTL::CounterDontSample) return nullptr;
      if (index < into.count) return recording.arena.make<SampleCommand>(into.samples[index]);
      fail(text("%s is %zu, needs less than the sample buffer's count, %zu, or CounterDontSample", name,
                static_cast<size_t>(index), static_cast<size_t>(into.count)));
      return nullptr;
    };
    if (SampleCommand* start = command("startOfEncoderSampleIndex", attachment->start))
      recording.append(start);
    if (SampleCommand* end = command("endOfEncoderSampleIndex", attachment->end)) {
      end->next = encoder.end_samples;
      encoder.end_samples = end;
    }
    recording.hold(&into);
  }
}

}  // namespace softmetal

namespace MTL {

using softmetal::autoreleased;
using softmetal::face;
using softmetal::impl;

const CommonCounter CommonCounterTimestamp = softmetal::constant_string("GPUTimestamp");
const CommonCounterSet CommonCounterSetTimestamp = softmetal::constant_string("timestamp");
const NS::ErrorDomain CounterErrorDomain = softmetal::constant_string("MTLCounterErrorDomain");

NS::String* Counter::name() const { return face(impl(this)->name.get()); }
NS::Array* CounterSet::counters() const {
  auto* counters = new softmetal::Array;
  counters->add(impl(this)->counter.get());
  return face(autoreleased(counters));
}
NS::String* CounterSet::name() const { return face(impl(this)->name.get()); }

CounterSampleBufferDescriptor* CounterSampleBufferDescriptor::alloc() {
  return face(new softmetal::CounterSampleBufferDescriptor);
}
CounterSet* CounterSampleBufferDescriptor::counterSet() const { return face(impl(this)->set.get()); }
CounterSampleBufferDescriptor* CounterSampleBufferDescriptor::init() { return this; }
NS::String* CounterSampleBufferDescriptor::label() const {
  return softmetal::label_string(impl(this)->label);
}
NS::UInteger CounterSampleBufferDescriptor::sampleCount() const { return impl(this)->count; }
void CounterSampleBufferDescriptor::setCounterSet(const MTL::CounterSet* counterSet) {
  impl(this)->set = impl(counterSet);
}
void CounterSampleBufferDescriptor::setLabel(const NS::String* label) {
  impl(this)->label = softmetal::str(label);
}
void CounterSampleBufferDescriptor::setSampleCount(NS::UInteger sampleCount) {
  impl(this)->count = sampleCount;
}
void CounterSampleBufferDescriptor::setStorageMode(MTL::StorageMode storageMode) {
  impl(this)->storage = storageMode;
}
StorageMode CounterSampleBufferDescriptor::storageMode() const { return impl(this)->storage; }

NS::Array* Device::counterSets() const {
  auto* sets = new softmetal::Array;
  sets->add(softmetal::CounterSet::timestamp());
  return face(autoreleased(sets));
}
CounterSampleBuffer* Device::newCounterSampleBuffer(const MTL::CounterSampleBufferDescriptor* descriptor,
                                                    NS::Error** error) {
  const auto* wanted = impl(descriptor);
  std::string problem;
  if (!wanted)
    problem = "descriptor is null, needs one";
  else if (!wanted->set)
    problem = "counterSet is null, needs one of Device::counterSets";
  else if (wanted->count == 0 || wanted->count > softmetal::kMaxSamples)
    problem = softmetal::text("sampleCount is %zu, needs 1 to %zu", static_cast<size_t>(wanted->count),
                              static_cast<size_t>(softmetal::kMaxSamples));
  else if (wanted->storage != StorageModeShared && wanted->storage != StorageModePrivate)
    problem = "storageMode is neither shared nor private, needs one of them";
  if (!problem.empty())
    return softmetal::fail(error, "MTLCounterErrorDomain", CounterSampleBufferErrorInvalid,
                           "Device::newCounterSampleBuffer: " + problem);
  return face(new softmetal::CounterSampleBuffer(*impl(this), *wanted));
}
bool Device::supportsCounterSampling(MTL::CounterSamplingPoint samplingPoint) {
  return samplingPoint == CounterSamplingPointAtStageBoundary;
}

Device* CounterSampleBuffer::device() const { return face(&impl(this)->device); }
NS::String* CounterSampleBuffer::label() const { return softmetal::label_string(impl(this)->label); }
NS::Data* CounterSampleBuffer::resolveCounterRange(NS::Range range) {
  const auto& buffer = *impl(this);
  if (buffer.storage == StorageModePrivate) {
    softmetal::report_misuse(
        "CounterSampleBuffer::resolveCounterRange: the storage mode is private, needs shared");
    return nullptr;
  }
  if (range.location > buffer.count || range.length > buffer.count - range.location) {
    softmetal::report_misuse(softmetal::text(
        "CounterSampleBuffer::resolveCounterRange: range is [%zu, %zu), needs to lie in [0, %zu)",
        static_cast<size_t>(range.location), static_cast<size_t>(range.Max()),
        static_cast<size_t>(buffer.count)));
    return nullptr;
  }
  auto* data = new softmetal::Data(range.length * sizeof(CounterResultTimestamp));
  auto* results = reinterpret_cast<CounterResultTimestamp*>(data->bytes.data());
  for (NS::UInteger i = 0; i < range.length; ++i)
    results[i].timestamp = buffer.samples[range.location + i].load(std::memory_order_relaxed);
  return face(autoreleased(data));
}
NS::UInteger CounterSampleBuffer::sampleCount() const { return impl(this)->count; }

ComputePassSampleBufferAttachmentDescriptor* ComputePassSampleBufferAttachmentDescriptor::alloc() {
  return face(new softmetal::SampleAttachment);
}
NS::UInteger ComputePassSampleBufferAttachmentDescriptor::endOfEncoderSampleIndex() const {
  return impl(this)->end;
}
ComputePassSampleBufferAttachmentDescriptor* ComputePassSampleBufferAttachmentDescriptor::init() {
  return this;
}
CounterSampleBuffer* ComputePassSampleBufferAttachmentDescriptor::sampleBuffer() const {
  return face(impl(this)->buffer.get());
}
void ComputePassSampleBufferAttachmentDescriptor::setEndOfEncoderSampleIndex(
    NS::UInteger endOfEncoderSampleIndex) {
  impl(this)->end = endOfEncoderSampleIndex;
}
void ComputePassSampleBufferAttachmentDescriptor::setSampleBuffer(
    const MTL::CounterSampleBuffer* sampleBuffer) {
  impl(this)->buffer = impl(sampleBuffer);
}
void ComputePassSampleBufferAttachmentDescriptor::setStartOfEncoderSampleIndex(
    NS::UInteger startOfEncoderSampleIndex) {
  impl(this)->start = startOfEncoderSampleIndex;
}
NS::UInteger ComputePassSampleBufferAttachmentDescriptor::startOfEncoderSampleIndex() const {
  return impl(this)->start;
}

ComputePassSampleBufferAttachmentDescriptorArray* ComputePassSampleBufferAttachmentDescriptorArray::alloc() {
  return face(new softmetal::SampleAttachments);
}
ComputePassSampleBufferAttachmentDescriptorArray* ComputePassSampleBufferAttachmentDescriptorArray::init() {
  return this;
}
ComputePassSampleBufferAttachmentDescriptor* ComputePassSampleBufferAttachmentDescriptorArray::object(
    NS::UInteger attachmentIndex) {
  if (!softmetal::SampleAttachments::valid("object", attachmentIndex)) return nullptr;
  auto& item = impl(this)->items[attachmentIndex];
  if (!item) item = softmetal::Ref<softmetal::SampleAttachment>::adopt(new softmetal::SampleAttachment);
  return face(item.get());
}
void ComputePassSampleBufferAttachmentDescriptorArray::setObject(
    const MTL::ComputePassSampleBufferAttachmentDescriptor* attachment, NS::UInteger attachmentIndex) {
  if (!softmetal::SampleAttachments::valid("setObject", attachmentIndex)) return;
  auto* copy = attachment ? static_cast<softmetal::SampleAttachment*>(impl(attachment)->clone()) : nullptr;
  impl(this)->items[attachmentIndex] = softmetal::Ref<softmetal::SampleAttachment>::adopt(copy);
}

ComputePassDescriptor* ComputePassDescriptor::alloc() { return face(new softmetal::PassDescriptor); }
ComputePassDescriptor* ComputePassDescriptor::computePassDescriptor() {
  return alloc()->init()->autorelease();
}
DispatchType ComputePassDescriptor::dispatchType() const { return impl(this)->type; }
ComputePassDescriptor* ComputePassDescriptor::init() { return this; }
ComputePassSampleBufferAttachmentDescriptorArray* ComputePassDescriptor::sampleBufferAttachments() const {
  auto& attachments = impl(this)->attachments;
  if (!attachments)
    attachments = softmetal::Ref<softmetal::SampleAttachments>::adopt(new softmetal::SampleAttachments);
  return face(attachments.get());
}
void ComputePassDescriptor::setDispatchType(MTL::DispatchType dispatchType) {
  impl(this)->type = dispatchType;
}

}  // namespace MTL
