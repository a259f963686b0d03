"""Training: one motion network for many people, then an avatar of one person from seconds of video.

`perform` does a `Job` from its scenes to its file; the commands `emotag-train pretrain` and `adapt` make jobs.
"""

from .config import COMPONENTS, TrainConfig
from .errors import TrainingError
from .job import Interrupted, Job, perform

__all__ = ["COMPONENTS", "Interrupted", "Job", "TrainConfig", "TrainingError", "perform"]
