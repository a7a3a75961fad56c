// Hardware primitives of the kernels: threads, barriers, a peer's shared memory, asynchronous
// copies. nvcc compiles those below; other compilers take tests/cuda/emulated_primitives.h instead,
// so that the same kernels run on a CPU.
#pragma once

#if !defined(__CUDACC__)
#include "emulated_primitives.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "../launch.h"

#define CSTA_KERNEL static __global__ void
#define CSTA_DEVICE __device__ __forceinline__
#define CSTA_LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
// __maxnreg__ needs CUDA 12.4; the fallback bounds registers for the largest block.
#if __CUDACC_VER_MAJOR__ * 100 + __CUDACC_VER_MINOR__ >= 1204
#define CSTA_MAX_REGISTERS(most) __maxnreg__(most)
#else
#define CSTA_MAX_REGISTERS(most) __launch_bounds__(512, 1)
#endif
#define CSTA_GRID_CONSTANT const __grid_constant__
// Clusters, bulk copies and their barriers. __CUDA_ARCH__ is undefined in the host pass.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define CSTA_HOPPER 1
#else
#define CSTA_HOPPER 0
#endif

namespace csta::cuda {

// An mbarrier: counts arrivals and the bytes of copies that have landed.
struct CopyBarrier {
  uint64_t state;
};

CSTA_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
CSTA_DEVICE int threads() { return static_cast<int>(blockDim.x); }
CSTA_DEVICE int64_t block() { return blockIdx.x; }
CSTA_DEVICE int64_t blocks() { return gridDim.x; }

CSTA_DEVICE int cluster_rank() {
#if CSTA_HOPPER
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
#else
  return 0;
#endif
}
CSTA_DEVICE int cluster_size() {
#if CSTA_HOPPER
  uint32_t size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return static_cast<int>(size);
#else
  return 1;
#endif
}

CSTA_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char csta_shared_memory[];
  return csta_shared_memory;
}
CSTA_DEVICE uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

CSTA_DEVICE void block_barrier() { __syncthreads(); }

// Split barrier of a cluster, which orders all memory; warps need not converge. Without clusters,
// the block's barrier.
CSTA_DEVICE void cluster_arrive() {
#if CSTA_HOPPER
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}
// Arrival without memory ordering, for use after the last read from peers.
CSTA_DEVICE void cluster_arrive_relaxed() {
#if CSTA_HOPPER
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#endif
}
CSTA_DEVICE void cluster_wait() {
#if CSTA_HOPPER
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#else
  __syncthreads();
#endif
}

// Address of `mine` in a peer's shared memory.
template <class T>
CSTA_DEVICE T* peer(T* mine, int rank) {
#if CSTA_HOPPER
  uint64_t address;
  asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(mine), "r"(rank));
  return reinterpret_cast<T*>(address);
#else
  return mine;
#endif
}

// Loads *mine from a peer's shared memory.
CSTA_DEVICE float from_peer(const float* mine, int rank) {
#if CSTA_HOPPER
  float value;
  asm volatile(
      "{\n .reg .b32 address;\n mapa.shared::cluster.u32 address, %1, %2;\n"
      " ld.shared::cluster.f32 %0, [address];\n}"
      : "=f"(value)
      : "r"(shared_address(mine)), "r"(rank));
  return value;
#else
  return *mine;
#endif
}

template <class T>
CSTA_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

CSTA_DEVICE constexpr bool copies_in_bulk() { return CSTA_HOPPER != 0; }

CSTA_DEVICE void init(CopyBarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}
// Makes initialised barriers visible to copies and peers.
CSTA_DEVICE void fence_barriers() {
#if CSTA_HOPPER
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
// Orders the threads' accesses to shared memory before later bulk copies.
CSTA_DEVICE void fence_before_bulk_copies() {
#if CSTA_HOPPER
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
CSTA_DEVICE void arrive(CopyBarrier* barrier) {
  asm volatile("{\n .reg .b64 state;\n mbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(
                   shared_address(barrier))
               : "memory");
}
// The current phase completes after `bytes` more have landed.
CSTA_DEVICE void expect(CopyBarrier* barrier, int bytes) {
#if CSTA_HOPPER
  asm volatile(
      "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
#endif
}
// Waits until the phase of this parity (0 for the first) is complete.
CSTA_DEVICE void wait(CopyBarrier* barrier, int parity) {
  uint32_t complete;
  do {
#if CSTA_HOPPER
    asm volatile(
        "{\n .reg .pred p;\n mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
        " selp.u32 %0, 1, 0, p;\n}"
        : "=r"(complete)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
#else
    asm volatile(
        "{\n .reg .pred p;\n mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
        " selp.u32 %0, 1, 0, p;\n}"
        : "=r"(complete)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
#endif
  } while (complete == 0);
}

// Addresses and bytes are multiples of 16. The barrier, which expects the bytes, counts them.
CSTA_DEVICE void copy_in_bulk(void* to, const void* from, int bytes, CopyBarrier* barrier) {
#if CSTA_HOPPER
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
      "[%3];" ::"r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
#endif
}
CSTA_DEVICE void copy_16_bytes(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
               : "memory");
}
// Arrives when all 16-byte copies that this thread began have landed.
CSTA_DEVICE void arrive_after_copies(CopyBarrier* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

CSTA_DEVICE float exponential(float value) { return expf(value); }
CSTA_DEVICE double exponential(double value) { return exp(value); }

CSTA_DEVICE float widen_half(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
CSTA_DEVICE uint16_t narrow_half(float number) { return __half_as_ushort(__float2half_rn(number)); }
CSTA_DEVICE uint16_t narrow_bfloat16(float number) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(number));
}

}  // namespace csta::cuda

#endif
