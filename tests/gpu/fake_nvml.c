/* A driver library for machines without one. FAKE_NVML says what it plays; see test_nvml.py.
   Return codes are NVML's: 0 success, 1 uninitialized, 3 not supported, 6 not found, 7 insufficient size,
   9 driver not loaded, 15 GPU is lost, 16 reset required, 18 mismatch. Structures as in nvml.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { unsigned int pid; unsigned long long memory; unsigned int instance, compute; } process_t;

static int started = 0;
static int readings = 0;

static int plays(const char *what) {
    const char *part = getenv("FAKE_NVML");
    return part != NULL && strcmp(part, what) == 0;
}

/* Handles: 1 and 2 are devices, 100 + n the MIG slices of the second. */
static int second(void *device) { return device == (void *)2; }
static size_t slice(void *device) { return (size_t)device >= 100 ? (size_t)device - 100 : 0; }

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

#ifndef HALF
const char *nvmlErrorString(int code) {
    return code == 15 ? "GPU is lost" : code == 18 ? "Driver/library version mismatch" : "some \x1b[31merror";
}
#endif

int nvmlDeviceGetCount_v2(unsigned int *count) {
    readings++;
    *count = plays("none") ? 0 : plays("liar") ? 4000000000u : 2;
    if (plays("shrinks") && readings > 1) *count = 1;
    if (plays("dies-between") && readings == 2) return 999;
    return plays("dies-later") ? 15 : 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index == 1 && (plays("lost") || (plays("lost-later") && readings > 1))) return 15;
    if (index == 1 && plays("odd-error")) return 4242;
    if (plays("liar") && index > 1) return 2;
    *device = (void *)(size_t)(index + 1);
    return 0;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    if (plays("odd-name") && !second(device)) { snprintf(name, length, "\xff\xfe"); return 0; }
    if (plays("odd-name")) { snprintf(name, length, "  A\x1b[2J\nB\xe2\x80\xae\"<b>  "); return 0; }
    if (slice(device)) { snprintf(name, length, "Fake B MIG 1g.5gb"); return 0; }
    snprintf(name, length, second(device) ? "Fake B" : "Fake A");
    return 0;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
    if (slice(device)) { snprintf(uuid, length, "MIG-%04zu", slice(device)); return 0; }
    snprintf(uuid, length, second(device) ? "GPU-bbbb" : "GPU-aaaa");
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    if (second(device) && plays("lost-in-use")) return 15;
    if (second(device) && plays("reset")) return 16;
    if (second(device) && plays("driver-resets") && readings == 1) return 1;
    if (second(device) && plays("mig")) return 4;
    memory->total = slice(device) ? 5ULL << 30 : 24ULL << 30;
    memory->used = slice(device) ? slice(device) << 30 : second(device) ? 0 : 5ULL << 30;
    if (plays("liar")) memory->used = second(device) ? ~0ULL : memory->total + 1;
    if (plays("liar") && second(device)) memory->total = ~0ULL;
    memory->free = memory->total - memory->used;
    return 0;
}

#ifndef HALF
/* A MIG parent, among others, has no utilization; the second device plays one. */
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
    if (second(device)) return 3;
    rates->gpu = plays("liar") ? 5000 : 87;
    rates->memory = 40;
    return 0;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *celsius) {
    (void)sensor;
    *celsius = second(device) ? 30 : 65;
    return 0;
}

int nvmlDeviceGetTemperatureThreshold(void *device, int threshold, unsigned int *celsius) {
    *celsius = threshold == 1 ? 97 : 0;
    return second(device) ? 3 : 0;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    *milliwatts = 250500;
    return second(device) ? 3 : 0;
}

int nvmlDeviceGetClockInfo(void *device, int kind, unsigned int *megahertz) {
    *megahertz = kind == 0 ? 2520 : kind == 2 ? 10501 : 0;
    return second(device) ? 3 : 0;
}

int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *count) {
    *count = counter != 0 ? 99 : kind == 0 ? 7 : 1;
    return second(device) ? 3 : 0;
}

/* The name from before driver 535; the newer one is there only where it is played. */
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    *reasons = plays("slowed") ? 0x4 | 0x20 | 0x40 | 0x8000 : 0x1;
    return second(device) ? 3 : 0;
}

int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) {
    *current = *pending = plays("mig") && second(device);
    return second(device) ? 0 : 3;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned int *count) {
    (void)device;
    *count = 4;
    return 0;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned int index, void **found) {
    (void)device;
    if (index % 2) return 6;
    *found = (void *)(size_t)(101 + index);
    return 0;
}

/* pids from 1000 on, the i-th with i MiB; every seventh without a number. */
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, process_t *processes) {
    unsigned int there = plays("crowd") ? 1000 : 2;
    if (second(device)) return 3;
    if (plays("grows") || processes == NULL || *count < there) { *count = there; return 7; }
    *count = there;
    for (unsigned int i = 0; i < there; i++) {
        processes[i].pid = 1000 + i;
        processes[i].memory = i % 7 == 0 ? ~0ULL : (unsigned long long)i << 20;
        processes[i].instance = processes[i].compute = 0xFFFFFFFF;
    }
    return 0;
}

/* Graphics has the second of those too, with more, in the older form. */
int nvmlDeviceGetGraphicsRunningProcesses_v2(void *device, unsigned int *count, process_t *processes) {
    if (second(device) || plays("grows")) return 3;
    if (processes == NULL) { *count = 1; return 7; }
    *count = 1;
    processes[0].pid = 1001;
    processes[0].memory = 3ULL << 20;
    processes[0].instance = processes[0].compute = 0xFFFFFFFF;
    return 0;
}
#endif

/* nvmlDeviceGetEnforcedPowerLimit is left out: an older driver library lacks functions. HALF lacks most. */
