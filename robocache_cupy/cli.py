"""The command ``robocache``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import logs
from . import voxelize as voxelizing
from ._streams import METHODS
from .align import CommandError, Options, align
from .bench import command as benching
from .logs import LogError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the name of the program; those of the process by default.

    Returns
    -------
    int
        0, or 2 after an error (which is one line on stderr), or 130 after Ctrl-C. ``doctor`` gives
        1 for "degraded" and 2 for "critical".
    """
    given = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args([_value(text) for text in given])
    try:
        code: int | None = arguments.run(arguments)
    except (CommandError, LogError) as error:
        print(f"robocache: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print(f"robocache: not enough memory: {arguments.less}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("robocache: interrupted", file=sys.stderr)
        return 130
    return code or 0


def _value(text: str) -> str:
    """argparse takes numbers such as -1e-3 for options, but nothing that begins with a space."""
    try:
        float(text)
    except ValueError:
        return text
    return f" {text}" if text.startswith("-") else text


def _align(arguments: argparse.Namespace) -> None:
    align(
        Options(
            paths=arguments.log or [logs.DEMO],
            output=arguments.output,
            hz=arguments.hz,
            clock=arguments.clock,
            union=arguments.union,
            streams=_names(arguments.streams),
            skip=arguments.skip,
            methods=arguments.method,
            latencies=arguments.latency,
            max_gap=arguments.max_gap,
            plot=arguments.plot,
            log_time=arguments.log_time,
            episode=arguments.episode,
            backend=arguments.backend,
        )
    )


def _voxelize(arguments: argparse.Namespace) -> None:
    voxelizing.voxelize(
        voxelizing.Options(
            path=arguments.source or logs.DEMO,
            output=arguments.output,
            voxel=arguments.voxel,
            bounds=arguments.bounds,
            choice=voxelizing.Choice(
                at=arguments.at,
                every=arguments.all,
                streams=_names(arguments.streams),
                episode=arguments.episode,
                depth_max=arguments.depth_max,
                columns=_names(arguments.columns),
            ),
            plot=arguments.plot,
            backend=arguments.backend,
        )
    )


def _doctor(arguments: argparse.Namespace) -> int:
    from .health import doctor

    return doctor(arguments.self_test)


def _names(options: Sequence[str]) -> list[str]:
    return [name for names in options for name in names.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="robocache", description="Robot logs onto one clock, and into voxels."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_align(commands)
    _add_voxelize(commands)
    _add_doctor(commands)
    _add_bench(commands)
    return parser


def _add_align(commands: Any) -> None:
    command = commands.add_parser(
        "align",
        help="put all the streams of a log on one clock",
        description="Put all the numeric streams of a log, or of several, on one clock, from the "
        "latest first stamp to the earliest last one: linear for floats, slerp for rotations, "
        "nearest for integers and images. The result has the array 'times' (int64 ns) and, for "
        "each stream, NAME and NAME/valid.",
    )
    command.add_argument(
        "log",
        nargs="*",
        type=Path,
        help="HDF5 (also of robosuite and robomimic), ROS 1 bag, ROS 2 bag (file or directory), "
        "CSV, TUM or EuRoC text; default: the log of a robot arm that comes with the package",
    )
    clock = command.add_argument_group("clock")
    clock.add_argument("--hz", type=float, help="rate of the clock; default: 30")
    clock.add_argument("--clock", metavar="STREAM", help="the stamps of this stream are the clock")
    clock.add_argument(
        "--union",
        action="store_true",
        help="from the earliest first stamp to the latest last one; rows are not valid where a "
        "stream has nothing",
    )
    clock.add_argument(
        "--log-time",
        action="store_true",
        help="go by the time at which a ROS message was recorded, not by that in its header",
    )
    choice = command.add_argument_group("streams")
    choice.add_argument(
        "--streams",
        action="append",
        default=[],
        metavar="NAME,...",
        help="only these; patterns such as 'arm*' are welcome",
    )
    choice.add_argument(
        "--skip", action="append", default=[], metavar="NAME", help="leave this stream out"
    )
    choice.add_argument("--episode", metavar="NAME", help="of a robosuite or robomimic file")
    choice.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="NAME=METHOD",
        help=f"how this stream is aligned: {', '.join(METHODS)}. The last five are of all samples "
        "nearest to a row; integers become float64 where the method makes other numbers of them; "
        "rotations are interpolated by slerp",
    )
    choice.add_argument(
        "--latency",
        action="append",
        default=[],
        metavar="NAME=SECONDS",
        help="how late the stamps of this stream are; default: what the log says of it, or 0",
    )
    choice.add_argument(
        "--max-gap",
        type=float,
        metavar="SECONDS",
        help="rows between two samples further apart than this are not valid",
    )
    _add_results(command, Path("aligned.npz"), "draw samples and result")
    command.set_defaults(run=_align, less="lower --hz, or --skip a stream")


def _add_voxelize(commands: Any) -> None:
    command = commands.add_parser(
        "voxelize",
        help="turn a point cloud, or the depth cameras of a log, into a grid of voxels",
        description="Turn a point cloud, or frames of the depth cameras of a log, into a grid of "
        "voxels. The result has 'counts' (int32 [X, Y, Z]: points in each voxel); of the M voxels "
        "with any, 'coords' (int32 [M, 3]) and 'centroids' ([M, 3]: the means of their points); "
        "'voxel_size', 'origin' (the corner of voxel (0, 0, 0)) and 'source'.",
    )
    command.add_argument(
        "source",
        nargs="?",
        type=Path,
        metavar="LOG_OR_CLOUD",
        help="an HDF5 log with depth cameras; or a cloud: PCD, PLY, .bin of KITTI or nuScenes, "
        ".npy, .npz, .csv, .txt or .xyz; default: the log that comes with the package",
    )
    grid = command.add_argument_group("grid")
    grid.add_argument(
        "--voxel",
        default="0.05",
        metavar="METERS",
        help="edge of a voxel, or three with commas: 0.05,0.05,0.1; default: 0.05",
    )
    grid.add_argument(
        "--bounds",
        nargs=6,
        type=float,
        metavar=("XMIN", "YMIN", "ZMIN", "XMAX", "YMAX", "ZMAX"),
        help="the box of the grid, in meters; default: all valid points, outward to whole voxels",
    )
    cameras = command.add_argument_group("depth cameras of a log")
    cameras.add_argument(
        "--at",
        type=float,
        metavar="SECONDS",
        help="of each camera the frame nearest to this, from the first frame on and with the "
        "latency taken off; default: the middle of the time that the cameras have in common",
    )
    cameras.add_argument("--all", action="store_true", help="every frame of each camera")
    cameras.add_argument(
        "--streams", action="append", default=[], metavar="NAME,...", help="only these cameras"
    )
    cameras.add_argument(
        "--depth-max", type=float, metavar="METERS", help="leave out what is further"
    )
    cameras.add_argument("--episode", metavar="NAME", help="of a robomimic file")
    clouds = command.add_argument_group("point clouds")
    clouds.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="NAME,...",
        help="of a .bin or text that does not name them: x,y,z,intensity,_ where _ is left out",
    )
    _add_results(command, Path("voxels.npz"), "draw the occupied voxels")
    command.set_defaults(run=_voxelize, less="pass --bounds, or a larger --voxel")


