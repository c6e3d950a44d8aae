/* Stands in for NVIDIA's management library. What it answers is in the file that NVML_SCRIPT names, read at every call:
 *   ADDRESS KEY VALUE...    of the GPU at a PCI address, or of "driver"
 * !N instead of a value is an error code; what is not there is not supported (3), a GPU without a line unknown (6).
 * "driver hang 1": calls do not return for as long as the file says so. "ADDRESS xids A B": faults that come one by one, 0: none.
 * Valid C and C++. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __cplusplus
#define API extern "C"
#else
#define API
#endif

enum { kNotSupported = 3, kNotFound = 6, kTimeout = 10, kMostGpus = 4, kTextBytes = 96 };
struct stand_in_gpu {
  char address[kTextBytes];
  int watched, told; /* events: asked for, told so far */
};
static struct stand_in_gpu gpus[kMostGpus];

/* What stands behind ADDRESS KEY, into `value`; key null: whether there is any line of the address. 0, or an error. */
static int script(const char* address, const char* key, char* value) {
  char line[512], prefix[256];
  const char* path = getenv("NVML_SCRIPT");
  FILE* file = path == NULL ? NULL : fopen(path, "r");
  int code = key == NULL ? kNotFound : kNotSupported;
  if (file == NULL) return 9; /* the driver is not loaded */
  snprintf(prefix, sizeof prefix, "%s %s", address, key == NULL ? "" : key);
  if (key != NULL) strcat(prefix, " ");
  while (fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, prefix, strlen(prefix)) != 0) continue;
    line[strcspn(line, "\n")] = 0;
    code = key != NULL && line[strlen(prefix)] == '!' ? atoi(line + strlen(prefix) + 1) : 0;
    if (key != NULL) snprintf(value, kTextBytes, "%.90s", line + strlen(prefix));
    break;
  }
  fclose(file);
  return code;
}

static int ask(const char* address, const char* key, char* value) {
  char hang[kTextBytes];
  while (script("driver", "hang", hang) == 0) usleep(1000);
  return script(address, key, value);
}

/* The first `count` numbers of a value. */
static int numbers(void* gpu, const char* key, unsigned long long* out, int count) {
  char text[kTextBytes];
  char* at = text;
  const int code = ask(((struct stand_in_gpu*)gpu)->address, key, text);
  for (int i = 0; code == 0 && i < count; ++i) out[i] = strtoull(at, &at, 10);
  return code;
}

static int number(void* gpu, const char* key, unsigned* out) {
  unsigned long long value = 0;
  const int code = numbers(gpu, key, &value, 1);
  if (code == 0) *out = (unsigned)value;
  return code;
}

static int text(void* gpu, const char* key, char* out, unsigned bytes) {
  char value[kTextBytes];
  const int code = ask(((struct stand_in_gpu*)gpu)->address, key, value);
  if (code == 0) snprintf(out, bytes, "%s", value);
  return code;
}

