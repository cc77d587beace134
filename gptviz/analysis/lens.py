"""What the model would say if it stopped after each layer: the logit lens.

Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor, nn

from gptviz.analysis.requirements import matching_model, require_recorded, row_of
from gptviz.capture import plain_unembed
from gptviz.model import GPT
from gptviz.trace import Check, Trace

CHUNK_NUMBERS = 2**22
"""How many logits exist at a time: 16 MB in float32."""


@dataclass(frozen=True)
class LogitLens:
    """The prediction of the next token read off the residual stream at every point of the model.

    Attributes:
        points: Where the stream was read, in order: "embed", then "L0", "L1", ... after each block; with
            `mid` also "L0 mid" between a block's attention and its MLP. The last is the model's own
            prediction.
        positions: Positions of the text, from 0, in the order of the columns.
        top_ids: The likeliest next tokens, likeliest first.
        top_probs: Their probabilities.
        entropy: Of the predicted distribution, nats; between 0 and ln(d_vocab).
        kl_to_final: KL(final || lens) in nats: what is lost by believing the lens where the model is right; 0
            in the last row.
        true_rank: Rank of the token that really follows; 1 is the likeliest, ties count as the better rank; 0
            at the last position of the text, which nothing follows.
        true_prob: Its probability; NaN where nothing follows.
        logits: All logits, if they were asked for.
        check: Largest error of the lens of the last layer against the recorded logits, relative to the
            largest logit.
    """

    points: tuple[str, ...]
    positions: tuple[int, ...]
    top_ids: Int64[np.ndarray, "point pos top"]
    top_probs: Float32[np.ndarray, "point pos top"]
    entropy: Float32[np.ndarray, "point pos"]
    kl_to_final: Float32[np.ndarray, "point pos"]
    true_rank: Int64[np.ndarray, "point pos"]
    true_prob: Float32[np.ndarray, "point pos"]
    logits: Float32[np.ndarray, "point pos d_vocab"] | None
    check: Check


@torch.no_grad()
def logit_lens(
    trace: Trace,
    model: nn.Module,
    *,
    top: int | None = None,
    mid: bool = False,
    positions: Sequence[int] | None = None,
    keep_logits: bool = False,
) -> LogitLens:
    """Apply the last LayerNorm and the unembedding to the residual stream after every layer.

    At each point the LayerNorm takes its scale from that point's own stream. The last row is the recorded
    logits.

    Misleads where the stream of an early layer is written in another basis than the last one's: then the lens
    shows nonsense, which does not mean that the layer knows nothing. In models of two to four layers often
    only the last row is readable. With tied weights the row "embed" tends to repeat the token itself.

    Args:
        trace: Needs resid_pre of layer 0, resid_post of all layers and logits; with `mid` also resid_mid.
        model: The model that made the trace.
        top: How many tokens to keep in each cell; by default 5, or all of a smaller vocabulary.
        mid: Also read the stream between attention and MLP.
        positions: Of the text, -1 the last: only these are read; all that were recorded by default.
        keep_logits: Also keep all logits: 4 bytes x points x positions x vocabulary, 1.3 GB for GPT-2 at 512
            tokens.

    Returns:
        One row per point, one column per position.

    Raises:
        UnknownNameError: the trace does not hold what is needed, or not there.
        ValueError: the model is not the one that made the trace, `top` is not 1 to d_vocab, or `positions` is
            empty.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> from gptviz.trace import record
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> lens = logit_lens(record(model, [0, 1, 2]), model, top=1)
        >>> lens.points, lens.top_ids.shape
        (('embed', 'L0', 'L1'), (3, 3, 1))
    """
    names = ["resid_pre.0", "resid_post", "logits", *(["resid_mid"] if mid else [])]
    require_recorded(trace, names, "logit_lens")
    inner = matching_model(trace, model)
    top = min(5, inner.config.vocab_size) if top is None else top
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= inner.config.vocab_size:
        raise ValueError(f"top must be 1 to {inner.config.vocab_size} (vocab_size), not {top!r}.")
    if positions is not None and not len(positions):
        raise ValueError("positions must name at least one position of the text; it is empty. Leave it out for all.")
    rows = slice(None) if positions is None else [row_of(trace, position)[1] for position in positions]
    streams = {point: stream[rows] for point, stream in _streams(trace, mid)}
    recorded, places = trace["logits"][rows], tuple(np.array(trace.positions)[rows].tolist())
    check = _check_last(trace, inner, list(streams.values())[-1], recorded)
    cells = _Cells(len(streams), len(places), top, inner.config.vocab_size if keep_logits else 0)
    targets = _next_tokens(trace)[rows]
    step = max(1, CHUNK_NUMBERS // inner.config.vocab_size)
    for start in range(0, len(places), step):
        part = slice(start, start + step)
        final = recorded[part].float()
        final_log_probs = final.log_softmax(-1)
        for point, stream in enumerate(streams.values()):
            last = point == len(streams) - 1
            logits = final if last else _unembed(inner, stream[part]).to(final)
            cells.fill(point, part, logits, final_log_probs, targets[part].to(final.device))
    return LogitLens(tuple(streams), places, check=check, **cells.arrays())


class _Cells:
    """The arrays of a lens while they are filled."""

    def __init__(self, n_points: int, n_pos: int, top: int, n_vocab: int):
        shape = (n_points, n_pos)
        self.top_ids, self.top_probs = np.empty((*shape, top), np.int64), np.empty((*shape, top), np.float32)
        self.entropy, self.kl_to_final = np.empty(shape, np.float32), np.empty(shape, np.float32)
        self.true_rank, self.true_prob = np.zeros(shape, np.int64), np.full(shape, np.nan, np.float32)
        self.logits = np.empty((*shape, n_vocab), np.float32) if n_vocab else None

    def fill(self, point: int, part: slice, logits: Tensor, final_log_probs: Tensor, targets: Tensor) -> None:
        """Fill one point's cells at some positions; targets are -1 where nothing follows."""
        log_probs = logits.log_softmax(-1)
        # topk's order of equal values differs between kernels; the sum of a product with p = 0 must not be NaN
        best = log_probs.topk(self.top_ids.shape[-1], dim=-1)
        self.top_ids[point, part], self.top_probs[point, part] = best.indices.cpu(), best.values.exp().cpu()
        self.entropy[point, part] = torch.special.entr(log_probs.exp()).sum(-1).cpu()
        differences = (final_log_probs.exp() * (final_log_probs - log_probs)).nan_to_num(nan=0.0)
        self.kl_to_final[point, part] = differences.sum(-1).clamp_min(0.0).cpu()
        follows = targets >= 0
        truth = log_probs.gather(-1, targets.clamp_min(0)[:, None])
        rank = 1 + (log_probs > truth).sum(-1)
        self.true_rank[point, part] = rank.where(follows, 0).cpu()
        self.true_prob[point, part] = truth[:, 0].exp().where(follows, torch.nan).cpu()
        if self.logits is not None:
            self.logits[point, part] = logits.cpu()

    def arrays(self) -> dict[str, Any]:
        return vars(self)


