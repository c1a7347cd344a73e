"""The command ``robocache``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import logs
from ._streams import METHODS
from .align import CommandError, Options, align
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
        0, or 2 after an error (which is one line on stderr), or 130 after Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    try:
        align(
            Options(
                paths=arguments.log or [logs.DEMO],
                output=arguments.output,
                hz=arguments.hz,
                clock=arguments.clock,
                union=arguments.union,
                streams=[name for names in arguments.streams for name in names.split(",")],
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
    except (CommandError, LogError) as error:
        print(f"robocache: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("robocache: not enough memory: lower --hz, or --skip a stream", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("robocache: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="robocache", description="Robot logs onto one clock.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
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
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("aligned.npz"),
        metavar="FILE",
        help="default: aligned.npz; an older one is replaced",
    )
    command.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw samples and result to a .png, .pdf or .svg"
    )
    command.add_argument(
        "--backend",
        choices=["auto", "cuda", "numba"],
        default="auto",
        help="what computes; default: the GPU where there are one and CuPy",
    )
    return parser
