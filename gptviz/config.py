"""The shape of a model, without torch: readers of recorded runs need it too."""

from dataclasses import dataclass

ACTIVATIONS = {"gelu": "none", "gelu_tanh": "tanh"}  # our name -> `approximate` of torch's gelu


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a model: nanoGPT's fields and defaults, and two of ours.

    Raises:
        ValueError: a field is outside its range.

    Example:
        >>> GPTConfig(n_layer=2, n_head=2, n_embd=8).d_head
        4
    """

    block_size: int = 1024  # the largest number of positions the model reads
    vocab_size: int = 50304  # GPT-2's 50,257 tokens, padded to a multiple of 64 for speed
    n_layer: int = 12
    n_head: int = 12  # per block; must divide n_embd
    n_embd: int = 768  # width of the residual stream
    dropout: float = 0.0  # probability of dropping a value in training, 0 <= dropout < 1
    bias: bool = True  # in Linear and LayerNorm
    activation: str = "gelu"  # exact, as nanoGPT; "gelu_tanh": GPT-2 as released, minGPT
    tie_weights: bool = True  # the unembedding is the token embedding; False: it has its own weights, as minGPT

    def __post_init__(self) -> None:
        for field in ("block_size", "vocab_size", "n_layer", "n_head", "n_embd"):
            if type(value := getattr(self, field)) is not int or value < 1:
                raise ValueError(f"{field} must be a whole number of at least 1, not {value!r}.")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd must be divisible by n_head, but {self.n_embd} is not by {self.n_head}.")
        for field in ("bias", "tie_weights"):
            if not isinstance(value := getattr(self, field), bool):  # "False" would be true
                raise ValueError(f"{field} must be True or False, not {value!r}.")
        if not (isinstance(self.dropout, int | float) and 0.0 <= self.dropout < 1.0):
            raise ValueError(f"dropout must be at least 0 and less than 1, not {self.dropout!r}.")
        if not (isinstance(self.activation, str) and self.activation in ACTIVATIONS):
            raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, not {self.activation!r}.")

    @property
    def d_head(self) -> int:
        """Width of one head's queries, keys and values."""
        return self.n_embd // self.n_head
