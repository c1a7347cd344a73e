"""Point clouds in files, written from the formats' descriptions and not with the readers' code."""

import struct

import numpy as np

PCD_TYPES = {"i": "I", "u": "U", "f": "F"}
PLY_TYPES = {
    "i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint",
    "f4": "float", "f8": "double",
}  # fmt: skip
PLY_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}


def number(value):
    """Decimal text that is read as the same number, of either float type."""
    return repr(value.item())


def lzf_compress(data):
    """Greedy LZF. The longest copies need a third byte, and overlapping ones repeat."""
    out, plain, seen, at = bytearray(), bytearray(), {}, 0

    def flush():
        for i in range(0, len(plain), 32):
            part = plain[i : i + 32]
            out.append(len(part) - 1)
            out.extend(part)
        plain.clear()

    while at < len(data):
        key = data[at : at + 3]
        start = seen.get(key, -1)
        seen[key] = at
        if len(key) < 3 or start < 0 or at - start > 1 << 13:
            plain.append(data[at])
            at += 1
            continue
        flush()
        length = 3
        while (
            length < 264 and at + length < len(data) and data[start + length] == data[at + length]
        ):
            length += 1
        distance, code = at - start - 1, length - 2
        out.append(min(code, 7) << 5 | distance >> 8)
        if code >= 7:
            out.append(code - 7)
        out.append(distance & 255)
        at += length
    flush()
    return bytes(out)


def pcd(fields, data, packed=None, height=1, newline=b"\n", drop=(), **said):
    """`fields` has a pair (name, array of shape (N,) or (N, count)) each; `said` is what the header
    says in the place of the truth, `drop` what it leaves out, `packed` the data to write as LZF."""
    arrays = [values.astype(values.dtype.newbyteorder("<")) for _, values in fields]
    points = len(arrays[0])
    header = {
        "VERSION": "0.7",
        "FIELDS": " ".join(name for name, _ in fields),
        "SIZE": " ".join(str(values.dtype.itemsize) for values in arrays),
        "TYPE": " ".join(PCD_TYPES[values.dtype.kind] for values in arrays),
        "COUNT": " ".join(str(values[0].size if points else 1) for values in arrays),
        "WIDTH": points // height,
        "HEIGHT": height,
        "VIEWPOINT": "1 2 3 0 1 0 0",
        "POINTS": points,
        "DATA": data,
    } | said
    lines = ["# .PCD v0.7 - Point Cloud Data file format"]
    lines += [f"{word} {value}" for word, value in header.items() if word not in drop]
    head = b"".join(line.encode() + newline for line in lines)
    if data == "ascii":
        rows = ([number(v) for a in arrays for v in np.atleast_1d(a[i])] for i in range(points))
        return head + b"".join(" ".join(row).encode() + newline for row in rows)
    if data == "binary":
        return head + b"".join(a[i : i + 1].tobytes() for i in range(points) for a in arrays)
    plain = b"".join(a.tobytes() for a in arrays)
    packed = lzf_compress(plain) if packed is None else packed
    return head + struct.pack("<II", len(packed), len(plain)) + packed


def ply_element(name, columns, form):
    """Header and rows of an element. A column is an array, or a list of arrays for a list."""
    rows = len(columns[0][1])
    head = [f"element {name} {rows}"]
    for label, values in columns:
        first = values[0] if isinstance(values, list) else values
        kind = PLY_TYPES[first.dtype.str[1:]]
        head.append(f"property {'list uchar ' * isinstance(values, list)}{kind} {label}")
    body = b""
    for i in range(rows):
        cells = []
        for _, values in columns:
            if isinstance(values, list):
                cells.append(np.uint8(len(values[i])))
            cells.extend(np.atleast_1d(values[i]))
        if form == "ascii":
            body += " ".join(map(number, cells)).encode() + b"\n"
        else:
            order = PLY_ORDERS[form]
            body += b"".join(np.array(c, c.dtype.newbyteorder(order)).tobytes() for c in cells)
    return head, body


def ply(elements, form):
    """`elements` has a pair (name, columns) each; see `ply_element`."""
    made = [ply_element(name, columns, form) for name, columns in elements]
    head = ["ply", f"format {form} 1.0", "comment made for a test", "obj_info nothing"]
    head += [line for lines, _ in made for line in lines]
    return "\n".join([*head, "end_header", ""]).encode() + b"".join(body for _, body in made)
