"""What holds for every test."""

from __future__ import annotations

import torch

# The networks of the tests are tiny: threads that wait for each other in every product cost minutes on a busy machine.
torch.set_num_threads(1)
