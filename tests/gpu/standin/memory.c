/* Memory and copies of the CUDA runtime: device memory is host memory, copies really copy. */
#define _GNU_SOURCE
#include <cuda_runtime_api.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "standin.h"

/* ---- memory: two stretches of address space, so that an address tells what it is ---- */

enum { PAGE = 4096, MAX_BLOCKS = 1 << 16 };
static const size_t STRETCH = (size_t)1 << 42;

struct stretch {
    char *start;
    size_t next, used; /* addresses are never given twice, so new memory is always zero */
    struct { char *at; size_t size; } blocks[MAX_BLOCKS];
    int count;
};

static struct stretch device_memory, pinned_memory;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *take(struct stretch *stretch, size_t size) {
    size = (size + PAGE - 1) / PAGE * PAGE;
    if (!stretch->start) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        stretch->start = mmap(NULL, STRETCH, PROT_NONE, flags, -1, 0);
    }
    char *at = stretch->start + stretch->next;
    if (stretch->count == MAX_BLOCKS || mprotect(at, size, PROT_READ | PROT_WRITE)) abort();
    stretch->next += size;
    stretch->used += size;
    stretch->blocks[stretch->count].at = at;
    stretch->blocks[stretch->count++].size = size;
    return at;
}

static void give_back(struct stretch *stretch, void *at) {
    for (int i = 0; i < stretch->count; i++) {
        if (stretch->blocks[i].at != at) continue;
        madvise(at, stretch->blocks[i].size, MADV_DONTNEED);
        mprotect(at, stretch->blocks[i].size, PROT_NONE); /* use after free is a crash */
        stretch->used -= stretch->blocks[i].size;
        stretch->blocks[i] = stretch->blocks[--stretch->count];
        return;
    }
}

static int inside(const struct stretch *stretch, const void *at) {
    return stretch->start && (char *)at >= stretch->start && (char *)at < stretch->start + STRETCH;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    COUNT("cudaMemGetInfo");
    *total = (size_t)setting("MEMORY_MB", 2048) << 20;
    *free = *total - device_memory.used;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **at, size_t size) {
    COUNT("cudaMalloc");
    int error = setting("MALLOC_ERROR", 0);
    size_t limit = (size_t)setting("MEMORY_MB", 2048) << 20;
    pthread_mutex_lock(&lock);
    if (!error && device_memory.used + size > limit) error = cudaErrorMemoryAllocation;
    *at = error ? NULL : take(&device_memory, size);
    pthread_mutex_unlock(&lock);
    return error ? failed(error) : cudaSuccess;
}

cudaError_t cudaHostAlloc(void **at, size_t size, unsigned flags) {
    COUNT("cudaHostAlloc");
    pthread_mutex_lock(&lock);
    *at = take(&pinned_memory, size);
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaFree(void *at) {
    COUNT("cudaFree");
    pthread_mutex_lock(&lock);
    give_back(&device_memory, at);
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *at) {
    pthread_mutex_lock(&lock);
    give_back(&pinned_memory, at);
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *at) {
    int on_device = inside(&device_memory, at), pinned = inside(&pinned_memory, at);
    *attributes = (struct cudaPointerAttributes){
        .type = on_device ? cudaMemoryTypeDevice : pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered,
        .devicePointer = on_device || pinned ? (void *)at : NULL, .hostPointer = on_device ? NULL : (void *)at};
    return cudaSuccess;
}

/* ---- copies ---- */

static void count_copy(const void *to, const void *from) {
    int to_device = inside(&device_memory, to), from_device = inside(&device_memory, from);
    int pinned = inside(&pinned_memory, to_device ? from : to);
    if (to_device && from_device) COUNT("copy on device");
    else if (to_device) count_named("copy to device, ", pinned ? "pinned" : "pageable");
    else if (from_device) count_named("copy to host, ", pinned ? "pinned" : "pageable");
    else COUNT("copy on host");
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream) {
    count_copy(to, from);
    memmove(to, from, size);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind) {
    COUNT("cudaMemcpy");
    return cudaMemcpyAsync(to, from, size, kind, NULL);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream) {
    count_copy(to, from);
    for (size_t row = 0; row < height; row++)
        memmove((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
    return cudaSuccess;
}

cudaError_t cudaMemset(void *at, int value, size_t size) { return memset(at, value, size), cudaSuccess; }
cudaError_t cudaMemsetAsync(void *at, int value, size_t size, cudaStream_t stream) {
    COUNT("cudaMemsetAsync");
    return cudaMemset(at, value, size);
}
cudaError_t cudaGetSymbolAddress(void **at, const void *symbol) { return *at = (void *)symbol, cudaSuccess; }
cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t size, size_t offset, enum cudaMemcpyKind kind) {
    return memcpy((char *)symbol + offset, from, size), cudaSuccess;
}
