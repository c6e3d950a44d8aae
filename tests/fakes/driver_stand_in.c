/* libcuda.so.1 of a driver for CUDA 11.8, as far as NVIDIA's run time asks it before it refuses to go on. */
#include <string.h>

int cuInit(unsigned flags) { return flags != 0; }
int cuDriverGetVersion(int* version) {
  *version = 11080;
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = 1;
  return 0;
}
int cuGetProcAddress_v2(const char* name, void** function, int version, unsigned long long flags, int* status) {
  static const struct {
    const char* name;
    void* function;
  } known[] = {{"cuInit", (void*)cuInit},
               {"cuDriverGetVersion", (void*)cuDriverGetVersion},
               {"cuDeviceGetCount", (void*)cuDeviceGetCount},
               {"cuGetProcAddress", (void*)cuGetProcAddress_v2}};
  (void)version, (void)flags;
  *function = NULL;
  for (unsigned i = 0; i < sizeof known / sizeof *known; ++i) {
    if (strcmp(name, known[i].name) == 0) *function = known[i].function;
  }
  if (status != NULL) *status = *function == NULL;
  return *function == NULL ? 500 : 0;
}
int cuGetProcAddress(const char* name, void** function, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
