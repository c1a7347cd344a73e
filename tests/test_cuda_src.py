"""What needs no GPU to check: the CUDA sources match their references, and compile."""

import inspect
import io
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

import robocache_cupy
from robocache_cupy._core import kernel as kernels
from robocache_cupy._core.kernel import OPTIONS, Kernel, cuda_src, source

assert robocache_cupy.__all__  # importing it is what fills Kernel.all

ARCHS = (80, 90, 100)  # A100, H100, B100
MODULES = sorted({kernel.module for kernel in Kernel.all})
FILES = sorted(cuda_src().iterdir())
BOUNDS = r"(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?"


class Declared(NamedTuple):
    """A kernel as the CUDA source declares it."""

    templates: list[str]
    types: list[str]  # of the parameters
    names: list[str]
    body: str


def split(text: str) -> list[str]:
    """The parts of a list between its commas, those inside brackets aside.

    >>> split("Pick<X, Y>* a, int (&b)[2]")
    ['Pick<X, Y>* a', 'int (&b)[2]']
    """
    parts, depth = [""], 0
    for c in text:
        depth += (c in "<([") - (c in ">)]")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts if part.strip()]


def declared(module: str) -> dict[str, Declared]:
    """The kernels of a module."""
    text = re.sub(r"//.*|/\*[\s\S]*?\*/", "", source(module))
    found = {}
    for m in re.finditer(
        rf"(?:template\s*<([^{{;]*?)>\s*)?__global__\s+{BOUNDS}void\s+{BOUNDS}(\w+)\s*\(", text
    ):
        depth, end = 1, m.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        parameters = [re.fullmatch(r"([\s\S]*?)(\w+)", p) for p in split(text[m.end() : end - 1])]
        templates = [re.findall(r"\w+", p)[-1] for p in split(m[1] or "")]
        body = text[end:].partition("\n}")[0]
        found[m[2]] = Declared(
            templates, [p[1] for p in parameters], [p[2] for p in parameters], body
        )
    return found


# ------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("kernel", Kernel.all, ids=repr)
def test_parameters_are_those_of_the_reference(kernel):
    templates, _, names, _ = declared(kernel.module)[kernel.name]
    reference = list(inspect.signature(kernel.reference.py_func).parameters)
    assert [*names, "lo", "hi", *templates] == reference


@pytest.mark.parametrize("kernel", Kernel.all, ids=repr)
def test_addresses_come_first_and_numbers_are_wide(kernel):
    """The launcher packs every parameter into 8 bytes, addresses at the front."""
    _, types, names, _ = declared(kernel.module)[kernel.name]
    if kernel.table is not None:  # one struct, whose layout test_core checks
        assert names == ["table"]
        assert "const __grid_constant__" in types[0]  # or each thread would get a copy
        return
    pointers = ["*" in t for t in types]
    assert pointers == sorted(pointers, reverse=True), names
    words = {t.replace("const", "").strip() for t in types if "*" not in t}
    assert words <= {"int64", "double", "W"}


@pytest.mark.parametrize("kernel", Kernel.all, ids=repr)
def test_every_specialisation_fills_the_template(kernel):
    templates = declared(kernel.module)[kernel.name].templates
    assert {len(types) for types in kernel.types} == {len(templates)}
    assert len(set(kernel.types)) == len(kernel.types)
    assert len({kernel.expression(types) for types in kernel.types}) == len(kernel.types)


def test_every_kernel_in_the_sources_has_its_pair():
    written = {
        (path.stem, name) for path in cuda_src().glob("*.cu") for name in declared(path.stem)
    }
    assert written == {(kernel.module, kernel.name) for kernel in Kernel.all}


@pytest.mark.parametrize("kernel", Kernel.all, ids=repr)
def test_every_kernel_first_waits_for_the_stream(kernel):
    body = declared(kernel.module)[kernel.name].body
    assert body.partition("{")[2].strip().startswith("wait_for_stream();")


# ----------------------------------------------------------------------------------------- sources


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_includes_are_quick_to_compile(path):
    included = set(re.findall(r"^\s*#\s*include\s*<(.+?)>", path.read_text(), re.M))
    assert included <= {"cuda_bf16.h", "cuda_fp16.h"}  # above all no cooperative_groups, no cub


@pytest.mark.parametrize("module", MODULES)
def test_line_directives_name_the_line_they_stand_for(module):
    lines = {path.name: path.read_text().splitlines() for path in FILES}
    lines |= {name: text.splitlines() for name, text in kernels.GENERATED.items()}
    seen = {name: set() for name in lines}
    name, number = None, 0
    for line in source(module).splitlines():
        if directive := re.fullmatch(r'#line (\d+) "(.+)"', line):
            number, name = int(directive[1]), directive[2]
            continue
        original = lines[name][number - 1]
        blanked = original.startswith('#include "') or original == "#pragma once"
        assert line == ("" if blanked else original), f"{name}:{number}"
        seen[name].add(number)
        number += 1
    for name, numbers in seen.items():
        if name in kernels.GENERATED:
            assert not numbers or numbers == set(range(1, len(lines[name]) + 1))
        elif numbers:  # every line but the includes that a header stands for
            left_out = set(range(1, len(lines[name]) + 1)) - numbers
            assert all(lines[name][n - 1].startswith('#include "') for n in left_out)


def test_no_header_is_left_to_the_compiler():
    """CuPy's cache does not see what the compiler includes."""
    for module in MODULES:
        assert '#include "' not in source(module)


# ----------------------------------------------------------------------------------- compilation