API int nvmlInit_v2(void) {
  char value[kTextBytes];
  const int code = ask("driver", "init", value);
  return code == kNotSupported ? 0 : code;
}
API int nvmlShutdown(void) { return 0; }
API const char* nvmlErrorString(int code) {
  static char words[32];
  snprintf(words, sizeof words, "stand-in error %d", code);
  return words;
}
API int nvmlSystemGetDriverVersion(char* out, unsigned bytes) {
  char value[kTextBytes];
  const int code = ask("driver", "version", value);
  if (code == 0) snprintf(out, bytes, "%s", value);
  return code;
}
API int nvmlDeviceGetHandleByPciBusId_v2(const char* address, void** gpu) {
  const int code = script(address, NULL, NULL);
  for (int i = 0; code == 0 && i < kMostGpus; ++i) {
    if (gpus[i].address[0] == 0) snprintf(gpus[i].address, kTextBytes, "%s", address);
    if (strcmp(gpus[i].address, address) != 0) continue;
    *gpu = &gpus[i];
    return 0;
  }
  return code == 0 ? kNotFound : code;
}
API int nvmlDeviceGetIndex(void* gpu, unsigned* out) { return number(gpu, "index", out); }
API int nvmlDeviceGetUUID(void* gpu, char* out, unsigned bytes) { return text(gpu, "uuid", out, bytes); }
API int nvmlDeviceGetName(void* gpu, char* out, unsigned bytes) { return text(gpu, "name", out, bytes); }
API int nvmlDeviceGetUtilizationRates(void* gpu, unsigned* out) {
  unsigned long long value[2] = {0, 0};
  const int code = numbers(gpu, "utilization", value, 2);
  out[0] = (unsigned)value[0];
  out[1] = (unsigned)value[1];
  return code;
}
API int nvmlDeviceGetMemoryInfo(void* gpu, unsigned long long* out) { return numbers(gpu, "memory", out, 3); }
API int nvmlDeviceGetTemperature(void* gpu, int sensor, unsigned* out) {
  return number(gpu, sensor == 0 ? "temperature" : "?", out);
}
API int nvmlDeviceGetPowerUsage(void* gpu, unsigned* out) { return number(gpu, "power", out); }
API int nvmlDeviceGetEnforcedPowerLimit(void* gpu, unsigned* out) { return number(gpu, "power_limit", out); }
API int nvmlDeviceGetTotalEnergyConsumption(void* gpu, unsigned long long* out) {
  return numbers(gpu, "energy", out, 1);
}
API int nvmlDeviceGetClockInfo(void* gpu, int clock, unsigned* out) {
  return number(gpu, clock == 1 ? "sm_clock" : clock == 2 ? "memory_clock" : "?", out);
}
API int nvmlDeviceGetCurrentClocksThrottleReasons(void* gpu, unsigned long long* out) {
  return numbers(gpu, "throttle", out, 1);
}
API int nvmlDeviceGetTotalEccErrors(void* gpu, int type, int since, unsigned long long* out) {
  return numbers(gpu, since != 0 ? "?" : type == 1 ? "uncorrected" : "corrected", out, 1);
}
API int nvmlDeviceGetRemappedRows(void* gpu, unsigned* corrected, unsigned* uncorrected, unsigned* pending,
                                  unsigned* failed) {
  unsigned long long value[4] = {0, 0, 0, 0};
  const int code = numbers(gpu, "remapped", value, 4);
  *corrected = (unsigned)value[0];
  *uncorrected = (unsigned)value[1];
  *pending = (unsigned)value[2];
  *failed = (unsigned)value[3];
  return code;
}
API int nvmlEventSetCreate(void** set) {
  *set = gpus;
  return 0;
}
API int nvmlEventSetFree(void* set) { return set == gpus ? 0 : 2; }
API int nvmlDeviceRegisterEvents(void* gpu, unsigned long long types, void* set) {
  char value[kTextBytes];
  const int code = ask(((struct stand_in_gpu*)gpu)->address, "xids", value);
  if (code != 0) return code;
  ((struct stand_in_gpu*)gpu)->watched = types == 8 && set == gpus;
  ((struct stand_in_gpu*)gpu)->told = 0;
  return 0;
}
struct stand_in_event {
  void* gpu;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};
API int nvmlEventSetWait_v2(void* set, struct stand_in_event* out, unsigned milliseconds) {
  if (set != gpus || milliseconds != 0) return 2;
  for (int i = 0; i < kMostGpus; ++i) {
    char value[kTextBytes];
    char* at = value;
    if (!gpus[i].watched || script(gpus[i].address, "xids", value) != 0) continue;
    for (int n = 0; *at != 0; ++n) {
      const unsigned long long xid = strtoull(at, &at, 10);
      if (xid == 0) break;
      if (n < gpus[i].told) continue;
      ++gpus[i].told;
      out->gpu = &gpus[i];
      out->type = 8;
      out->data = xid;
      return 0;
    }
  }
  return kTimeout;
}
