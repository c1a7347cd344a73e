"""What a user of JAX writes in place of the ops on space, for `jax.jit`."""

from __future__ import annotations

from typing import Any

from ..case import Call, Case
from ..on_space import camera


def voxels(points: Any, G: int) -> tuple[Any, Any]:
    import jax.numpy as jnp

    q = (points + 1.0) / (2 / G)
    inside = ((q >= 0) & (q < G)).all(-1)
    return jnp.where(inside[..., None], q, 0).astype(jnp.int32), inside


def numbers(points: Any, G: int) -> Any:
    """The number of each point's voxel, or one that is beyond the grid, [B * N]."""
    import jax.numpy as jnp

    B = points.shape[0]
    i, inside = voxels(points, G)
    number = ((jnp.arange(B)[:, None] * G + i[..., 0]) * G + i[..., 1]) * G + i[..., 2]
    return jnp.where(inside, number, B * G**3).reshape(-1)


def binary(points: Any, G: int) -> Any:
    import jax.numpy as jnp

    grid = jnp.zeros(points.shape[0] * G**3, jnp.uint8)
    return grid.at[numbers(points, G)].set(1, mode="drop").reshape(-1, G, G, G)


def voxelize(case: Case) -> Call | None:
    import jax
    import jax.numpy as jnp

    B, _, G = case.sizes
    cells = B * G**3

    def count(points: Any) -> Any:
        grid = jnp.zeros(cells, jnp.int32)
        return grid.at[numbers(points, G)].add(1, mode="drop").reshape(B, G, G, G)

    def mean(points: Any) -> Any:
        at = numbers(points, G)
        sums = jax.ops.segment_sum(points.reshape(-1, 3), at, cells)
        number = jax.ops.segment_sum(jnp.ones(at.shape, jnp.float32), at, cells)
        return (sums / jnp.maximum(number, 1)[:, None]).reshape(B, G, G, G, 3)

    calls: dict[str, Call] = {"uint8": lambda points: binary(points, G), "count": count}
    return (calls | {"mean": mean}).get(case.variant)


def voxel_indices(case: Case) -> Call:
    import jax.numpy as jnp

    def call(points: Any) -> Any:
        i, inside = voxels(points, case.sizes[2])
        return jnp.where(inside[..., None], i, -1)

    return call


def unprojected(case: Case, depth: Any, poses: Any) -> Any:
    import jax.numpy as jnp

    fx, fy, cx, cy = camera(case)
    H, W = depth.shape[-2:]
    z = depth.astype(jnp.float32) * jnp.float32(0.001)
    z = jnp.where(z > 0, z, jnp.nan)
    x = z * ((jnp.arange(W, dtype=jnp.float32) - cx) / fx)
    y = z * ((jnp.arange(H, dtype=jnp.float32)[:, None] - cy) / fy)
    at = poses[:, :, None, None]
    rows = [at[..., i, 0] * x + at[..., i, 1] * y + at[..., i, 2] * z for i in range(3)]
    return jnp.stack([row + at[..., i, 3] for i, row in enumerate(rows)], -1)


def depth_to_points(case: Case) -> Call:
    B, V, H, W = case.sizes
    return lambda depth, poses: unprojected(case, depth, poses).reshape(B, V, H * W, 3)


def depth_to_voxels(case: Case) -> Call | None:
    B, G = case.sizes[0], case.sizes[4]

    def call(depth: Any, poses: Any) -> Any:
        return binary(unprojected(case, depth, poses).reshape(B, -1, 3), G)

    return call if case.variant == "uint8" else None


def farthest_point_sample(case: Case) -> Call | None:
    import jax
    import jax.numpy as jnp

    N, K = case.sizes[1:]

    def one(points: Any) -> Any:
        x, y, z = points.T

        def round_(k: Any, state: Any) -> Any:
            chosen, distance, at = state
            dx, dy, dz = x - x[at], y - y[at], z - z[at]
            distance = jnp.minimum(distance, dx * dx + dy * dy + dz * dz).at[at].set(-1)
            return chosen.at[k].set(at), distance, jnp.argmax(distance)

        start = jnp.zeros(K, jnp.int64), jnp.full(N, jnp.inf, jnp.float32), jnp.int64(0)
        return jax.lax.fori_loop(0, K, round_, start)[0]

    return jax.vmap(one) if K <= N else None


def voxelize_sparse(case: Case) -> Call:
    import jax.numpy as jnp

    B, N, G = case.sizes

    def call(points: Any) -> Any:
        found, row, counts = jnp.unique(
            numbers(points, G), return_inverse=True, return_counts=True, size=B * N,
            fill_value=B * G**3,
        )  # fmt: skip
        at = jnp.stack([found // G**3, found // G**2 % G, found // G % G, found % G], -1)
        return at.astype(jnp.int32), counts.astype(jnp.int32), row.reshape(B, N).astype(jnp.int32)

    return call