@pytest.fixture(scope="module")
def nvrtc(require):
    """Compile with CuPy's own compiler and options: (source, expressions, arch) to (names, log)."""
    try:
        from cupy._core import core
        from cupy.cuda import compiler, nvrtc

        nvrtc.getVersion()
    except Exception as e:
        require.skip("nvrtc", f"{type(e).__name__}: {e}")

    def compile(
        text: str, expressions: tuple[str, ...], arch: int, method: str = "cubin"
    ) -> tuple[dict[str, str], str]:
        options = core.assemble_cupy_compiler_options((*OPTIONS, "--ptxas-options=-v"))
        options += ("-ftz=true", f"-arch=sm_{arch}", "--device-as-default-execution-space")
        program = compiler._NVRTCProgram(
            text, "kernel.cu", name_expressions=expressions, method=method
        )
        log = io.StringIO()
        code, names = program.compile(options, log)
        return names, log.getvalue() if method == "cubin" else code.decode()

    return compile


class Resources(NamedTuple):
    """What ptxas says of a function."""

    stack: int
    spill_stores: int
    spill_loads: int
    registers: int
    rest: str  # barriers, shared memory, ...


def resources(log: str) -> dict[str, Resources]:
    """The entry functions in a log of `--ptxas-options=-v`, by mangled name."""
    found = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        name = part.partition("'")[0]
        own = re.search(
            rf"Function properties for {re.escape(name)}\n.*?(\d+) bytes stack frame, "
            r"(\d+) bytes spill stores, (\d+) bytes spill loads",
            part,
        )
        used = re.search(r"Used (\d+) registers(.*)", part)
        found[name] = Resources(*map(int, own.groups()), int(used[1]), used[2])
    return found


CHUNK = 20  # specialisations in a program, so that test processes share the work evenly


def sampled(types, first):
    """Every fifth, and what has an argument that none of those has.

    >>> sampled([(i % 2, i == 3) for i in range(10)], 1)
    [(1, False), (0, False), (1, True)]
    """
    chosen = types[first::5]
    for each in types:
        seen = zip(*chosen, strict=True)
        if any(x not in values for x, values in zip(each, seen, strict=True)):
            chosen.append(each)
    return chosen


def chunks():
    """All specialisations for Hopper. For the others some of the kernels that have most: they take
    a second each, and differ between architectures in few ways."""
    for kernel in Kernel.all:
        for i, arch in enumerate(ARCHS):
            types = [*kernel.types]
            if arch != 90 and len(types) > 60:
                types = sampled(types, i)
            for at in range(0, len(types), CHUNK):
                yield pytest.param(kernel, types[at : at + CHUNK], arch, id=f"{kernel}-{arch}-{at}")


@pytest.mark.parametrize(("kernel", "types", "arch"), [*chunks()])
def test_every_specialisation_compiles_without_warnings_or_spills(nvrtc, kernel, types, arch):
    expressions = tuple(map(kernel.expression, types))
    names, log = nvrtc(source(kernel.module), expressions, arch)
    complaints = [line for line in log.splitlines() if re.search("warning|error", line, re.I)]
    assert not complaints
    found = resources(log)
    assert set(names) == set(expressions)
    assert set(found) >= set(names.values())  # and kernels that are no templates
    wasteful = {
        expression: found[name]
        for expression, name in names.items()
        if any((found[name].stack, found[name].spill_stores, found[name].spill_loads))
    }
    assert not wasteful


@pytest.mark.parametrize("kernel", Kernel.all, ids=repr)
def test_nothing_is_read_before_the_wait(nvrtc, kernel):
    """A compiler that takes memory for constant might; parameters are no memory."""
    access = r"\b(ld|st|atom|red)\.(?!param|shared|local)"
    expressions = tuple({kernel.expression(types) for types in (kernel.types[0], kernel.types[-1])})
    _, code = nvrtc(source(kernel.module), expressions, 90, "ptx")
    for entry in code.split(".entry")[1:]:
        before, wait, after = entry.partition("griddepcontrol.wait")
        assert wait
        assert not re.search(access, before)
        assert re.search(access, after)


STACK = """
    float z[64];
    for (int i = 0; i < 64; ++i) z[i] = y[i];
    for (int i = 0; i < 64; ++i) z[(int)y[i]] += z[i];
    x[0] = z[(int)y[7]];
"""


@pytest.mark.parametrize(("code", "stack"), [("x[0] = y[0];", False), (STACK, True)])
def test_the_log_is_read_right(nvrtc, code, stack):
    text = f"template <typename T> __global__ void k(float* x, const T* y) {{ {code} }}"
    names, log = nvrtc(text, ("k<float>",), ARCHS[0])
    (found,) = resources(log).values()
    assert set(resources(log)) == set(names.values())
    assert (found.stack > 0) == stack
    assert found.registers > 0


def test_a_warning_is_seen(nvrtc):
    _, log = nvrtc("__global__ void k() { int unused; }", ("k",), ARCHS[0])
    assert re.search("warning", log)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("where", ["header", "module"])
def test_an_error_is_reported_where_it_stands(nvrtc, tmp_path, monkeypatch, module, where):
    from cupy.cuda.compiler import CompileException

    shutil.copytree(cuda_src(), tmp_path, dirs_exist_ok=True)
    broken = tmp_path / (f"{module}.cu" if where == "module" else "common.cuh")
    lines = broken.read_text().splitlines()
    lines.append("int broken = nowhere_declared;")
    broken.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(kernels, "cuda_src", lambda: tmp_path)
    text = source.__wrapped__(module)
    with pytest.raises(CompileException) as e:
        nvrtc(text, (), ARCHS[0])
    first = re.search(r"^(.+)\((\d+)\): (?:catastrophic )?error", str(e.value), re.M)
    assert (Path(first[1]).name, int(first[2])) == (broken.name, len(lines))
