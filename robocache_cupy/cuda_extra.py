"""Which extra of this package suits the NVIDIA driver: ``cuda13``, ``cuda12`` or none.

`make demo` runs this file by its path before anything is installed, so it must do with the
standard library and import nothing of this package.
"""

import ctypes
import importlib.util
import sys

_LIBRARY = "libcuda.so.1"
_OLDEST = 12000  # 1000 * major + 10 * minor


def cuda_extra(library: str = _LIBRARY) -> tuple[str, str]:
    """The extra, or nothing, and what there is to say about it.

    Parameters
    ----------
    library : str
        The driver's library, for the dynamic linker to find.

    Returns
    -------
    tuple of str
        "cuda13", "cuda12" or "", and a sentence or "".
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return "", ""  # no driver, and most likely no GPU
    try:
        started, count, version = driver.cuInit(0), ctypes.c_int(0), ctypes.c_int(0)
        if started == 0:
            started = driver.cuDeviceGetCount(ctypes.byref(count))
        asked = driver.cuDriverGetVersion(ctypes.byref(version))
    except AttributeError:
        return "", f"{library} is no NVIDIA driver: staying on the CPU"
    if started != 0 or asked != 0 or not count.value:
        return "", "there is an NVIDIA driver but no GPU it can use: staying on the CPU"
    if version.value < _OLDEST:
        major, minor = divmod(version.value // 10, 100)
        return "", (
            f"the NVIDIA driver is for CUDA {major}.{minor} and CuPy needs 12 or newer: "
            "staying on the CPU until the driver is updated"
        )
    return ("cuda13" if version.value >= 13000 else "cuda12"), ""


if __name__ == "__main__":
    if importlib.util.find_spec("cupy") is None:  # a second CuPy would break the first
        extra, said = cuda_extra(*sys.argv[1:])
        if said:
            print(said, file=sys.stderr)
        print(extra)
