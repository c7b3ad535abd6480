// Products of a matrix with a few tokens, norms, rotation and attention, for one thread.
//
// Vectors are the compiler's own (GCC and Clang), so that the same lines serve every processor.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace openwfm {

#ifdef __AVX512F__
constexpr int kLanes = 16, kTokens = 4;
#else
constexpr int kLanes = 8, kTokens = 2;
#endif
constexpr int kRows = 4;  // of a matrix at once: kRows × kTokens sums stay in registers

typedef float Vector __attribute__((vector_size(kLanes * 4)));
typedef int32_t Whole __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Bits __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Half __attribute__((vector_size(kLanes * 2)));
typedef int8_t Byte __attribute__((vector_size(kLanes)));

inline Vector load(const float* p) { Vector v; std::memcpy(&v, p, sizeof v); return v; }

// GCC 12 widens small integers lane by lane, which costs more than reading fp32: hence intrinsics.
#if defined(__AVX512F__)
inline Vector load(const uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}
inline Vector load(const int8_t* p) {
  const __m128i byte = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return (Vector)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(byte));
}
inline float total(Vector v) { return _mm512_reduce_add_ps((__m512)v); }
#elif defined(__AVX2__)
inline Vector load(const uint16_t* p) {
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return (Vector)_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16);
}
inline Vector load(const int8_t* p) {
  const __m128i byte = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return (Vector)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(byte));
}
#else
inline Vector load(const uint16_t* p) {
  Half h;
  std::memcpy(&h, p, sizeof h);
  return (Vector)(__builtin_convertvector(h, Bits) << 16);
}
inline Vector load(const int8_t* p) {
  Byte b;
  std::memcpy(&b, p, sizeof b);
  return __builtin_convertvector(__builtin_convertvector(b, Whole), Vector);
}
#endif
#ifndef __AVX512F__
inline float total(Vector v) {
  float sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += v[lane];
  return sum;
}
#endif

inline float single(const float* p) { return *p; }
inline float single(const int8_t* p) { return *p; }
inline float single(const uint16_t* p) {
  const uint32_t bits = uint32_t(*p) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// found[r][m] = row r of w · token m of x
template <class T, int R, int M>
inline void dots(const T* w, const float* x, int64_t k, float (&found)[kRows][kTokens]) {
  Vector sums[R][M] = {};
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    Vector row[R];
    for (int r = 0; r < R; ++r) row[r] = load(w + r * k + i);
    for (int m = 0; m < M; ++m) {
      const Vector token = load(x + m * k + i);
      for (int r = 0; r < R; ++r) sums[r][m] += row[r] * token;
    }
  }
  for (int r = 0; r < R; ++r)
    for (int m = 0; m < M; ++m) {
      float sum = total(sums[r][m]);
      for (int64_t j = i; j < k; ++j) sum += single(w + r * k + j) * x[m * k + j];
      found[r][m] = sum;
    }
}

// y[m·stride + r] (+)= scale[r] · (row r of w · token m of x), for rows first to last
template <class T>
void product(const T* w, const float* scale, int64_t first, int64_t last, int64_t k, const float* x,
             int64_t tokens, float* y, int64_t stride, bool add) {
  float found[kRows][kTokens];
  for (int64_t r = first; r < last;) {
    const int rows = last - r >= kRows ? kRows : 1;
    for (int64_t m = 0; m < tokens;) {
      const int many = tokens - m >= kTokens ? kTokens : 1;
      const T* from = w + r * k;
      const float* token = x + m * k;
      if (rows == kRows && many == kTokens) dots<T, kRows, kTokens>(from, token, k, found);
      else if (rows == kRows) dots<T, kRows, 1>(from, token, k, found);
      else if (many == kTokens) dots<T, 1, kTokens>(from, token, k, found);
      else dots<T, 1, 1>(from, token, k, found);
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < many; ++j) {
          const float value = scale ? scale[r + i] * found[i][j] : found[i][j];
          float& place = y[(m + j) * stride + r + i];
          place = add ? place + value : value;
        }
      m += many;
    }
    r += rows;
  }
}

void multiply(int64_t kind, const void* w, const void* scale, int64_t first, int64_t last,
              int64_t k, const float* x, int64_t tokens, float* y, int64_t stride, bool add) {
  const float* s = static_cast<const float*>(scale);
  if (kind == 0)
    product(static_cast<const float*>(w), s, first, last, k, x, tokens, y, stride, add);
  else if (kind == 1)
    product(static_cast<const uint16_t*>(w), s, first, last, k, x, tokens, y, stride, add);
  else
    product(static_cast<const int8_t*>(w), s, first, last, k, x, tokens, y, stride, add);
}

// e^x to 1e-7, without branches so that loops over it become vectors (Cephes' polynomial).
inline float exponential(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  const float turns = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (x - turns * 0.693359375f) + turns * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const int32_t bits = (int32_t(turns) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return (p * r * r + r + 1.0f) * power;
}

float inverse_rms(const float* x, int64_t n, double epsilon) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return 1.0f / std::sqrt(sum / float(n) + float(epsilon));
}

void normalise(const float* x, const void* gain, int64_t n, double epsilon, float factor,
               float* to) {
  const float* g = static_cast<const float*>(gain);
  const float scale = inverse_rms(x, n, epsilon) * factor;
  for (int64_t i = 0; i < n; ++i) to[i] = x[i] * scale * g[i];
}

void turn(float* x, const float* cosine, const float* sine, int64_t d) {
  for (int64_t c = 0; c < d / 2; ++c) {
    const float a = x[c], b = x[c + d / 2];
    x[c] = a * cosine[c] + b * sine[c];
    x[c + d / 2] = b * cosine[c + d / 2] + a * sine[c + d / 2];
  }
}

// A few queries of `d` (scaled) to the same keys. Query m sees the first valid(m) of `total`.
// Query m is head m % group of token m / group, whose result begins at to + token·stride.
template <class Valid>
void attend(const float* queries, int64_t many, int64_t group, const float* keys,
            const float* values, const float* bias, int64_t total, int64_t d,
            std::vector<float>& scores, float* to, int64_t stride, Valid valid) {
  scores.resize(many * total);
  product(keys, nullptr, 0, total, d, queries, many, scores.data(), total, false);
  for (int64_t m = 0; m < many; ++m) {
    float* s = scores.data() + m * total;
    const int64_t seen = valid(m);
    if (bias) for (int64_t j = 0; j < seen; ++j) s[j] += bias[j];
    float most = s[0], sum = 0;
    for (int64_t j = 1; j < seen; ++j) most = std::max(most, s[j]);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < seen; ++j) sum += s[j] = exponential(s[j] - most);
    float* out = to + (m / group) * stride + (m % group) * d;
    std::fill(out, out + d, 0.0f);
    int64_t j = 0;
    for (; j + 4 <= seen; j += 4) {
      const float* v = values + j * d;
#pragma omp simd
      for (int64_t c = 0; c < d; ++c)
        out[c] += s[j] * v[c] + s[j + 1] * v[c + d] + s[j + 2] * v[c + 2 * d] +
                  s[j + 3] * v[c + 3 * d];
    }
    for (; j < seen; ++j)
      for (int64_t c = 0; c < d; ++c) out[c] += s[j] * values[j * d + c];
    for (int64_t c = 0; c < d; ++c) out[c] /= sum;
  }
}

}  // namespace openwfm
