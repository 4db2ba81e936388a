#include "ops/im2col_2d.h"

#include "ops/check.h"
#include "params/im2col_2d.h"

namespace metalloid::ops {

namespace {

const BuiltinKernel kElements16("im2col_2d_16");
const BuiltinKernel kElements32("im2col_2d_32");

constexpr uint64_t kElementsPerThread = 4;

}  // namespace

Buffer im2col_2d(Encoder& encoder, const Buffer& pixels, int64_t patch, const Buffer* out) {
  Check check(kIm2col2d, encoder);
  check.device("pixels", pixels);
  check.type("pixels", pixels, kFloats, kFloatsText);
  check.rank("pixels", pixels, 3, "[channels, height, width]");
  check.sizes("pixels", pixels);
  check.require(patch > 0, "patch", "at least 1", "is ", patch);
  uint64_t channels = pixels.shape()[0];
  uint64_t height = pixels.shape()[1];
  uint64_t width = pixels.shape()[2];
  auto p = static_cast<uint64_t>(patch);
  check.multiple("pixels", "height", height, p, "patch");
  check.multiple("pixels", "width", width, p, "patch");
  // Neither product overflows: p divides height and width, and the pixels exist.
  uint64_t columns = channels * p * p;
  uint64_t rows = (height / p) * (width / p);
  check.fits("pixels", columns, pixels.shape());
  Shape shape{rows, columns};
  check.output(out, shape, "one row for each patch of pixels", pixels.dtype(), "pixels",
               {{"pixels", &pixels}});

  const Pipeline& pipeline = check.pipeline(size_of(pixels.dtype()) == 4 ? kElements32 : kElements16);
  // A lone lane writes a whole row of patches, which lies in one piece.
  uint64_t patches_x = width / p;
  uint64_t per_group = pipeline.execution_width == 1 ? patches_x : 1;
  Im2col2dParams params{static_cast<uint32_t>(channels), static_cast<uint32_t>(height),
                        static_cast<uint32_t>(width), static_cast<uint32_t>(p),
                        static_cast<uint32_t>(per_group)};
  Buffer y = output_or_new(encoder, out, shape, pixels.dtype(), kIm2col2d);
  encoder.dispatch(
      kIm2col2d, pipeline, {Argument::params(0, params), Argument::read(1, pixels), Argument::write(2, y)},
      {patches_x / per_group, height / p}, {cooperative_threads(pipeline, columns, kElementsPerThread)});
  return y;
}

}  // namespace metalloid::ops
