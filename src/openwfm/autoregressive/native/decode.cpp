// One pass of the transformer over the next few tokens, on all cores, and its unembedding.
//
// A pass is one parallel region: every thread takes a share of the rows of each matrix and of the
// key-value heads, and barriers stand where shares meet. Each number is made by one thread in one
// order, so the result does not depend on their count. Weights are fp32, bf16 or int8 (a scale a
// row); activations, the cache and all sums are fp32. Called from library.py, which mirrors `Pass`.

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace {

using namespace openwfm;

enum Slot { kNorm, kQkv, kQkvScale, kQueryNorm, kKeyNorm, kOut, kOutScale, kCrossNorm, kCrossQuery,
            kCrossQueryScale, kCrossQueryNorm, kCrossOut, kCrossOutScale, kMlpNorm, kGateUp,
            kGateUpScale, kDown, kDownScale, kSlots };

struct Pass {
  int64_t kind, width, layers, heads, kv_heads, head_dim, hidden;
  int64_t batch, count, start, capacity, context, context_batch, threads;
  double epsilon;
  const void* const* weights;   // layers × kSlots
  const float* norm;            // before the unembedding
  const float* cosines;         // count × head_dim
  const float* sines;           // the same, signed: x[c]·cos[c] + x[(c + d/2) % d]·sin[c]
  const float* absolute;        // count × width, or null
  float* keys;                  // layers × batch × kv_heads × capacity × head_dim
  float* values;
  const void* const* memory;    // layers × (keys, values, bias or null) of the context, or null
  float* x;                     // batch·count × width: embeddings in, hidden states out
};

// Threads wait here for each other: briefly awake, then giving way, so that a busy machine only
// makes it slower.
class Barrier {
 public:
  explicit Barrier(int total) : total_(total) {}
  void wait() {
    const int round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == total_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
      if (spins > 1000) sched_yield();
#if defined(__x86_64__)
      else __builtin_ia32_pause();
#endif
    }
  }

 private:
  std::atomic<int> arrived_{0}, round_{0};
  int total_;
};

struct Share {
  int64_t first, last;
  Share(int64_t total, int thread, int threads, int64_t unit = kRows) {
    const int64_t units = (total + unit - 1) / unit;
    first = std::min(total, units * thread / threads * unit);
    last = std::min(total, units * (thread + 1) / threads * unit);
  }
};

