// Python has no such function: tools/macos/check_link.py expects the linker to say so.
extern "C" void* PyLong_FromLon(long value);

extern "C" __attribute__((visibility("default"), used)) void* misspelt_python() { return PyLong_FromLon(1); }
