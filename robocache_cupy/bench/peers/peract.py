"""The voxel grid that robot-learning code copies: the passes of PerAct, ARM and ManiSkill."""

from __future__ import annotations

from typing import Any

from ..case import Call, Case


def voxelize(case: Case) -> Call | None:
    """Mean coordinates, of a grid [B, G, G, G, 7] that also has the place and occupancy of each
    voxel. Points outside fall into a border, which is cut off."""
    import torch

    B, _, G = case.sizes
    W, size = G + 2, 2 / G

    def call(points: Any) -> Any:
        device = points.device
        i = torch.floor((points - (-1.0 - size)) / (size + 1e-12)).int().clamp(0, W - 1).long()
        values = torch.cat([points, torch.ones_like(points[..., :1])], -1)
        C = values.shape[-1]
        cloud = torch.arange(B, device=device)[:, None]
        number = ((cloud * W + i[..., 0]) * W + i[..., 1]) * W + i[..., 2]
        at = (number.reshape(-1, 1) * C + torch.arange(C, device=device)).reshape(-1)
        sums = torch.zeros(B * W**3 * C, device=device).scatter_add_(0, at, values.reshape(-1))
        count = torch.zeros_like(sums).scatter_add_(0, at, torch.ones_like(values.reshape(-1)))
        grid = (sums / count.clamp_(min=1)).view(B, W, W, W, C)[:, 1:-1, 1:-1, 1:-1]
        occupied = (grid[..., -1:] > 0).float()
        axis = torch.arange(G, device=device, dtype=torch.float32)
        place = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1) / G
        whole = torch.cat([grid[..., :-1], place.expand(B, -1, -1, -1, -1), occupied], -1)
        return whole[..., :3]  # what is compared; all of it is made

    return call if case.variant == "mean" else None
