"""The codebook of VQ and RVQ, over vector-quantize-pytorch.

The library's `Codebook` does the k-means, the nearest code and the moving averages. `EmaCodebook` adds what a benchmark
needs and the library does not do: it follows the process group of the moment instead of the one at construction, never
changes in eval mode, replaces dead codes by a rule free of the batch size, and does not wait for the GPU.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from vector_quantize_pytorch.vector_quantize_pytorch import (
    Codebook,
    batched_sample_vectors,
    kmeans,
    noop,
    sample_vectors_distributed,
)

from q2d2.limits import MAX_CODEBOOK_VALUES, require_integer, require_number, require_size

MAX_CODES, MAX_ITERATIONS = 2**24, 10_000
TINY = 1e-12  # next to an end that is not included


def is_distributed() -> bool:
    """Whether this process is one of several of a process group that exists now."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class EmaCodebook(Codebook):
    """One codebook learned by exponential moving averages, k-means initialized on the first training batch.

    The library counts usage (`cluster_size`) in vectors per batch per code, over all ranks: at uniform usage a code's
    count is (vectors of the batch) / codebook_size. A code is dead when its average count falls below
    `dead_code_fraction` of that. It moves onto a random vector of the batch and gets the count of uniform usage: with
    the library's choice, the threshold itself, it would be dead again after the first batch that does not choose it.
    A vector replaces one code at most; codes left over wait for the next batch.

    Under DDP counts and sums are added over the ranks, and each rank offers vectors for its share of the dead codes:
    codebooks stay equal to the bit although every rank has its own data and random state.

    Args:
        dim: channels of a code.
        codebook_size: number of codes, any integer >= 2.
        decay: of the moving averages, in (0, 1).
        kmeans_iters: iterations of the initial k-means, >= 1.
        dead_code_fraction: fraction of uniform usage below which a code is dead, in [0, 1); 0 replaces none.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(
        self, dim: int, codebook_size: int, decay: float, kmeans_iters: int, dead_code_fraction: float
    ) -> None:
        require_integer("codebook_size", codebook_size, 2, MAX_CODES)
        require_size("codes times channels of a codebook", [codebook_size, dim], MAX_CODEBOOK_VALUES)
        require_number("decay", decay, TINY, 1 - TINY, "a number in (0, 1)")
        require_integer("kmeans_iters", kmeans_iters, 1, MAX_ITERATIONS)
        require_number("dead_code_fraction", dead_code_fraction, 0, 1 - TINY, "a number in [0, 1)")
        super().__init__(
            dim=dim,
            codebook_size=codebook_size,
            num_codebooks=1,
            kmeans_init=True,
            kmeans_iters=kmeans_iters,
            sync_kmeans=True,
            decay=decay,
            eps=1e-5,
            threshold_ema_dead_code=0,  # the library's own rule is off: see expire_codes_
            use_ddp=False,  # decided anew at each training step: see quantize
            learnable_codebook=False,
            sample_codebook_temp=1.0,
            ema_update=True,
            affine_param=False,
            use_cosine_sim=False,
        )
        self.has_dead_code_replacement = dead_code_fraction > 0
        self.dead_code_fraction = dead_code_fraction
        self._known_ready = False
        self.register_load_state_dict_post_hook(_forget_ready)

    def is_ready(self) -> bool:
        """Whether k-means has run or a trained state was loaded."""
        # `initted` lives on the device: it is read until it is true once, not in every step.
        if not self._known_ready:
            self._known_ready = bool(self.initted)
        return self._known_ready

    def quantize(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (batch, frames, dim) -> their codes' vectors (likewise, no gradient) and codes (batch, frames) int64.

        Learns from the vectors in training mode; has no side effect in eval mode.

        Raises:
            RuntimeError: eval mode, and the codebook was neither trained nor loaded.
        """
        if not self.training:
            codes = self.nearest(vectors)
            return self.lookup(codes), codes
        self.use_ddp = is_distributed()
        self.sample_fn = sample_vectors_distributed if self.use_ddp else batched_sample_vectors
        self.all_reduce_fn = dist.all_reduce if self.use_ddp else noop
        with torch.no_grad():
            chosen, codes, _ = self(vectors)
        return chosen, codes

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Vectors (batch, frames, dim) -> codes (batch, frames) int64, the lowest one on ties.

        Raises:
            RuntimeError: the codebook was neither trained nor loaded.
        """
        self._require_ready()
        table = self.embed[0]
        half_norms = table.square().sum(dim=-1) / 2
        # |x|^2 is the same for every code; a few thousand rows at a time keep the distances of a long clip small.
        rows = vectors.reshape(-1, vectors.shape[-1]).split(4096)
        codes = [torch.addmm(half_norms, chunk, table.T, alpha=-1).argmin(dim=-1) for chunk in rows]
        return torch.cat(codes).view(vectors.shape[:-1])

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...) int64 in [0, codebook_size) -> vectors (..., dim).

        Raises:
            RuntimeError: the codebook was neither trained nor loaded.
            IndexError: a code is out of range (on the CPU; a GPU aborts the process's CUDA context).
        """
        self._require_ready()
        return functional.embedding(codes, self.embed[0])

    def _require_ready(self) -> None:
        if not self.is_ready():
            raise RuntimeError(
                "codebook not initialized: run a training step (the first runs k-means) or load a trained state"
            )

    def init_embed_(self, data: Tensor, mask: Tensor | None = None) -> None:
        """K-means on `data` (1, vectors, dim) unless initialized; the library's own reads the GPU in each step.

        With fewer vectors than codes, the surplus codes get count 0 and are replaced in this and the next steps.
        """
        if self.is_ready():
            return
        centres, counts = kmeans(
            data, self.codebook_size, self.kmeans_iters, sample_fn=self.sample_fn, all_reduce_fn=self.all_reduce_fn
        )
        self.embed.copy_(centres)
        self.embed_avg.copy_(centres * counts[..., None])
        self.cluster_size.copy_(counts)
        self.initted.fill_(True)

    def expire_codes_(self, batch_samples: Tensor, seq_mask: Tensor | None = None) -> None:
        """Replace dead codes by vectors of `batch_samples` (1, vectors, dim), in fixed shapes: nothing is read back."""
        if not self.has_dead_code_replacement or not self.training:
            return
        vectors = batch_samples[0]
        num_vectors = vectors.shape[0]
        rank, num_ranks = (dist.get_rank(), dist.get_world_size()) if self.use_ddp else (0, 1)
        usage = self.cluster_size[0]
        seen = usage.new_full((), num_vectors)
        self.all_reduce_fn(seen)
        # The minimum guards both ways: replacement adds to the counts, and a larger batch than before outruns them.
        uniform = torch.minimum(seen, usage.sum()) / self.codebook_size
        dead = usage < self.dead_code_fraction * uniform

        # The k-th dead code is served by rank k % num_ranks with that rank's (k // num_ranks)-th random vector.
        place = dead.cumsum(dim=0) - 1
        turn = place // num_ranks
        served = (dead & (place % num_ranks == rank) & (turn < num_vectors))[:, None]
        order = torch.randperm(num_vectors, device=vectors.device)
        offer = torch.where(served, vectors[order[turn.clamp(0, num_vectors - 1)]], 0)
        message = torch.cat([offer, served.to(offer.dtype)], dim=1)  # the last column: some rank had a vector for it
        self.all_reduce_fn(message)
        fresh, replaced = message[:, :-1], message[:, -1:] > 0

        self.embed[0] = torch.where(replaced, fresh, self.embed[0])
        self.embed_avg[0] = torch.where(replaced, fresh * uniform, self.embed_avg[0])
        self.cluster_size[0] = torch.where(replaced[:, 0], uniform, usage)


def _forget_ready(codebook: EmaCodebook, incompatible_keys: object) -> None:
    codebook._known_ready = False  # what was loaded may be untrained
