"""The one list of named cases on which every backend is tested."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Case:
    """One call of one operation, without its dtype and its numbers."""

    name: str
    shape: tuple[int, int, int, int] = (3, 6, 7, 5)  # N, C, T, V
    op: str = "csta"
    groups: int = 1
    hidden: int = 5  # of the frame head; the joint head is one wider
    gate: str = "softmax"
    scale: str | float = "mean"
    residual: bool = False
    masks: str = "none"  # see inputs.MASKS
    layout: str = "contiguous"  # of x; see inputs.LAYOUTS
    upstream: str = "contiguous"  # layout of the gradient of y
    narrow_weights: bool = False  # weights or logits in x's dtype, not in the arithmetic's
    strided_weights: bool = False

    def __str__(self) -> str:
        return self.name


#: (C, T, V) of the models in use: HCN, CTR-GCN, pyskl, 2s-AGCN, EfficientGCN, UCLA.
_MODELS = {
    "hcn": (64, 64, 25),
    "hcn_short": (64, 32, 25),
    "hcn_transposed": (25, 64, 32),
    "ctr_middle": (128, 32, 25),
    "ctr_last": (256, 16, 25),
    "pyskl": (64, 100, 25),
    "pyskl_middle": (128, 50, 25),
    "pyskl_last": (256, 25, 25),
    "agcn": (64, 300, 25),
    "agcn_middle": (128, 150, 25),
    "agcn_last": (256, 75, 25),
    "efficient_stem": (24, 288, 25),
    "efficient": (48, 288, 25),
    "efficient_middle": (64, 144, 25),
    "efficient_last": (128, 72, 25),
    "efficient_b4": (272, 72, 25),
    "ucla": (64, 52, 20),
}
_JOINTS = (1, 2, 3, 4, 6, 7, 8, 9, 15, 16, 17, 18, 20, 24, 25, 26, 31, 32, 33, 40, 64, 65, 70)
_FRAMES = (1, 2, 7, 8, 9, 63, 64, 65, 300)
_CHANNELS = (1, 2, 3, 16, 17, 64, 65)
_EMPTY = {
    "no_sample": (0, 6, 7, 5),
    "no_channel": (2, 0, 7, 5),
    "no_frame": (2, 6, 0, 5),
    "no_joint": (2, 6, 7, 0),
    "nothing_at_all": (0, 0, 0, 0),
}
_MASKS = (
    "lengths", "holes", "joints", "shared_joints", "all", "all_shared", "nothing_real", "full"
)  # fmt: skip
_LAYOUTS = ("channels_last", "offset", "transposed", "sliced", "expanded", "reversed_axes")


def _shape_cases() -> list[Case]:
    models = [
        Case(f"model_{name}", (2, *shape), hidden=max(16, shape[0] // 4))
        for name, shape in _MODELS.items()
    ]
    return [
        *models,
        Case("latency", (1, 64, 64, 25), hidden=16),
        Case("coordinates", (3, 3, 64, 25), hidden=16),
        Case("odd", (3, 5, 7, 17)),
        Case("single", (1, 1, 1, 1), hidden=1),
        Case("one_frame_one_joint", (2, 6, 1, 1)),
        *(Case(f"joints_{joints}", (2, 5, 9, joints)) for joints in _JOINTS),
        *(Case(f"frames_{frames}", (2, 4, frames, 6)) for frames in _FRAMES),
        Case("frames_8000", (1, 2, 8000, 3)),
        *(Case(f"channels_{channels}", (2, channels, 10, 9)) for channels in _CHANNELS),
        *(Case(f"hidden_{hidden}", (2, 7, 6, 5), hidden=hidden) for hidden in (1, 16, 17, 64)),
        *(Case(f"hidden_{hidden}_wide", (2, 10, 6, 5), hidden=hidden) for hidden in (17, 64)),
        *(Case(f"hidden_{hidden}_few", (2, 3, 6, 5), hidden=hidden) for hidden in (17, 64)),
        *(Case(name, shape) for name, shape in _EMPTY.items()),
    ]


def _option_cases() -> list[Case]:
    return [
        Case("two_groups", (2, 6, 9, 17), groups=2),
        Case("group_per_channel", (2, 5, 9, 11), groups=5),
        Case("many_groups", (2, 24, 8, 25), groups=12, gate="sigmoid"),
        Case("sigmoid", (2, 6, 9, 17), gate="sigmoid"),
        Case("sigmoid_sum", (2, 6, 9, 17), gate="sigmoid", scale="sum", residual=True),
        Case("sum", (2, 6, 9, 17), scale="sum"),
        Case("number", (2, 6, 9, 17), scale=0.37, groups=3),
        Case("negative_number", (2, 6, 9, 17), scale=-2.5, residual=True),
        Case("zero_scale", (2, 6, 9, 17), scale=0.0, residual=True),
        Case("residual", (2, 6, 9, 17), residual=True),
        Case("narrow_weights", (2, 6, 9, 17), narrow_weights=True, groups=2),
        Case("strided_weights", (2, 6, 9, 17), strided_weights=True, groups=2),
        *(
            Case(f"upstream_{layout}", (2, 6, 9, 17), upstream=layout)
            for layout in (*_LAYOUTS, "constant")
        ),
        Case(
            "upstream_contiguous_of_channels_last", (2, 6, 9, 17), layout="channels_last"
        ),
        Case("upstream_sliced_of_channels_last", (2, 16, 9, 17), layout="channels_last",
             upstream="sliced"),
    ]  # fmt: skip


def _mask_cases() -> list[Case]:
    cases = []
    for masks in _MASKS:
        plain = Case(f"masks_{masks}", (3, 6, 12, 17), masks=masks)
        cases += [
            plain,
            replace(plain, name=f"{plain.name}_residual_sigmoid_groups", gate="sigmoid",
                    residual=True, groups=3),
            replace(plain, name=f"{plain.name}_residual_number", residual=True, scale=0.37),
            replace(plain, name=f"{plain.name}_channels_last", layout="channels_last",
                    upstream="channels_last", groups=2, shape=(3, 32, 12, 17)),
            replace(plain, name=f"{plain.name}_channels_last_odd", layout="channels_last",
                    upstream="channels_last", groups=2, shape=(3, 10, 36, 17)),
        ]  # fmt: skip
    return [
        *cases,
        Case("masks_long", (3, 16, 300, 25), masks="lengths", hidden=16),
        Case("masks_long_channels_last", (3, 16, 300, 25), masks="all", layout="channels_last"),
        Case("masks_long_channels_last_odd", (3, 6, 300, 25), masks="all", layout="channels_last"),
        Case("masks_single", (1, 1, 1, 1), masks="full"),
        Case("masks_no_frame", (2, 6, 0, 5), masks="all"),
        Case("masks_sliced", (3, 6, 12, 17), masks="all", layout="sliced"),
    ]


def _layout_cases() -> list[Case]:
    last = {"layout": "channels_last", "upstream": "channels_last"}
    return [
        *(Case(f"layout_{layout}", (2, 6, 9, 17), layout=layout) for layout in _LAYOUTS),
        Case("last_hcn", (2, 64, 64, 25), hidden=16, **last),
        Case("last_wide", (2, 256, 16, 25), hidden=64, **last),
        Case("last_three_channels", (2, 3, 64, 25), **last),
        *(Case(f"last_channels_{few}", (2, few, 10, 9), **last) for few in (2, 4, 7, 8)),
        Case("last_odd", (3, 5, 7, 17), **last),
        *(Case(f"last_frames_8000_{some}", (1, some, 8000, 3), **last) for some in (2, 10, 16)),
        Case("last_many_joints", (1, 16, 2, 1000), hidden=4, **last),
        Case("last_few_channels_large", (1, 2, 300, 700), hidden=4, **last),
        Case("last_residual_padding", (3, 6, 12, 17), masks="lengths", residual=True, **last),
        Case("last_65", (2, 65, 4, 18), groups=5, **last),
        Case("last_group_per_channel", (2, 9, 4, 18), groups=9, **last),
        Case("last_sigmoid_groups", (2, 32, 9, 20), groups=4, gate="sigmoid", **last),
        Case("last_one_sample", (1, 40, 33, 25), **last),
    ]


def _of_other_operations(cases: list[Case]) -> list[Case]:
    """The same cases for pool and couple, less those that differ in nothing they can see."""
    derived = []
    for case in cases:
        if case.name.startswith(("hidden_", "model_agcn_", "model_efficient", "model_pyskl_")):
            continue
        derived.append(replace(case, name=f"couple_{case.name}", op="couple"))
        ungated = replace(case, groups=1, gate="softmax", scale="mean", residual=False,
                          narrow_weights=False, strided_weights=False)  # fmt: skip
        if ungated == case:
            derived.append(replace(case, name=f"pool_{case.name}", op="pool"))
    return derived


_CSTA_CASES = [*_shape_cases(), *_option_cases(), *_mask_cases(), *_layout_cases()]

CASES: list[Case] = [*_CSTA_CASES, *_of_other_operations(_CSTA_CASES)]

_FEW = {
    "odd", "coordinates", "two_groups", "masks_all", "masks_nothing_real",
    "masks_all_residual_sigmoid_groups", "masks_lengths_channels_last", "last_odd",
    "layout_transposed", "single", "masks_shared_joints", "no_joint",
    "narrow_weights", "joints_33", "sigmoid", "frames_65", "masks_joints_residual_number",
    "masks_long_channels_last", "joints_7", "last_hcn", "sum", "masks_all_channels_last_odd",
    "last_65", "masks_lengths", "masks_lengths_residual_sigmoid_groups",
    "last_residual_padding", "frames_8000", "hidden_64_few",
}  # fmt: skip

#: One case of each sort, for tests that repeat much work on each.
FEW_CASES: list[Case] = [
    case for case in CASES if case.name.removeprefix("couple_").removeprefix("pool_") in _FEW
]

#: Shapes by the blocks that a cluster has in forward, float32 on an H100; test_cuda_traffic.py
#: holds the plans to it. Those of "16, full" have a multiprocessor each, and of the last shape not
#: even sixteen hold a sample: a part of it is read again.
CLUSTERS = {
    "1": (3, 8, 48, 25),
    "2": (3, 16, 48, 25),
    "4": (3, 32, 48, 25),
    "8": (3, 64, 64, 25),
    "16": (3, 64, 128, 25),
    "16, full": (2, 64, 300, 25),
    "8, streaming": (1, 64, 600, 25),
}


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)
