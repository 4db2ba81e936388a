// Blocks of 32 values with one scale, 4 or 8 bits a value: quantisation and mat-vec. 32 lanes are taken for granted.
#include <metal_stdlib>

using namespace metal;

#define BLOCK_VALUES 32
#define SIMD_WIDTH 32

typedef struct {
  half d;
  uchar qs[BLOCK_VALUES / 2];  // value j in the low, value j + 16 in the high four bits of byte j
} block_q4;

typedef struct {
  half d;
  char qs[BLOCK_VALUES];
} block_q8;

static_assert(sizeof(block_q4) == 18, "a block has no padding");
static_assert(sizeof(block_q8) == 34, "a block has no padding");

typedef struct {
  int32_t columns;
  int32_t rows;
  uint64_t row_bytes;
} mat_vec_args;

// Sixteen products of half a block: qs is read as 16-bit words, and what stands in their higher bits is left
// there because the values of y were divided by as much.
inline float dot_half_block(device const block_q4* block, float sum_y, thread const float* y, ushort half_index) {
  device const ushort* words = (device const ushort*)block->qs + half_index * 4;
  float2 acc = 0.f;
  for (short i = 0; i < 4; i++) {
    acc[0] += y[2 * i] * (words[i] & 0x000F) + y[2 * i + 1] * (words[i] & 0x0F00);
    acc[1] += y[2 * i + 8] * (words[i] & 0x00F0) + y[2 * i + 9] * (words[i] & 0xF000);
  }
  return float(block->d) * (acc[0] + acc[1] - 8.f * sum_y);
}

template <int rows_per_simdgroup, int simdgroups>
void mat_vec_q4(constant mat_vec_args& args, device const char* src0, device const char* src1, device char* dst,
                uint3 tgpig, ushort tiisg, ushort sgitg) {
  const int blocks = args.columns / BLOCK_VALUES;
  const int first_row = (tgpig.x * simdgroups + sgitg) * rows_per_simdgroup;

  device const block_q4* ax[rows_per_simdgroup];
  for (short row = 0; row < rows_per_simdgroup; ++row) {
    const int r = min(first_row + row, args.rows - 1);
    ax[row] = (device const block_q4*)(src0 + r * args.row_bytes);
  }

  const short ix = tiisg / 2;
  const short il = tiisg % 2;
  device const float* yb = (device const float*)src1 + ix * BLOCK_VALUES + il * 8;

  float sumf[rows_per_simdgroup] = {0.f};
  float yl[16];
  for (int ib = ix; ib < blocks; ib += SIMD_WIDTH / 2) {
    float sum_y = 0.f;
    for (short i = 0; i < 8; i += 2) {
      sum_y += yb[i] + yb[i + 1] + yb[i + 16] + yb[i + 17];
      yl[i] = yb[i];
      yl[i + 1] = yb[i + 1] / 256.f;
      yl[i + 8] = yb[i + 16] / 16.f;
      yl[i + 9] = yb[i + 17] / 4096.f;
    }
#pragma unroll
    for (short row = 0; row < rows_per_simdgroup; ++row) {
      sumf[row] += dot_half_block(ax[row] + ib, sum_y, yl, il);
    }
    yb += BLOCK_VALUES * (SIMD_WIDTH / 2);
  }

  device float* out = (device float*)dst;
  for (short row = 0; row < rows_per_simdgroup; ++row) {
    const float total = simd_sum(sumf[row]);
    if (tiisg == 0 && first_row + row < args.rows) {
      out[first_row + row] = total;
    }
  }
}

kernel void kernel_mul_mv_q4_f32(constant mat_vec_args& args [[buffer(0)]], device const char* src0 [[buffer(1)]],
                                 device const char* src1 [[buffer(2)]], device char* dst [[buffer(3)]],
                                 uint3 tgpig [[threadgroup_position_in_grid]],
                                 ushort tiisg [[thread_index_in_simdgroup]],
                                 ushort sgitg [[simdgroup_index_in_threadgroup]]) {
  mat_vec_q4<4, 2>(args, src0, src1, dst, tgpig, tiisg, sgitg);
}

[[host_name("kernel_mul_mv_q8_f32")]]
kernel void kernel_mul_mv_q8(constant mat_vec_args& args, device const block_q8* src0, device const float* src1,
                             device float* dst, uint row [[threadgroup_position_in_grid]],
                             ushort lane [[thread_index_in_simdgroup]]) {
  const int blocks = args.columns / BLOCK_VALUES;
  device const block_q8* x = src0 + row * (args.row_bytes / sizeof(block_q8));

  // Four lanes to a block, eight values each.
  const short quarter = lane & 3;
  float sum = 0.0f;
  for (int ib = lane >> 2; ib < blocks; ib += SIMD_WIDTH / 4) {
    device const char* qs = x[ib].qs + 8 * quarter;
    device const float* y = src1 + ib * BLOCK_VALUES + 8 * quarter;
    float partial = 0;
    for (short i = 0; i < 8; ++i) partial += y[i] * qs[i];
    sum += partial * x[ib].d;
  }
  sum = simd_sum(sum);
  if (lane == 0) dst[row] = sum;
}

// One SIMD-group quantises one block, one value a lane.
kernel void kernel_quantize_q8(device const float* src [[buffer(0)]], device block_q8* dst [[buffer(1)]],
                               constant uint& blocks [[buffer(2)]], uint tgpig [[threadgroup_position_in_grid]],
                               ushort sgitg [[simdgroup_index_in_threadgroup]],
                               ushort nsg [[simdgroups_per_threadgroup]],
                               ushort tiisg [[thread_index_in_simdgroup]]) {
  const uint ib = tgpig * nsg + sgitg;
  if (ib >= blocks) return;
  const float v = src[ib * BLOCK_VALUES + tiisg];
  const float largest = simd_max(fabs(v));
  const float d = largest / 127.0f;
  const float id = d > 0.0f ? 1.0f / d : 0.0f;
  dst[ib].qs[tiisg] = char(clamp(rint(v * id), -127.0f, 127.0f));
  if (simd_is_first()) dst[ib].d = half(d);
}

kernel void kernel_quantize_q4(device const float* src [[buffer(0)]], device block_q4* dst [[buffer(1)]],
                               constant uint& blocks [[buffer(2)]], uint tgpig [[threadgroup_position_in_grid]],
                               ushort sgitg [[simdgroup_index_in_threadgroup]],
                               ushort nsg [[simdgroups_per_threadgroup]],
                               ushort tiisg [[thread_index_in_simdgroup]]) {
  const uint ib = tgpig * nsg + sgitg;
  if (ib >= blocks) return;
  const float v = src[ib * BLOCK_VALUES + tiisg];
  const float high = simd_max(v), low = simd_min(v);
  // The value of largest magnitude becomes -8.
  const float d = (high > -low ? high : low) / -8.0f;
  const float id = d != 0.0f ? 1.0f / d : 0.0f;
  const ushort q = ushort(min(15.0f, v * id + 8.5f));
  const ushort upper = simd_shuffle_down(q, 16);
  if (tiisg < 16) dst[ib].qs[tiisg] = uchar(q | (upper << 4));
  if (tiisg == 0) dst[ib].d = half(d);
}
