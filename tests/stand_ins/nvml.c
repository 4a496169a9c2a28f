/* A stand-in for libnvidia-ml.so.1: two GPUs, of constant power and clocks; energy counters are not supported, as on old GPUs. */
#include <string.h>

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int gpu, memory; } Utilization;
static int gpus[2];

int nvmlInitWithFlags(unsigned int flags) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 3 ? "Not Supported" : "Unknown Error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned int length) { strncpy(text, "580.1", length); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **gpu) { *gpu = &gpus[index]; return 0; }
int nvmlDeviceGetName(void *gpu, char *text, unsigned int length) { strncpy(text, NAME, length); return 0; }
int nvmlDeviceGetUUID(void *gpu, char *text, unsigned int length) { strncpy(text, gpu == gpus ? "GPU-aaaa" : "GPU-bbbb", length); return 0; }
int nvmlDeviceGetMemoryInfo(void *gpu, Memory *memory) { memory->total = 143000000000ULL; memory->used = 100000000000ULL; return 0; }
int nvmlDeviceGetPowerUsage(void *gpu, unsigned int *milliwatts) { *milliwatts = gpu == gpus ? 500000 : 100000; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *millijoules) { return 3; }
int nvmlDeviceGetClockInfo(void *gpu, int kind, unsigned int *mhz) { *mhz = kind == 1 ? 1980 : 3201; return 0; }
int nvmlDeviceGetUtilizationRates(void *gpu, Utilization *rates) { rates->gpu = 50; rates->memory = 20; return 0; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *gpu, unsigned long long *reasons) { *reasons = 4; return 0; }