def _add_doctor(commands: Any) -> None:
    command = commands.add_parser(
        "doctor",
        help="tell what is installed, what works, and what to do about what does not",
        description="Print versions, GPUs, driver, CUDA headers and the folders of compiled "
        "kernels, and run a few small ops. The exit code is 0 for healthy, 1 for degraded and 2 "
        "for critical. The first run ever compiles, which takes about ten seconds.",
    )
    command.add_argument(
        "--self-test",
        action="store_true",
        help="run a small call of every op on every backend; the first one ever takes minutes",
    )
    command.set_defaults(run=_doctor, less="close other programs")


def _add_bench(commands: Any) -> None:
    command = commands.add_parser(
        "bench",
        help="time the ops beside their floor and beside what else there is",
        description="Check the results of the ops, then time them in one run beside the bytes that "
        "must move and beside PyTorch, torch.compile, Triton, JAX, CuPy, NumPy, SciPy and pandas, "
        "as far as they are installed. Exit code 1 where a result was wrong, or --against says so.",
    )
    benching.add_options(command)
    command.set_defaults(run=benching.bench, less="name fewer cases")


def _add_results(command: argparse.ArgumentParser, output: Path, drawing: str) -> None:
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=output,
        metavar="FILE",
        help=f"default: {output}; an older one is replaced",
    )
    command.add_argument(
        "--plot", type=Path, metavar="FILE", help=f"{drawing} to a .png, .pdf or .svg"
    )
    command.add_argument(
        "--backend",
        choices=["auto", "cuda", "numba"],
        default="auto",
        help="what computes; default: the GPU where there are one and CuPy",
    )
