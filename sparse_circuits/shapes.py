"""The axis words used in every annotation, and the tensors that pass between rooms.

batch, pos      sequences and token positions          n_prompts, n_pairs   task prompts: 2 prompts a pair
d_model         residual channels                      n_heads, d_head      attention heads and their width
d_mlp           MLP neurons                            d_vocab              token ids
width           channels of whichever site is meant    node, k              circuit nodes; entries kept
"""

from jaxtyping import Float, Int
from torch import Tensor

Tokens = Int[Tensor, "batch pos"]
Logits = Float[Tensor, "batch pos d_vocab"]
Residual = Float[Tensor, "batch pos d_model"]
SiteValue = Float[Tensor, "batch pos width"]
Matrix = Float[Tensor, "n_out n_in"]
