"""A recogniser of random weights, with the layout of the real one, for tests of what begins from it."""

from __future__ import annotations

import torch
from transformers import MoonshineConfig
from transformers.models.moonshine.modeling_moonshine import MoonshineEncoder

from emotag.training.corpus.listener_weights import Weights

LAYERS = 4


def recogniser() -> MoonshineEncoder:
    """As Hugging Face computes it."""
    torch.manual_seed(0)
    made = MoonshineEncoder(MoonshineConfig(encoder_num_hidden_layers=LAYERS)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return made


def recogniser_weights() -> Weights:
    """Its tensors, as `listener_weights` gives them of the real one."""
    return {name: value.numpy() for name, value in recogniser().state_dict().items()}
