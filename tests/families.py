"""Small random models of Hugging Face's families."""

import torch
import transformers

D_VOCAB, N_CTX = 61, 24
SMALL = {
    "vocab_size": D_VOCAB,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": N_CTX,
    "sliding_window": 4,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
WITH_EYES = ("gemma3",)
SEEING = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}


def made(family: str, **changes: object) -> torch.nn.Module:
    """Return a model of a family, as `transformers` has it."""
    shape = SMALL | changes
    if family in WITH_EYES:
        shape = {"text_config": shape, "vision_config": SEEING}
    config = transformers.AutoConfig.for_model(family, **shape)
    torch.manual_seed(0)
    lm = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # gains and biases that matter
        for parameter in lm.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return lm.eval()