void run(const Pass& p, int thread, int threads, Barrier& barrier, std::vector<float>& wide,
         std::vector<float>& mixed) {
  const int64_t tokens = p.batch * p.count, d = p.head_dim, group = p.heads / p.kv_heads;
  const int64_t inner = p.heads * d, total = p.start + p.count;
  const int64_t stride = std::max((p.heads + 2 * p.kv_heads) * d, 2 * p.hidden);
  const float scale = 1.0f / std::sqrt(float(d));
  const Share width(p.width, thread, threads), hidden(p.hidden, thread, threads);
  const Share units(p.batch * p.kv_heads, thread, threads, 1);
  std::vector<float> x(tokens * p.width), queries(p.count * group * d), scores;
  std::vector<float> gated(tokens * p.hidden);
  const auto normed = [&](const void* gain) {
    for (int64_t m = 0; m < tokens; ++m)
      normalise(p.x + m * p.width, gain, p.width, p.epsilon, 1.0f, x.data() + m * p.width);
  };
  for (int64_t layer = 0; layer < p.layers; ++layer) {
    const void* const* w = p.weights + layer * kSlots;
    if (p.absolute) {
      for (int64_t m = 0; m < tokens; ++m)
        for (int64_t i = width.first; i < width.last; ++i)
          p.x[m * p.width + i] += p.absolute[m % p.count * p.width + i];
      barrier.wait();
    }
    normed(w[kNorm]);
    const Share rows((p.heads + 2 * p.kv_heads) * d, thread, threads);
    multiply(p.kind, w[kQkv], w[kQkvScale], rows.first, rows.last, p.width, x.data(), tokens,
             wide.data(), stride, false);
    barrier.wait();
    for (int64_t unit = units.first; unit < units.last; ++unit) {
      const int64_t b = unit / p.kv_heads, g = unit % p.kv_heads;
      const int64_t at = ((layer * p.batch + b) * p.kv_heads + g) * p.capacity * d;
      for (int64_t i = 0; i < p.count; ++i) {
        const float* from = wide.data() + (b * p.count + i) * stride;
        const float *cosine = p.cosines + i * d, *sine = p.sines + i * d;
        for (int64_t h = 0; h < group; ++h) {
          float* query = queries.data() + (i * group + h) * d;
          normalise(from + (g * group + h) * d, w[kQueryNorm], d, p.epsilon, scale, query);
          turn(query, cosine, sine, d);
        }
        float* key = p.keys + at + (p.start + i) * d;
        normalise(from + (p.heads + g) * d, w[kKeyNorm], d, p.epsilon, 1.0f, key);
        turn(key, cosine, sine, d);
        const float* value = from + (p.heads + p.kv_heads + g) * d;
        std::copy(value, value + d, p.values + at + (p.start + i) * d);
      }
      attend(queries.data(), p.count * group, group, p.keys + at, p.values + at, nullptr, total, d,
             scores, mixed.data() + b * p.count * inner + g * group * d, inner,
             [&](int64_t m) { return p.start + m / group + 1; });
    }
    barrier.wait();
    multiply(p.kind, w[kOut], w[kOutScale], width.first, width.last, inner, mixed.data(), tokens,
             p.x, p.width, true);
    barrier.wait();
    if (p.memory) {
      const void* const* memory = p.memory + layer * 3;
      normed(w[kCrossNorm]);
      const Share heads(inner, thread, threads);
      multiply(p.kind, w[kCrossQuery], w[kCrossQueryScale], heads.first, heads.last, p.width,
               x.data(), tokens, wide.data(), stride, false);
      barrier.wait();
      for (int64_t unit = units.first; unit < units.last; ++unit) {
        const int64_t b = unit / p.kv_heads, g = unit % p.kv_heads;
        const int64_t at = ((p.context_batch > 1 ? b : 0) * p.kv_heads + g) * p.context * d;
        for (int64_t i = 0; i < p.count; ++i)
          for (int64_t h = 0; h < group; ++h)
            normalise(wide.data() + (b * p.count + i) * stride + (g * group + h) * d,
                      w[kCrossQueryNorm], d, p.epsilon, scale,
                      queries.data() + (i * group + h) * d);
        attend(queries.data(), p.count * group, group, static_cast<const float*>(memory[0]) + at,
               static_cast<const float*>(memory[1]) + at, static_cast<const float*>(memory[2]),
               p.context, d, scores, mixed.data() + b * p.count * inner + g * group * d, inner,
               [&](int64_t) { return p.context; });
      }
      barrier.wait();
      multiply(p.kind, w[kCrossOut], w[kCrossOutScale], width.first, width.last, inner,
               mixed.data(), tokens, p.x, p.width, true);
      barrier.wait();
    }
    normed(w[kMlpNorm]);
    for (const int64_t half : {int64_t(0), p.hidden})
      multiply(p.kind, w[kGateUp], w[kGateUpScale], half + hidden.first, half + hidden.last,
               p.width, x.data(), tokens, wide.data(), stride, false);
    barrier.wait();
    for (int64_t m = 0; m < tokens; ++m) {
      const float *gate = wide.data() + m * stride, *up = gate + p.hidden;
      float* to = gated.data() + m * p.hidden;
#pragma omp simd
      for (int64_t i = 0; i < p.hidden; ++i)
        to[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
    }
    multiply(p.kind, w[kDown], w[kDownScale], width.first, width.last, p.hidden, gated.data(),
             tokens, p.x, p.width, true);
    barrier.wait();
  }
  const Share own(tokens, thread, threads, 1);
  for (int64_t m = own.first; m < own.last; ++m) {
    float* row = p.x + m * p.width;
    normalise(row, p.norm, p.width, p.epsilon, 1.0f, row);
  }
}

}  // namespace

extern "C" {

int64_t openwfm_pass_size() { return sizeof(Pass); }

// The hidden states of the next tokens, in place in `x`; their keys and values join the cache.
void openwfm_hidden(const Pass* pass) {
  const Pass& p = *pass;
  const int64_t tokens = p.batch * p.count;
  std::vector<float> wide(
      tokens * std::max((p.heads + 2 * p.kv_heads) * p.head_dim, 2 * p.hidden));
  std::vector<float> mixed(tokens * p.heads * p.head_dim);
  Barrier* barrier = nullptr;
#pragma omp parallel num_threads(int(p.threads))
  {
#pragma omp single
    barrier = new Barrier(omp_get_num_threads());
    run(p, omp_get_thread_num(), omp_get_num_threads(), *barrier, wide, mixed);
  }
  delete barrier;
}

// y (tokens × rows) = x (tokens × k) times the rows of w
void openwfm_multiply(int64_t kind, const void* w, const float* scale, int64_t rows, int64_t k,
                      const float* x, int64_t tokens, float* y, int64_t threads) {
#pragma omp parallel num_threads(int(threads))
  {
    const Share share(rows, omp_get_thread_num(), omp_get_num_threads());
    multiply(kind, w, scale, share.first, share.last, k, x, tokens, y, rows, false);
  }
}
}
