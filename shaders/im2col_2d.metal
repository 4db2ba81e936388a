// Patch unfolding: row m of the output holds patch m, channel by channel, row by row.
#include "include/rows.h"
#include "params/im2col_2d.h"

// One threadgroup copies one patch, as rows of `patch` neighbouring elements. A SIMD-group copies as many
// rows at once as fit into its lanes. Size 0: the patch size is known at run time only.
template <typename T, uint Size>
inline void unfold(constant Im2col2dParams& params, const device T* pixels, device T* out, uint2 at, uint2 patches,
                   uint lane, uint width, uint simdgroup, uint simdgroups) {
  const uint patch = Size != 0 ? Size : params.patch;
  const ulong row_length = ulong(params.channels) * patch * patch;
  const ulong channel_size = ulong(params.height) * params.width;
  device T* to = out + (ulong(at.y) * patches.x + at.x) * row_length;
  const device T* from = pixels + (ulong(at.y) * patch * params.width + ulong(at.x) * patch);

#if defined(__SOFTMETAL__)
  if (width == 1 && simdgroups == 1 && streams(ulong(patches.x) * patches.y * row_length * sizeof(T))) {
    softmetal::RunStream<T> gathered(to);
    for (uint channel = 0; channel < params.channels; channel++) {
      for (uint y = 0; y < patch; y++) {
        gathered.append(from + channel * channel_size + ulong(y) * params.width, patch);
      }
    }
    gathered.flush();
    return;
  }
#endif

  const uint at_once = max(width / patch, 1u);
  const uint first = at_once > 1 ? lane % patch : lane, step = at_once > 1 ? patch : width;
  const uint sub_row = at_once > 1 ? lane / patch : 0;
  if (sub_row >= at_once) return;
  for (uint channel = 0; channel < params.channels; channel++) {
    for (uint y = simdgroup * at_once + sub_row; y < patch; y += simdgroups * at_once) {
      device T* run = to + ulong(channel * patch + y) * patch;
      const device T* source = from + channel * channel_size + ulong(y) * params.width;
      for (uint i = first; i < patch; i += step) run[i] = source[i];
    }
  }
}

template <typename T>
[[kernel]] void im2col_2d(constant Im2col2dParams& params [[buffer(0)]], const device T* pixels [[buffer(1)]],
                          device T* out [[buffer(2)]], uint2 at [[threadgroup_position_in_grid]],
                          uint2 patches [[threadgroups_per_grid]], uint lane [[thread_index_in_simdgroup]],
                          uint width [[threads_per_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
                          uint simdgroups [[simdgroups_per_threadgroup]]) {
  // The patch sizes of nearly every vision tower, as constants.
  switch (params.patch) {
    case 14: return unfold<T, 14>(params, pixels, out, at, patches, lane, width, simdgroup, simdgroups);
    case 16: return unfold<T, 16>(params, pixels, out, at, patches, lane, width, simdgroup, simdgroups);
    default: return unfold<T, 0>(params, pixels, out, at, patches, lane, width, simdgroup, simdgroups);
  }
}

template [[host_name("im2col_2d_16")]] [[kernel]] decltype(im2col_2d<ushort>) im2col_2d<ushort>;
template [[host_name("im2col_2d_32")]] [[kernel]] decltype(im2col_2d<uint>) im2col_2d<uint>;
