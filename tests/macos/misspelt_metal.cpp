// Metal has no such function: tools/macos/check_link.py expects the linker to say so.
extern "C" void* MTLCreateSystemDefaultDevic();

extern "C" __attribute__((visibility("default"), used)) void* misspelt_metal() {
  return MTLCreateSystemDefaultDevic();
}
