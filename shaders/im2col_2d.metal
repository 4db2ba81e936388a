// Patch unfolding: row m of the output holds patch m, channel by channel, row by row.
#include "include/rows.h"
#include "params/im2col_2d.h"

// Where a patch lies in the image.
template <typename T>
struct Patch {
  const device T* pixels;
  uint row_length;  // of the image
  ulong channel_size;

  const device T* row(uint channel, uint y) const { return pixels + channel * channel_size + ulong(y) * row_length; }
};

// One threadgroup copies one patch, as rows of `size` neighbouring elements. A SIMD-group copies as many rows
// at once as fit into its lanes.
template <typename T>
inline void unfold(Patch<T> patch, device T* to, uint channels, uint size, uint lane, uint width, uint simdgroup,
                   uint simdgroups) {
  const uint at_once = max(width / size, 1u);
  const uint first = at_once > 1 ? lane % size : lane, step = at_once > 1 ? size : width;
  const uint sub_row = at_once > 1 ? lane / size : 0;
  if (sub_row >= at_once) return;
  for (uint channel = 0; channel < channels; channel++) {
    for (uint y = simdgroup * at_once + sub_row; y < size; y += simdgroups * at_once) {
      device T* run = to + (ulong(channel) * size + y) * size;
      const device T* source = patch.row(channel, y);
      for (uint i = first; i < size; i += step) run[i] = source[i];
    }
  }
}

// Size 0: the patch size is known at run time only.
template <typename T, uint Size>
inline void unfold_patches(constant Im2col2dParams& params, const device T* pixels, device T* out, uint2 group,
                           uint patches_y, uint lane, uint width, uint simdgroup, uint simdgroups) {
  const uint size = Size != 0 ? Size : params.patch;
  const uint patches_x = params.width / size;
  const uint first = group.x * params.patches_per_group, last = min(first + params.patches_per_group, patches_x);
  const ulong row_length = ulong(params.channels) * size * size;
  device T* to = out + (ulong(group.y) * patches_x + first) * row_length;
  Patch<T> patch{pixels + (ulong(group.y) * size * params.width + ulong(first) * size), params.width,
                 ulong(params.height) * params.width};

#if defined(__SOFTMETAL__)
  // A lone lane takes four patches side by side, so that it uses a line of the image up while it is at hand.
  constexpr uint together = 4;
  if (together * row_length <= softmetal::RunStream<T>::longest &&
      streams(ulong(patches_x) * patches_y * row_length * sizeof(T), width)) {
    softmetal::RunStream<T> run(to);
    for (uint i = first; i < last; i += together, patch.pixels += together * size) {
      const uint count = min(together, last - i);
      T* row = run.reserve(count * row_length);
      for (uint channel = 0; channel < params.channels; channel++) {
        for (uint y = 0; y < size; y++, row += size) {
          const device T* source = patch.row(channel, y);
          prefetch(source + 2 * together * size, together * size);
          if (count == together) {
            for (uint j = 0; j < together; j++) {
              __builtin_memcpy(row + j * row_length, source + j * size, size * sizeof(T));
            }
          } else {
            for (uint j = 0; j < count; j++) {
              __builtin_memcpy(row + j * row_length, source + j * size, size * sizeof(T));
            }
          }
        }
      }
    }
    run.finish();
    return;
  }
#endif

  for (uint i = first; i < last; i++, patch.pixels += size, to += row_length) {
    unfold(patch, to, params.channels, size, lane, width, simdgroup, simdgroups);
  }
}

template <typename T>
[[kernel]] void im2col_2d(constant Im2col2dParams& params [[buffer(0)]], const device T* pixels [[buffer(1)]],
                          device T* out [[buffer(2)]], uint2 group [[threadgroup_position_in_grid]],
                          uint2 groups [[threadgroups_per_grid]], uint lane [[thread_index_in_simdgroup]],
                          uint width [[threads_per_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
                          uint simdgroups [[simdgroups_per_threadgroup]]) {
  // The patch sizes of nearly every vision tower, as constants.
  switch (params.patch) {
    case 14:
      return unfold_patches<T, 14>(params, pixels, out, group, groups.y, lane, width, simdgroup, simdgroups);
    case 16:
      return unfold_patches<T, 16>(params, pixels, out, group, groups.y, lane, width, simdgroup, simdgroups);
    default:
      return unfold_patches<T, 0>(params, pixels, out, group, groups.y, lane, width, simdgroup, simdgroups);
  }
}

template [[host_name("im2col_2d_16")]] [[kernel]] decltype(im2col_2d<ushort>) im2col_2d<ushort>;
template [[host_name("im2col_2d_32")]] [[kernel]] decltype(im2col_2d<uint>) im2col_2d<uint>;
