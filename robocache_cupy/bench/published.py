"""The published cases, and how a command names them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import on_space, on_time
from .case import LONG, Case, Kind

KINDS: dict[str, Kind] = on_time.KINDS | on_space.KINDS
CLOCKS = ("int64", "float32")  # ns, the flagship, and seconds
CLOUDS = ((4, 100_000, 128), (1, 1_000_000, 256), (64, 20_000, 100))  # clouds, points, voxels

_RESAMPLE = (
    ((32, 500, 256, 256), "bfloat16"),
    ((4096, 100, 32, 16), "float32"),
    ((64, 4096, 1024, 32), "float32"),
    ((32, 50, 256, 128), "bfloat16"),
    ((8, 250, 250, 128), "bfloat16"),
    ((64, 1000, 512, 512), "bfloat16"),
    ((256, 1000, 1000, 512), "float32"),
    ((256, 1000, 1000, 512), "bfloat16"),
    ((64, 500, 250, 14), "float32"),
    ((1024, 2000, 1000, 64), "float32"),
)
_TWICE = (0, 1, 2, 9)  # also with a float32 clock


def _cases() -> list[Case]:
    cases = [
        Case("resample", sizes, dtype, clock, quick=number < 3 and clock == "int64")
        for number, (sizes, dtype) in enumerate(_RESAMPLE)
        for clock in (CLOCKS if number in _TWICE else CLOCKS[:1])
    ]
    cases += [
        Case("fuse", (32, 256), "bfloat16", "int64", quick=True),
        Case("fuse", (32, 256), "bfloat16", "float32"),
        Case("fuse", (32, 50), "bfloat16", "int64"),
        Case("fuse", (32, 256), "float32", "int64"),
        Case("windows-index", (10_000_000, 4096, 16), "float32", quick=True),
        Case("windows-time", (10_000_000, 4096, 16), "float32", "int64", quick=True),
        Case("poses-pos_quat", (2048, 1000, 1000), "float32", "int64", quick=True),
        Case("poses-quat", (2048, 1000, 1000), "float32", "float32"),
        Case("poses-slerp", (4_000_000,), "float32"),
        Case("normalize", (1024, 1000, 64), "float32", quick=True),
        Case("normalize", (64, 50, 14), "float32"),
        Case("normalize-image", (64, 3, 480, 640), "uint8"),
        Case("asof", (64, 4096, 1024), "int32", "int64", quick=True),
        Case("asof", (1, 1_000_000, 1_000_000), "int32", "int64"),
        Case("interp", (1, 1000, 10_000_000), "float32", quick=True),
        Case("interp", (4096, 1000, 1000), "float32"),
    ]
    cases += [
        Case(f"curves-{name}", (512, 2000, 1000, 64), "float32", "int64", quick=name == "mean")
        for name in ("catmull_rom", "pchip", "akima", "mean", "max")
    ]
    for name in on_space.OPTIONS:
        for number, sizes in enumerate(CLOUDS):
            for scene in on_space.SCENES:
                # Surfaces, whose points share voxels, in all sizes for the default alone.
                if scene == "uniform" or name == "uint8" or (number == 2 and name != "mean"):
                    quick = number == 2 and scene == "uniform" and name in ("uint8", "mean")
                    cases.append(Case(f"voxelize-{name}", sizes, "float32", scene, quick))
    return [
        *cases,
        Case("voxel_indices", (64, 20_000, 100), "float32", "uniform", quick=True),
        Case("depth_to_points", (16, 4, 480, 640), "uint16", quick=True),
        Case("depth_to_voxels-uint8", (16, 4, 480, 640, 128), "uint16", quick=True),
        Case("depth_to_voxels-bits", (16, 4, 480, 640, 128), "uint16"),
        Case("farthest_point_sample", (64, 20_000, 1024), "float32", "surface", quick=True),
        Case("farthest_point_sample", (1, 100_000, 1024), "float32", "surface"),
        Case("crop_and_sample", (64, 20_000, 1024), "float32", "surface", quick=True),
        Case("voxelize_sparse", (4, 100_000, 128), "float32", "surface", quick=True),
        Case("voxelize_sparse", (64, 20_000, 100), "float32", "uniform"),
        Case("voxel_downsample", (4, 100_000, 128), "float32", "surface", quick=True),
    ]


PUBLISHED = tuple(_cases())
OPS = tuple(dict.fromkeys(case.op for case in PUBLISHED))

_NAME = re.compile(rf"(.+?)-(\d+(?:x\d+)*)-({'|'.join(LONG)})(?:-(\w+))?")


def select(names: Sequence[str], quick: bool = False) -> list[Case]:
    """The cases that are meant by ops, by beginnings of names, or by whole names, whose sizes may
    be any; without a name all published ones.

    >>> [case.name for case in select(["resample-8x250", "fuse-2x9-f32-int64"])]
    ['resample-8x250x250x128-bf16-int64', 'fuse-2x9-f32-int64']
    """
    chosen: dict[Case, None] = {}
    for name in names or OPS:
        found = [case for case in PUBLISHED if case.op == name and (case.quick or not quick)]
        found = found or [case for case in PUBLISHED if name and case.name.startswith(name)]
        found = found or _other_sizes(name)
        if not found:
            raise ValueError(
                f"no op or case {name!r}: expected some of {', '.join(OPS)}; or how the name of a "
                f"case begins; or such a name with other sizes, as in {PUBLISHED[0].name}"
            )
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _other_sizes(name: str) -> list[Case]:
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in KINDS:
        return []
    kind, sizes = KINDS[match[1]], tuple(map(int, match[2].split("x")))
    case = Case(match[1], sizes, LONG[match[3]], match[4] or "")
    tags = {x.tag for x in PUBLISHED if x.kind == case.kind}
    if tags & {"float32", "int64"} and case.kind != "asof":
        tags |= {"float32", "float64", "int64"}
    if tags & {*on_space.SCENES}:
        tags |= {*on_space.SCENES}
    right = len(sizes) == len(kind.axes) and min(sizes) > 0
    return [case] if right and case.dtype in kind.dtypes and case.tag in tags else []
