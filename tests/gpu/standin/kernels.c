/* Kernels of the CUDA runtime and the driver: known by name, counted, never run. */
#define _GNU_SOURCE
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standin.h"

/* ---- torch's libraries register every kernel when they are loaded ---- */

enum { SLOTS = 1 << 19 };
static struct { const void *function; const char *name; } kernels[SLOTS];

static unsigned slot_of(const void *function) {
    unsigned slot = ((uintptr_t)function >> 4) * 2654435761u % SLOTS;
    while (kernels[slot].function && kernels[slot].function != function) slot = (slot + 1) % SLOTS;
    return slot;
}

void **__cudaRegisterFatBinary(void *binary) { return calloc(1, sizeof(void *)); }
void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
char __cudaInitModule(void **handle) { return 1; }
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int extern_, size_t size, int constant,
                       int global) {}

void __cudaRegisterFunction(void **handle, const char *function, char *device, const char *name, int threads, void *tid,
                            void *bid, void *block, void *grid, int *warp) {
    static int registered;
    if (++registered > SLOTS * 3 / 4) {
        fprintf(stderr, "stand-in: more than %d kernels\n", SLOTS * 3 / 4);
        abort();
    }
    unsigned slot = slot_of(function);
    kernels[slot].function = function;
    kernels[slot].name = name;
}

/* ---- a launch: <<<...>>> pushes its configuration, and the kernel's host function pops it ---- */

static __thread struct { dim3 grid, block; size_t shared; void *stream; } pushed;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
    pushed.grid = grid, pushed.block = block, pushed.shared = shared, pushed.stream = stream;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *(void **)stream = pushed.stream;
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared,
                             cudaStream_t stream) {
    const char *name = kernels[slot_of(function)].name;
    if (setting("CAPABILITY", 90) < 70) return failed(cudaErrorNoKernelImageForDevice); /* what torch 2.10 is built for */
    COUNT("kernels");
    count_named("kernel ", name ? name : "unknown");
    return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *function, void **arguments) {
    return cudaLaunchKernel(function, config->gridDim, config->blockDim, arguments, config->dynamicSmemBytes, config->stream);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *function) {
    int version = setting("CAPABILITY", 90);
    *attributes = (struct cudaFuncAttributes){
        .maxThreadsPerBlock = 1024, .numRegs = 32, .ptxVersion = version, .binaryVersion = version};
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int size,
                                                                   size_t shared, unsigned flags) {
    return *blocks = 2, cudaSuccess;
}

/* ---- the driver, which this library is as well: libcuda.so.1 is a link to it ---- */

CUresult cuInit(unsigned flags) { /* a driver that is too old, or a busy GPU, is only noticed later */
    int error = setting("COUNT_ERROR", 0);
    return error == 35 || error == 46 ? CUDA_SUCCESS : error;
}

CUresult cuDriverGetVersion(int *version) { return *version = setting("DRIVER", 12080), CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *count) { return *count = 1, CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult error, const char **text) {
    return *text = cudaGetErrorString(error), CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    return *flags = 0, *active = 1, CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) { return *context = (CUcontext)kernels, CUDA_SUCCESS; }
CUresult cuModuleLoadData(CUmodule *module, const void *image) { return *module = calloc(1, 8), CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    return *function = (CUfunction)strdup(name), CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y,
                        unsigned block_z, unsigned shared, CUstream stream, void **arguments, void **extra) {
    COUNT("kernels");
    count_named("kernel ", (const char *)function);
    return CUDA_SUCCESS;
}

static CUresult not_here(void) { return CUDA_ERROR_NOT_SUPPORTED; }

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *result) {
    *function = dlsym(RTLD_DEFAULT, name);
    if (!*function) *function = not_here;
    if (result) *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *result) {
    return cudaGetDriverEntryPointByVersion(name, function, 0, flags, result);
}
