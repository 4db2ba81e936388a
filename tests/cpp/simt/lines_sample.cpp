// Code whose places are known, compiled with debugging information as checked kernels are.
extern "C" __attribute__((visibility("default"))) void visit(void (*here)(void*), void* context, int times);
extern "C" __attribute__((visibility("default"))) void visit_plain(void (*here)(void*), void* context);

namespace {

#line 11 "library.h"
__attribute__((always_inline)) inline void innermost(void (*here)(void*), void* context) {
  here(context);
  asm volatile("");
}

#line 101 "kernels/first.metal"
__attribute__((always_inline)) inline void middle(void (*here)(void*), void* context) {
  innermost(here, context);
  asm volatile("");
}

}  // namespace

#line 201 "kernels/first.metal"
void visit(void (*here)(void*), void* context, int times) {
  for (int i = 0; i < times; ++i) middle(here, context);
  innermost(here, context);
  asm volatile("");
}

#line 301 "second.metal"
void visit_plain(void (*here)(void*), void* context) {
  here(context);
  asm volatile("");
}
