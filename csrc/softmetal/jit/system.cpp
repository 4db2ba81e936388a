#include "metalloid/system.h"

#include "softmetal/jit/language.h"
#include "softmetal/runtime/device.h"

namespace metalloid {

const void* bytes_of(const NS::Data* data) { return data->mutableBytes(); }

Language language() { return {softmetal::jit::newest_language(), "softmetal"}; }

// The imitation is for what would fail on a Mac to fail here.
bool survives_forks() { return !softmetal::imitates_mac(); }

}  // namespace metalloid
