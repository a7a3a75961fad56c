"""Benches: the cost of every call, in copies of its tensor, beside the limit and the rivals.

``pytest bench/ --benchmark-only`` measures everything that README and goals rest on, in half an
hour; with ``--quick`` it measures a few shapes of each kind, in two minutes. It says at the start
how long it takes and which file the figures go to, one after the other; Ctrl-C keeps them.
``python -m bench.report FILE`` turns files into docs/benchmarks.md and its picture, and
``python -m bench.publish NAME`` does all of it for the documentation. The tests of this package are
in tests/bench. Sections, each selected by ``--section=NAME``:

==============  =================================================================
smoke           seconds, for continuous integration
forward         kernels under no_grad, float32, against copy, eager and compile
backward        backward alone, its forward outside the clock
step            forward and backward through autograd, six shapes
half            bfloat16 and float16 kernels
channels_last   float32 kernels in channels-last memory
small           latency of one to eight samples, each variant alone in its process
lengths         a padded batch with the lengths of NTU sequences
allocator       what page faults cost, per allocator setting
memory          peak memory of a step and bytes kept for backward
overhead        microseconds of a call that computes nothing
field           shapes of published models (not without ``--full``)
samples         cost against N, frames: cost against T (not without ``--full``)
==============  =================================================================

``--device=cuda`` measures on a GPU instead, every backend that serves it by name:

==============  =================================================================
gpu             forward and step, float32 and bfloat16, published and large shapes
gpu_small       latency of one to eight samples, replayed and called in a loop
gpu_field       the other shapes of published models (not without ``--full``)
==============  =================================================================

Rivals are eager PyTorch and ``torch.compile``, in every section that compares kernels. Options:
``--full``, ``--rivals=all`` (max-autotune as well) or ``--rivals=none``, ``--seconds=3`` of
measuring per group, ``--budget=SECONDS`` after which no group is begun, ``--results=FILE``,
``--backend=NAME``. ``python -m bench.gpu`` does all that a GPU is needed for: tests, sanitizers and
benches.

How it is measured: the variants of a group take turns within every round, in a new random order;
ratios are medians of the rounds' ratios; rounds in which other processes used the machine are
dropped; the heap is warm, so that a tensor's pages are not faulted in anew on each call; and no
time is shown for a group in which any variant is wrong.
"""
