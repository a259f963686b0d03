"""EmoTaG: audio-driven emotional 3D talking heads, from training to a torch-free runtime."""

__version__ = "0.1.0"
