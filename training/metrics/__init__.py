"""Metrics: pure functions of arrays, and `evaluate`, which applies them to clips and writes the report.

Pictures, landmarks, lips, pose, emotion and sync, each as the published numbers define it; `docs/metrics.md` states
every definition.
"""

from .errors import MetricError
from .face import (
    LOWER_AUS,
    UPPER_AUS,
    action_unit_error,
    emotion_accuracy,
    intensity,
    intensity_response,
    sign_agreement,
    valence_arousal_rmse,
)
from .image import psnr, ssim, ssim_map
from .landmarks import lip_gap, lmd, mouth_box, project
from .lips import LipReport, closed_frames, find_offset, lip_report, pool_reports
from .lpips import Lpips, load_lpips
from .motion import jaw_agreement, pose_motion
from .phonemes import read_phonemes
from .syncnet import SyncNet, load_syncnet, mfcc, sync_scores

__all__ = [
    "LOWER_AUS",
    "UPPER_AUS",
    "LipReport",
    "Lpips",
    "MetricError",
    "SyncNet",
    "action_unit_error",
    "closed_frames",
    "emotion_accuracy",
    "find_offset",
    "intensity",
    "intensity_response",
    "jaw_agreement",
    "lip_gap",
    "lip_report",
    "lmd",
    "load_lpips",
    "load_syncnet",
    "mfcc",
    "mouth_box",
    "pool_reports",
    "pose_motion",
    "project",
    "psnr",
    "read_phonemes",
    "sign_agreement",
    "ssim",
    "ssim_map",
    "sync_scores",
    "valence_arousal_rmse",
]
