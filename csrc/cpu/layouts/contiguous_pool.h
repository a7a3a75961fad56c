// First pass of forward over planes of contiguous memory: x to means over joints and over frames,
// in tiles of as many rows as a vector has lanes.
#pragma once

#include "contiguous.h"

namespace csta::CSTA_ISA {

// Most vectors of a row that one tile sums: at least those that with_vectors passes as a constant.
template <class Scalar>
constexpr int kMostVectors = kLanes<Scalar> < 8 && sizeof(Scalar) == 4 ? 7 : 4;

struct RowSegment {
  int64_t begin, end;  // vectors

  // The segment that begins at `begin`, of a row of `vectors` vectors.
  template <class Scalar>
  static CSTA_INLINE RowSegment at(int64_t vectors, int64_t begin) {
    return {begin, min(vectors, begin + kMostVectors<Scalar>)};
  }
};

// Adds rows i and j of a segment, where present, to the columns' sums, and returns the partial sums
// of both rows. Two rows at a time halve the dependency chain of a column. Half of the additions
// are multiplications by `one`, so that FMA and add units share the work. keep_in_register makes
// GCC load each vector once. kVectors is the segment's size, or 0; if kEnds, its last vector may be
// partly invalid.
template <int kVectors, bool kEnds, bool kWhole, class Element, class Scalar = Arithmetic<Element>>
CSTA_INLINE VectorPair<Scalar> add_rows(const ContiguousRows<Element>& rows, RowSegment segment,
                                        const Element* row_i, bool has_i, const Element* row_j,
                                        bool has_j, Vector<Scalar> one, Vector<Scalar>* columns) {
  const int64_t vectors = kVectors > 0 ? kVectors : segment.end - segment.begin;
  const bool whole_i = kWhole || rows.may_overrun(row_i, 1);
  const bool whole_j = kWhole || rows.may_overrun(row_j, 1);
  VectorPair<Scalar> sums{};
  for_count<kVectors>(vectors, [&](int64_t k) CSTA_LAMBDA_INLINE {
    Vector<Scalar> i{}, j{};
    if (has_i) i = rows.load_vector(row_i, segment.begin + k, whole_i);
    if (has_j) j = rows.load_vector(row_j, segment.begin + k, whole_j);
    if (kWhole) keep_in_register(i);
    if (kWhole) keep_in_register(j);
    if (kEnds && (kVectors == 0 || k + 1 == vectors)) {
      i = zero_unless<Scalar>(rows.valid_lanes[segment.begin + k], i);
      j = zero_unless<Scalar>(rows.valid_lanes[segment.begin + k], j);
    }
    columns[k] = (i + j) * one + columns[k];
    if (kWhole) keep_in_register(columns[k]);
    sums.first = k == 0 ? i : i * one + sums.first;
    sums.second = k == 0 ? j : sums.second + j;
  });
  return sums;
}

// Sums over joints of a segment, for the first `count` of kLanes rows, all valid and safe to
// overrun; adds the columns' sums to `columns`. kFull: count is kLanes.
template <int kVectors, bool kEnds, bool kFull, class Element, class Scalar = Arithmetic<Element>>
CSTA_INLINE Vector<Scalar> pool_tile(const ContiguousRows<Element>& rows, RowSegment segment,
                                     const Element* first, int64_t count, Vector<Scalar> one,
                                     Vector<Scalar>* columns) {
  Vector<Scalar> tile[kVectors] = {};
  const Vector<Scalar> sums = sum_each_pair<Scalar>([&](int i, int j) CSTA_LAMBDA_INLINE {
    return add_rows<kVectors, kEnds, true>(rows, segment, first + i * rows.joints,
                                           kFull || i < count, first + j * rows.joints,
                                           kFull || j < count, one, tile);
  });
  CSTA_UNROLL
  for (int k = 0; k < kVectors; ++k) columns[k] += tile[k];
  return sums;
}

// Means over joints of frames [t, end), all valid, as long as they may be overrun; returns where it
// stopped. Sets `columns` to the columns' sums. Rows are one segment.
template <int kVectors, class Element, class Between, class Scalar = Arithmetic<Element>>
CSTA_INLINE int64_t pool_tiles(const ContiguousRows<Element>& rows, const Element* plane, int64_t t,
                               int64_t end, Scalar inverse_joints, Vector<Scalar>* columns,
                               Scalar* frame_means, const Between& between) {
  constexpr int lanes = kLanes<Scalar>;
  constexpr RowSegment row{0, kVectors};
  Vector<Scalar> sums[kVectors] = {}, one = splat(Scalar{1});
  keep_in_register(one);
  for (; t + lanes <= end && rows.may_overrun(plane + t * rows.joints, lanes); t += lanes) {
    const auto means =
        pool_tile<kVectors, true, true>(rows, row, plane + t * rows.joints, lanes, one, sums);
    store(frame_means + t, means * inverse_joints);
    between(t + lanes);
  }
  if (t < end && t + lanes > end && rows.may_overrun(plane + t * rows.joints, end - t)) {
    const auto means =
        pool_tile<kVectors, true, false>(rows, row, plane + t * rows.joints, end - t, one, sums);
    store(frame_means + t, means * inverse_joints);
    between(end);
    t = end;
  }
  CSTA_UNROLL
  for (int k = 0; k < kVectors; ++k) columns[k] = sums[k];
  return t;
}

// pool_tile for the last segment of a row, of at most kVectors vectors.
template <int kVectors, class Element, class Scalar = Arithmetic<Element>>
CSTA_INLINE Vector<Scalar> pool_last_tile(const ContiguousRows<Element>& rows, RowSegment segment,
                                          const Element* first, int64_t count, Vector<Scalar> one,
                                          Vector<Scalar>* columns) {
  if constexpr (kVectors > 1) {
    if (segment.end - segment.begin < kVectors) {
      return pool_last_tile<kVectors - 1>(rows, segment, first, count, one, columns);
    }
  }
  return pool_tile<kVectors, true, false>(rows, segment, first, count, one, columns);
}

// pool_tile for rows of any number of segments.
template <class Element, class Scalar = Arithmetic<Element>>
CSTA_NOINLINE Vector<Scalar> pool_wide_tile(const ContiguousRows<Element>& rows,
                                            const Element* first, int64_t count,
                                            Vector<Scalar>* columns) {
  constexpr int most = kMostVectors<Scalar>;
  const Vector<Scalar> one = splat(Scalar{1});
  Vector<Scalar> sums{}, lost{};
  for (int64_t k = 0; k < rows.vectors; k += most) {
    const RowSegment segment = RowSegment::at<Scalar>(rows.vectors, k);
    const Vector<Scalar> partial =
        segment.end < rows.vectors
            ? pool_tile<most, false, false>(rows, segment, first, count, one, columns + k)
            : pool_last_tile<most>(rows, segment, first, count, one, columns + k);
    add_partial<Scalar>(k == 0, partial, sums, lost);
  }
  return sums;
}

// pool_tile for rows that may be invalid or absent, with the same rounding. `tile` is scratch of
// rows.vectors vectors.
template <class Element, class Scalar = Arithmetic<Element>>
Vector<Scalar> pool_any_tile(const ContiguousRows<Element>& rows, const Axis& frames, int64_t t,
                             int64_t end, const Element* first, Vector<Scalar>* tile,
                             Vector<Scalar>* columns) {
  const auto is_there = [&](int i) { return t + i < end && frames.is_valid(t + i); };
  Vector<Scalar> sums{}, lost{};
  for (int64_t k = 0; k < rows.vectors; k += kMostVectors<Scalar>) {
    const RowSegment segment = RowSegment::at<Scalar>(rows.vectors, k);
    for (int64_t i = segment.begin; i < segment.end; ++i) tile[i] = Vector<Scalar>{};
    const Vector<Scalar> partial = sum_each_pair<Scalar>([&](int i, int j) {
      return add_rows<0, true, false>(rows, segment, first + i * rows.joints, is_there(i),
                                      first + j * rows.joints, is_there(j), splat(Scalar{1}),
                                      tile + k);
    });
    add_partial<Scalar>(k == 0, partial, sums, lost);
  }
  for (int64_t k = 0; k < rows.vectors; ++k) columns[k] += tile[k];
  return sums;
}

// A plane of one joint: every frame is its own mean.
template <class Element, class Scalar = Arithmetic<Element>>
void pool_one_joint(const Axis& frames, const Axis& joints, const Element* plane,
                    Scalar* frame_means, Scalar* joint_means) {
  constexpr int lanes = kLanes<Scalar>;
  Vector<Scalar> total{}, lost{};
  for (int64_t block = 0; block < frames.end; block += kBlockRows) {
    const int64_t block_end = min(frames.end, block + kBlockRows);
    Vector<Scalar> sum{};
    for (int64_t t = block; t < block_end; t += lanes) {
      const int64_t count = min(lanes, block_end - t);
      Vector<Scalar> value = count == lanes ? load(plane + t) : load_some(plane + t, count);
      for (int64_t i = 0; !frames.is_prefix() && i < count; ++i) {
        if (!frames.is_valid(t + i)) value[i] = 0;
      }
      store(frame_means + t, value);
      sum += value;
    }
    add_compensated<Scalar>(sum, total, lost);
  }
  for (int64_t i = round_up(frames.end, lanes); i < frames.stride; ++i) frame_means[i] = 0;
  for (int64_t i = 1; i < joints.stride; ++i) joint_means[i] = 0;
  joint_means[0] = sum_lanes<Scalar>(total) / static_cast<Scalar>(max(frames.valid_count, 1));
}

// Means of one plane: frame_means [T padded] over joints, joint_means [V padded] over frames.
// `columns` is scratch of 3 * rows.vectors vectors. Calls between(frames done) every few frames,
// except for planes of one joint.
template <int kVectors, class Element, class Between, class Scalar = Arithmetic<Element>>
CSTA_INLINE void pool_plane(const ContiguousRows<Element>& rows, const Axis& frames,
                            const Axis& joints, const Element* plane, Vector<Scalar>* columns,
                            Scalar* frame_means, Scalar* joint_means, const Between& between) {
  if (rows.joints == 1) return pool_one_joint(frames, joints, plane, frame_means, joint_means);
  constexpr int lanes = kLanes<Scalar>;
  const int64_t vectors = kVectors > 0 ? kVectors : rows.vectors;
  const Scalar inverse_joints = Scalar{1} / static_cast<Scalar>(max(joints.valid_count, 1));
  const Scalar inverse_frames = Scalar{1} / static_cast<Scalar>(max(frames.valid_count, 1));

  auto* lost = reinterpret_cast<Scalar*>(columns + 2 * vectors);
  const bool one_block = frames.end <= kBlockRows;
  for (int64_t k = 0; k < vectors; ++k) {
    store(joint_means + k * lanes, Vector<Scalar>{});
    store(lost + k * lanes, Vector<Scalar>{});
  }
  for (int64_t block = 0; block < frames.end; block += kBlockRows) {
    for (int64_t k = 0; k < vectors; ++k) columns[k] = Vector<Scalar>{};
    const int64_t block_end = min(frames.end, block + kBlockRows);
    int64_t t = block;
    if constexpr (kVectors > 0) {
      if (frames.is_prefix()) {
        t = pool_tiles<kVectors>(rows, plane, t, block_end, inverse_joints, columns, frame_means,
                                 between);
      }
    }
    for (; t < block_end; t += lanes) {
      const int64_t count = min(lanes, block_end - t);
      const Element* first = plane + t * rows.joints;
      const bool is_plain = kVectors == 0 && frames.is_prefix() && !rows.joints_masked &&
                            rows.may_overrun(first, count);
      const Vector<Scalar> sums =
          is_plain ? pool_wide_tile(rows, first, count, columns)
                   : pool_any_tile(rows, frames, t, block_end, first, columns + vectors, columns);
      store(frame_means + t, sums * inverse_joints);
      between(t + count);
    }
    for (int64_t k = 0; k < vectors; ++k) {
      if (one_block) {
        store(joint_means + k * lanes, columns[k]);  // a single block needs no compensated sum
      } else {
        add_compensated<Scalar>(columns[k], joint_means + k * lanes, lost + k * lanes);
      }
    }
  }
  for (int64_t k = 0; k < vectors; ++k) {
    store(joint_means + k * lanes, load(joint_means + k * lanes) * inverse_frames);
  }
  for (int64_t i = vectors * lanes; i < joints.stride; ++i) joint_means[i] = 0;
  for (int64_t i = round_up(frames.end, lanes); i < frames.stride; ++i) frame_means[i] = 0;
}

}  // namespace csta::CSTA_ISA
