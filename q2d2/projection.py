"""Starting a bounded low-dimensional projection from the latents of a trained backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def fit_projections(project_in: nn.Linear, project_out: nn.Linear, latents: Tensor) -> None:
    """Set both projections so that project_out(tanh(project_in(x))) is close to x.

    project_in takes the principal components with unit variance, where tanh fills its range about evenly;
    project_out is the least-squares map back. A random start would leave tanh saturated on latents of a trained
    backbone, whose scale is arbitrary, and most of its information lost.

    Args:
        project_in: dim -> d channels, d <= dim.
        project_out: d -> dim channels.
        latents: (batch, dim, frames), at least dim frames in all.

    Raises:
        ValueError: fewer frames than channels, or d > dim.
    """
    frames = latents.transpose(1, 2).flatten(0, 1).double()
    num_frames, dim = frames.shape
    num_kept = project_in.out_features
    if num_kept > dim or num_frames < dim:
        raise ValueError(f"cannot fit a projection of {dim} to {num_kept} channels to {num_frames} frames of latents")
    mean = frames.mean(dim=0)
    _, deviations, directions = torch.linalg.svd((frames - mean) / num_frames**0.5, full_matrices=False)
    weight = directions[:num_kept] / deviations[:num_kept, None].clamp(min=1e-6)
    bounded = torch.tanh((frames - mean) @ weight.T)
    back = torch.linalg.lstsq(torch.cat([bounded, bounded.new_ones(num_frames, 1)], dim=1), frames).solution
    project_in.weight.copy_(weight)
    project_in.bias.copy_(-weight @ mean)
    project_out.weight.copy_(back[:-1].T)
    project_out.bias.copy_(back[-1])