def _streams(trace: Trace, mid: bool) -> Iterator[tuple[str, Tensor]]:
    yield "embed", trace["resid_pre", 0]
    for layer in range(trace.config.n_layer):
        if mid:
            yield f"L{layer} mid", trace["resid_mid", layer]
        yield f"L{layer}", trace["resid_post", layer]


def _unembed(model: GPT, stream: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_vocab"]:
    """The logits of a stream in the model's own type and place, wherever the trace was kept."""
    return plain_unembed(model, stream.to(model.lm_head.weight))


def _next_tokens(trace: Trace) -> Int[Tensor, "pos"]:
    """The token after each recorded position; -1 after the last of the text."""
    following = torch.cat([trace.ids[1:], trace.ids.new_tensor([-1])])
    return following[torch.tensor(trace.positions, device=following.device)]


def _check_last(
    trace: Trace, model: GPT, last: Float[Tensor, "pos d_model"], recorded: Float[Tensor, "pos d_vocab"]
) -> Check:
    """The lens of the last layer is the logits; an edit behind the last layer makes that untrue on purpose.

    Where both are not finite they agree: the check then fails with NaN, but the model is the right one.
    """
    step = max(1, CHUNK_NUMBERS // model.config.vocab_size)
    finite = recorded.isfinite()
    errors = []
    for start in range(0, len(last), step):
        part, expected = slice(start, start + step), recorded[start : start + step]
        found = _unembed(model, last[part]).to(recorded)
        agreed = finite[part] | found.isfinite()
        errors.append((found - expected).where(agreed, 0.0).abs().max())
    error = float(torch.stack(errors).max() / recorded.where(finite, 0.0).abs().max().clamp_min(1e-30))
    check = Check(error, max(1e-5, 32 * torch.finfo(recorded.dtype).eps))
    behind = {"ln_final_scale", "ln_final", "logits"} & {name for name, _ in trace.edited}
    if check.passed and not finite.all():
        return Check(float("nan"), check.bound)
    if not check.passed and not behind:
        raise ValueError(
            f"The lens of the last layer must equal the recorded logits, but misses them by {error:.2g} of "
            f"the largest (allowed {check.bound:.2g}). Pass the model that made the trace, with the same weights."
        )
    return check
