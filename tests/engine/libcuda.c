/* A driver for tests: one GPU, or the error that FAKE_CUINIT names. */
#include <stdlib.h>
#include <string.h>

static int number(const char *name, int other) {
    const char *text = getenv(name);
    return text ? atoi(text) : other;
}
int cuInit(unsigned flags) { (void)flags; return number("FAKE_CUINIT", 0); }
int cuDriverGetVersion(int *version) { *version = number("FAKE_CUDA", 13010); return 0; }
int cuDeviceGetCount(int *count) { *count = number("FAKE_GPUS", 1); return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    strncpy(name, "Orin", length);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *size, int device) {
    (void)device;
    *size = (size_t)8 << 30;
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 18;
    return 0;
}
