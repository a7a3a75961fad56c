"""The seeded bugs: each a small edit that the test suite must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One edit: ``old`` stands exactly once in ``file`` and becomes ``new``.

    In C++, both are statements that declare nothing (``old`` ends with a semicolon, ``new`` may
    be empty) or both are expressions of one type: all are compiled at once.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str = "contract"  # where it shows; tests/test_*.py that runs first

    @property
    def in_library(self) -> bool:
        return self.file.startswith("csrc/")

    @property
    def in_cuda(self) -> bool:
        return self.file.startswith("csrc/cuda/")

    @property
    def in_triton(self) -> bool:
        return self.file.startswith("kernels/")


GATES, SAMPLE, WEIGHTS = (f"csrc/cpu/{name}.h" for name in ("gates", "sample", "weight_sums"))
FORWARD, BACKWARD, SPLIT = (f"csrc/cpu/{name}.h" for name in ("forward", "backward", "split"))
PLANAR, POOL, PASSES, FLAT = (
    f"csrc/cpu/planar{part}.h" for part in ("", "_pool", "_passes", "_flat")
)
INTERLEAVED, INTERLEAVED_PASSES = "csrc/cpu/interleaved.h", "csrc/cpu/interleaved_passes.h"
VECTORS, VECTOR_PASSES = (f"csrc/cpu/interleaved_vector{part}.h" for part in ("s", "_passes"))
WORKER = "csrc/cpu/worker.h"
PRODUCTS, MATH, SIMD = (f"csrc/cpu/{name}.h" for name in ("products", "vector_math", "simd"))

KERNELS = [
    Mutant("softmax_without_maximum", GATES,
           "exponential(load(row + i) - top)", "exponential(load(row + i))", "extremes"),
    Mutant("softmax_gradient_without_mean", GATES, "a * (da - mean)", "a * da"),
    Mutant("sigmoid_gradient", GATES, "a * (1 - a) * da", "a * da"),
    Mutant("padding_takes_softmax_weight", GATES,
           "fill_unreal(axis, -static_cast<Scalar>(INFINITY), row);", ""),
    Mutant("mask_holes_ignored", GATES,
           "position < end && (real == nullptr || real[position] != 0)", "position < end"),
    Mutant("lengths_ignored", SAMPLE,
           "problem.lengths == nullptr ? problem.frames : problem.lengths[n]", "problem.frames"),
    Mutant("first_joint_mask_for_all", SAMPLE,
           "problem.joint_mask + n * problem.joint_mask_stride", "problem.joint_mask"),
    Mutant("scale_counts_padding", SAMPLE, "frames.axis.real_count * joints.axis.real_count",
           "problem.frames * problem.joints"),
    Mutant("upstream_of_attention_dropped", SAMPLE, "row[i] += given[i];", ""),
    Mutant("groups_of_attention_mixed_up", SAMPLE,
           "from + (sample * groups + group) * axis.length",
           "from + sample * groups * axis.length"),
    Mutant("swapped_axes_of_counts", BACKWARD,
           "of_frames ? sample.joints.axis : sample.frames.axis",
           "of_frames ? sample.frames.axis : sample.joints.axis"),
    Mutant("attention_unwritten_when_empty", FORWARD, "frame_attention_[i] = 0;", ""),
    Mutant("int32_offset", BACKWARD,
           "stage.passes.correlate(x_ + at, u_ + at, stage.sample, has_heads_, begin, end);",
           "stage.passes.correlate(x_ + static_cast<int32_t>(at), u_ + at, stage.sample,"
           " has_heads_, begin, end);", "extremes"),
    Mutant("last_part_not_read", WORKER, "read(*next, part, end);",
           "if (end < parts_) read(*next, part, end);"),
    Mutant("next_sample_not_described", WORKER, "start(*next);", ""),
    Mutant("threads_share_a_sum", BACKWARD, "n / sums_.samples_of_a_run()", "0", "bitwise"),
    Mutant("split_drops_a_channel", SPLIT,
           "function(scratch.passes, n, first - n * channels, end - n * channels);",
           "function(scratch.passes, n, first - n * channels, end - n * channels - 1);", "bitwise"),
    Mutant("split_drops_a_tile", SPLIT, "smaller(real, begin + kProductTile)",
           "smaller(real, begin + kProductTile - 64)", "bitwise"),
    Mutant("surplus_lanes_counted", POOL, "i = keep<Scalar>(rows.real_lanes[k], i);", ""),
    Mutant("second_row_not_in_the_columns", POOL, "(i + j) * one", "i * one"),
    Mutant("rows_left_over_counted_twice", POOL, "    t = end;", ""),
    Mutant("only_the_last_block_of_frames", POOL,
           "store(joint_means + k * lanes, load(joint_means + k * lanes) + columns[k]);",
           "store(joint_means + k * lanes, columns[k]);"),
    Mutant("correlation_tail_dropped", PLANAR, "if (f == end) return;", "return;"),
    Mutant("joint_gradient_unscaled", PLANAR, "columns[k] * kappa", "columns[k]"),
    Mutant("gradient_through_frame_means_dropped", PLANAR,
           "load(means.joints + k * lanes) + frame", "load(means.joints + k * lanes)"),
    Mutant("residual_dropped_in_padding", PLANAR,
           "std::memcpy(out, row, static_cast<size_t>(rows.joints) * sizeof(Element));",
           "std::memset(out, 0, static_cast<size_t>(rows.joints) * sizeof(Element));"),
    Mutant("gain_does_not_wrap", PLANAR, "gain[plane + i] = gain[i % plane];",
           "gain[plane + i] = 0;"),
    Mutant("gain_of_the_first_group", PASSES, "group != gain_group_", "gain_group_ < 0"),
    Mutant("group_never_finished", PASSES, "block_end % width == 0", "block_end == width"),
    Mutant("next_row_of_a_vector", FLAT, "choose<Scalar>(in_row, splat(frame[0]), of_frame)",
           "of_frame"),
    Mutant("padding_unwritten", FLAT,
           "put<kStream>(reinterpret_cast<float*>(to + f + k), bits);", ""),
    Mutant("residual_dropped_in_flat_padding", PASSES,
           "problem_.residual ? in + at + real : nullptr", "nullptr"),
    Mutant("last_elements_unwritten", FLAT, "some(f, count);", ""),
    Mutant("last_padding_unwritten", FLAT, "edge(f, count);", ""),
    Mutant("channels_last_mean_gradient_dropped", INTERLEAVED,
           "load(joint_means + i) + load(mean_phases + k)", "load(joint_means + i)"),
    Mutant("channels_last_tail_dropped", INTERLEAVED,
           "if (i < row) function(i, k, row - i);", ""),
    Mutant("channels_last_next_row_counted", INTERLEAVED,
           "count == lanes ? value : keep<Scalar>(last_lanes, value)", "value"),
    Mutant("channels_last_block_not_added", INTERLEAVED_PASSES,
           "add(block_product_columns_, product_columns_);", ""),
    Mutant("channels_last_mask_by_channel", INTERLEAVED_PASSES,
           "i / problem_.channels", "i % problem_.joints"),
    Mutant("few_channels_mixed_up", INTERLEAVED_PASSES,
           "k % problem_.channels == channel", "k % problem_.channels == 0"),
    Mutant("vectors_last_product_only", VECTORS,
           "sum += load(x + at + c) * load(u + at + c);",
           "sum = load(x + at + c) * load(u + at + c);"),
    Mutant("vectors_frame_sums_unscaled", VECTORS, "sums[row][k] * share", "sums[row][k]"),
    Mutant("vectors_frame_gradient_dropped", VECTORS,
           "load(joint_gradients + c) + load(gain.frame_gradients + c)",
           "load(joint_gradients + c)"),
    Mutant("vectors_tile_not_transposed", VECTORS,
           "tile[i + kHalf] = halves_of<kHalf, 1>(a, b, lanes);", "tile[i + kHalf] = b;"),
    Mutant("vectors_block_not_added", VECTOR_PASSES, "add(block_columns_, columns_);", ""),
    Mutant("vectors_masked_joints_counted", VECTOR_PASSES,
           "if (real) real_joints_[real_count_++] = v;",
           "if (v < problem_.joints) real_joints_[real_count_++] = v;"),
    Mutant("bias_dropped", PRODUCTS, "bias == nullptr ? Scalar{0} : bias[row]", "Scalar{0}"),
    Mutant("only_the_last_block_of_channels", PRODUCTS,
           "total[row][w] += sum[row][w];", "total[row][w] = sum[row][w];"),
    Mutant("relu_hides_nan", PRODUCTS, "keep<Scalar>(~(value <= Vector<Scalar>{}), value)",
           "keep<Scalar>(value > Vector<Scalar>{}, value)", "extremes"),
    Mutant("relu_passes_every_gradient", PRODUCTS,
           "~(load(activations + i) <= Vector<Scalar>{})", "~Mask<Scalar>{}"),
    Mutant("runs_of_samples_not_added", WEIGHTS,
           "store(total + i, load(total + i) + load(part + i));", ""),
    Mutant("polynomial_coefficient", MATH, "5.0000001201e-1f", "4.9990001201e-1f"),
    Mutant("bfloat16_truncated", SIMD, "bits + 0x7fff + ((bits >> 16) & 1)",
           "bits >> 16"),
]  # fmt: skip

OPERATIONS = [
    Mutant("strided_input_read_as_contiguous", "csrc/tensor.h",
           "if (strides_[axis] != expected) return false;", ""),
    Mutant("result_never_channels_last", "csrc/register.cpp",
           "Tensor::empty(4, x.sizes(), x.torch_dtype(), problem.channels_last)",
           "Tensor::empty(4, x.sizes(), x.torch_dtype(), false)"),
    Mutant("lengths_not_checked", "csrc/arguments.h",
           "length < 0 || length > problem.frames", "length < 0", "messages"),
    Mutant("shared_mask_walked_by_sample", "csrc/arguments.h",
           "per_sample ? problem.joints : 0", "problem.joints"),
]  # fmt: skip

DIFFERENTIATION, OPS = "csta_fast/differentiation.py", "csta_fast/ops.py"
PYTHON = [
    Mutant("pool_twice_without_masks", DIFFERENTIATION,
           'call("pool", *grads, *ctx.saved_tensors)', 'call("pool", *grads, None, None, None)',
           "transforms"),
    Mutant("second_gradient_of_inputs_zero", "csta_fast/second_order.py",
           "return *of_cotangents, *of_primals",
           "return *of_cotangents, *map(torch.zeros_like, of_primals)", "transforms"),
    Mutant("vmap_backwards", DIFFERENTIATION, "for index in range(info.batch_size)",
           "for index in reversed(range(info.batch_size))", "transforms"),
    Mutant("own_heads_lose_a_gradient", "csta_fast/layer.py",
           "self.frame_head(frame_means),", "self.frame_head(frame_means.detach()),", "layer"),
    Mutant("fake_attention_in_x_dtype", OPS, "dtype = ARITHMETIC_DTYPES[x.dtype]",
           "dtype = x.dtype", "operations"),
    Mutant("fake_result_always_contiguous", OPS,
           "return torch.empty_like(x, memory_format=torch.channels_last)",
           "return torch.empty_like(x, memory_format=torch.contiguous_format)", "operations"),
    Mutant("flops_of_one_head", OPS, "flops += 2 * samples", "flops = 2 * samples", "operations"),
    Mutant("joint_mask_shape_unchecked", "csta_fast/checks.py",
           "and joint_mask.shape != (joints,)", "and joint_mask.dim() != 1", "messages"),
    Mutant("scale_sum_is_mean", "csta_fast/checks.py", "return 1.0", "return None"),
]  # fmt: skip

PASSES_OF_TRITON, POSITIONS, PIPELINE = (
    f"kernels/{name}.py" for name in ("passes", "positions", "pipeline")
)
GATES_OF_TRITON, HEADS, WEIGHTS_OF_TRITON, PLANS = (
    f"kernels/{name}.py" for name in ("gates", "heads", "weights", "plans")
)
TRITON = [
    Mutant("triton_softmax_sum_without_maximum", GATES_OF_TRITON,
           "exponential(tl.where(real, logits - largest[:, None], 0))",
           "exponential(tl.where(real, logits, 0))"),
    Mutant("triton_softmax_gradient_without_mean", GATES_OF_TRITON,
           "((of_attention - along[:, None]) - rest[:, None])", "of_attention"),
    Mutant("triton_sigmoid_gradient", GATES_OF_TRITON, "(1 - attention) * ", ""),
    Mutant("triton_padding_takes_weight", GATES_OF_TRITON,
           "tl.where(real, attention, 0), mask=inside", "attention, mask=inside"),
    Mutant("triton_last_frame_dropped", PASSES_OF_TRITON,
           "tl.minimum(first + slices.frames, sizes.frames)",
           "tl.minimum(first + slices.frames, sizes.frames - 1)"),
    Mutant("triton_last_position_unwritten", PASSES_OF_TRITON,
           "tl.minimum(first + slices.positions, plane)",
           "tl.minimum(first + slices.positions, plane - 1)"),
    Mutant("triton_dx_without_frame_means", PASSES_OF_TRITON,
           "dp_frames[:, :, None] + dp_joints[:, None, :]",
           "0 * dp_frames[:, :, None] + dp_joints[:, None, :]"),
    Mutant("triton_attention_of_swapped_axes", PASSES_OF_TRITON,
           "with_joints = tl.sum(both * joint_attention[:, None, :], 2)",
           "with_joints = tl.sum(both, 2)"),
    Mutant("triton_residual_of_padding_lost", PASSES_OF_TRITON,
           "inside if RESIDUAL or not is_masked(masks) else inside & real[None, :]",
           "inside & real[None, :]"),
    Mutant("triton_groups_interleaved", POSITIONS,
           "group = c // (sizes.channels // sizes.groups)", "group = c % sizes.groups"),
    Mutant("triton_groups_always_shared", PLANS,
           "shared=groups == 1 or (channels // max(groups, 1)) % block_c == 0", "shared=True"),
    Mutant("triton_lengths_ignored", POSITIONS, "real = t < limit", "real = t < sizes.frames"),
    Mutant("triton_one_joint_mask_for_all", POSITIONS,
           "masks.joints + sample.to(tl.int64) * masks.joint_stride + v", "masks.joints + v"),
    Mutant("triton_scale_of_frames_only", POSITIONS,
           "frame_count.to(ARITHMETIC) * joint_count.to(ARITHMETIC)",
           "frame_count.to(ARITHMETIC)"),
    Mutant("triton_relu_gradient", HEADS, "tl.where(hidden <= 0, 0, gradient)", "gradient"),
    Mutant("triton_bias_missing", HEADS, "total = bias[:, None] + tl.zeros", "total = tl.zeros"),
    Mutant("triton_first_part_of_the_means_only", HEADS,
           "for part in range(axis.parts):", "for part in range(1):", "triton"),
    Mutant("triton_last_sample_without_weight_gradient", WEIGHTS_OF_TRITON,
           "tl.minimum(first + samples_of_run, samples)",
           "tl.minimum(first + samples_of_run, samples - 1)"),
    Mutant("triton_first_run_only", WEIGHTS_OF_TRITON,
           "for run in range(runs):", "for run in range(1):"),
    Mutant("triton_nobody_waits", PIPELINE, 'sem="acquire") < items', 'sem="acquire") < 0',
           "triton"),
    Mutant("triton_an_item_counts_twice", PIPELINE,
           "work.done + STAGE * work.samples + sample, 1,",
           "work.done + STAGE * work.samples + sample, 2,", "triton"),
    Mutant("triton_last_slots_missing", "kernels/call.py",
           "(self.samples + self.delay) * sum(items)", "self.samples * sum(items)", "triton"),
]  # fmt: skip

_CUDA_FILES = ("gates", "heads", "passes", "ring", "sample", "reweight")
C_GATES, C_HEADS, C_PASSES, C_RING, C_SAMPLE, C_REWEIGHT = (
    f"csrc/cuda/{name}.h" for name in _CUDA_FILES
)
C_FORWARD, C_BACKWARD, C_WEIGHTS = (
    f"csrc/cuda/{name}.cu" for name in ("forward", "backward", "weights")
)

CUDA = [
    Mutant("cuda_softmax_without_maximum", C_GATES,
           "exponential(row.at(g, l) - largest)", "exponential(row.at(g, l))", "extremes"),
    Mutant("cuda_softmax_gradient_without_mean", C_GATES, "a * (da - dot)", "a * da"),
    Mutant("cuda_gradients_of_the_first_block_only", C_GATES, "other < end", "other < first + 1",
           "cuda"),
    Mutant("cuda_scale_of_frames_only", C_GATES,
           "int64_t{real.count[kFrames]} * real.count[kJoints]", "int64_t{real.count[kFrames]}"),
    Mutant("cuda_sums_for_means", C_HEADS,
           "means.at(c, l) = sum / count;", "means.at(c, l) = sum;"),
    Mutant("cuda_relu_gradient", C_HEADS, "hidden.at(h, l) <= 0 ? Scalar{0} : sum", "sum"),
    Mutant("cuda_sums_of_the_first_block_only", C_HEADS,
           "sum += block.sums(axis, other).at(c, l);",
           "if (other == 0) sum += block.sums(axis, other).at(c, l);", "cuda"),
    Mutant("cuda_joint_mask_ignored", C_PASSES,
           "kMasked && !real.joint(run.first + k)", "false"),
    Mutant("cuda_columns_begin_with_the_frame", C_PASSES,
           "span.frame_begin * joints + v < span.begin ? 1 : 0", "0", "cuda"),
    Mutant("cuda_rest_of_a_run_not_copied", C_RING, "head + whole + thread()", "count + thread()"),
    Mutant("cuda_no_fence_before_bulk_copies", C_RING,
           "if (copies_in_bulk()) fence_before_bulk_copies();", ""),
    Mutant("cuda_nobody_waits_for_copies", C_RING,
           "wait(barriers_ + slot, static_cast<int>(phases_ >> slot & 1));", ""),
    Mutant("cuda_the_same_parity_always", C_RING, "phases_ ^= uint64_t{1} << slot;", "", "cuda"),
    Mutant("cuda_lengths_ignored", C_SAMPLE,
           "if (call.lengths == nullptr) return frames;", "return frames;"),
    Mutant("cuda_products_of_the_last_channels_only", C_PASSES,
           "sums[k] += parts[k];", "sums[k] = parts[k];"),
    Mutant("cuda_rest_of_a_sum_dropped", "csrc/cuda/numbers.h",
           "return total + rest;", "return total;"),
    Mutant("cuda_pairs_not_added", "csrc/cuda/numbers.h",
           "terms[k] += terms[k + apart];", ""),
    Mutant("cuda_row_of_joints_does_not_go_on", C_GATES,
           "scaled.at(g, v) = kappa * attention.at(g, v % joints);",
           "if (v < joints) scaled.at(g, v) = kappa * attention.at(g, v);"),
    Mutant("cuda_pack_of_one_frame_only", C_REWEIGHT, "(k < left ? here : next)", "here"),
    Mutant("cuda_next_frame_gives_nothing_back", C_REWEIGHT, "(first ? here : next)", "here"),
    Mutant("cuda_channels_of_a_plane_give_the_same_back", C_REWEIGHT,
           "if (spreads_) shares.joints += ways * joint_shares_.row_stride;", ""),
    Mutant("cuda_padding_weighed", C_REWEIGHT, "p + kCount > real_end || !all_real_",
           "p >= real_end || !all_real_"),
    Mutant("cuda_residual_ignored", C_REWEIGHT, "call_.residual ? Scalar{1} : Scalar{0}",
           "Scalar{0}"),
    Mutant("cuda_slot_refilled_while_read", C_FORWARD,
           "block_barrier();\n      if (j + slots < chunks) load(j + slots);",
           "if (j + slots < chunks) load(j + slots);", "cuda"),
    Mutant("cuda_leaves_before_its_peers", C_FORWARD,
           "if (call_.has_heads) cluster_wait();", "", "cuda"),
    Mutant("cuda_first_chunk_not_read_again", C_FORWARD,
           "if (j - slots >= 0) load(j - slots);", "if (j - slots > 0) load(j - slots);", "cuda"),
    Mutant("cuda_gradients_before_the_cluster_is_done", C_BACKWARD,
           "first_pass(real, kappa, call_.has_heads ? nullptr : grad_x);\n    cluster_arrive();\n"
           "    cluster_wait();",
           "first_pass(real, kappa, call_.has_heads ? nullptr : grad_x);", "cuda"),
    Mutant("cuda_couple_returns_x_for_u", C_BACKWARD,
           "reweight.run(chunk, u, grad_x);", "reweight.run(chunk, x, grad_x);"),
    Mutant("cuda_couple_reads_u_twice", C_BACKWARD,
           "call_.has_heads && grad_x != nullptr", "grad_x != nullptr", "cuda"),
    Mutant("cuda_first_run_only", C_WEIGHTS, "run < call.runs", "run < 1"),
    Mutant("cuda_slots_without_room_for_misplacement", "csrc/cuda/plan.cpp",
           "plan.channels_of_chunk * positions * element_bytes_ + 16",
           "plan.channels_of_chunk * positions * element_bytes_", "cuda"),
]  # fmt: skip

MUTANTS: list[Mutant] = [*KERNELS, *OPERATIONS, *PYTHON, *TRITON, *CUDA]
