/* A driver library for machines without one. FAKE_NVML says what it plays; see test_nvml.py.
   Return codes are NVML's: 0 success, 3 not supported, 9 driver not loaded, 15 GPU is lost, 18 mismatch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;

static int started = 0;

static int plays(const char *what) {
    const char *part = getenv("FAKE_NVML");
    return part != NULL && strcmp(part, what) == 0;
}

static int second(void *device) { return device == (void *)2; }

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    if (plays("no-driver")) return 9;
    if (plays("mismatch")) return 18;
    started++;
    return 0;
}

int nvmlShutdown(void) {
    started--;
    fprintf(stderr, "sessions open: %d\n", started);
    return 0;
}

const char *nvmlErrorString(int code) {
    return code == 15 ? "GPU is lost" : code == 18 ? "Driver/library version mismatch" : "some error";
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = plays("none") ? 0 : 2;
    return plays("dies-later") ? 15 : 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index == 1 && plays("lost")) return 15;
    *device = (void *)(size_t)(index + 1);
    return 0;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    if (plays("odd-name")) { snprintf(name, length, "\xff\xfe"); return 0; }
    snprintf(name, length, second(device) ? "Fake B" : "Fake A");
    return 0;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
    snprintf(uuid, length, second(device) ? "GPU-bbbb" : "GPU-aaaa");
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    if (second(device) && plays("lost-in-use")) return 15;
    memory->total = 24ULL << 30;
    memory->used = second(device) ? 0 : 5ULL << 30;
    memory->free = memory->total - memory->used;
    return 0;
}

/* A MIG parent, among others, has no utilization; the second device plays one. */
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
    if (second(device)) return 3;
    rates->gpu = 87;
    rates->memory = 40;
    return 0;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *celsius) {
    (void)sensor;
    *celsius = second(device) ? 30 : 65;
    return 0;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    *milliwatts = 250500;
    return second(device) ? 3 : 0;
}

/* nvmlDeviceGetEnforcedPowerLimit is left out: an older driver library lacks functions. */
