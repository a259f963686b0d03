"""PyTorch side: networks, head models, data and training."""
