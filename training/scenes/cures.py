"""How to make every file of a scene: the tool, and the command where there is one."""

from __future__ import annotations

from pathlib import Path

__all__ = ["cure"]

_CURES = {
    "transforms.json": "track the clip with VHAP: `python vhap/track.py --data.root_folder DATA --exp.output_folder "
    "TRACK --data.sequence NAME`, then `python vhap/export_as_nerf_dataset.py --src_folder TRACK --tgt_folder {scene}`",
    "tracking": "track every frame with VHAP (`python vhap/track.py`) and export it (`python "
    "vhap/export_as_nerf_dataset.py`), or for the released layout run the authors' tools/import_vhap_export.py",
    "model_center.npy": "run the authors' tools/import_vhap_export.py, which takes it from the first frame's mesh",
    "pictures": "export them with VHAP (`python vhap/export_as_nerf_dataset.py`), or "
    "`ffmpeg -i clip.mp4 -r 25 -start_number 0 -q:v 1 {scene}/gt_imgs/%d.jpg`",
    "masks": "released layout: a parsing picture a frame in parsing/N.png (tools/import_vhap_export.py makes them from "
    "VHAP's fg_masks); VHAP: `python vhap/preprocess_video.py --input clip.mp4 --matting_method "
    "robust_video_matting` before the export",
    "depth maps": "run Sapiens (lite) depth on them: `bash tools/run_sapiens_priors.sh {scene}` of the authors' "
    "repository; one .npy a frame in sapiens/depth/sapiens_*/ (VHAP layout: depth/)",
    "normal maps": "run Sapiens (lite) normals on them: `bash tools/run_sapiens_priors.sh {scene}` of the "
    "authors' repository; one .npy a frame in sapiens/normal/sapiens_*/ (VHAP layout: normal/)",
    "landmarks": "detect 68 points a frame with face-alignment (or dlib) and write x y lines to ori_imgs/N.lms (VHAP "
    "layout: landmarks/)",
    "au_features.csv": "run OpenFace: `FeatureExtraction -f clip.mp4 -aus -out_dir OUT`, then copy OUT/clip.csv to "
    "{scene}/au_features.csv",
    "emotion_features.npy": "run DeepFace (`pip install deepface`): DeepFace.analyze(picture, actions=['emotion']) on "
    "every frame, rows [T,7] in the order angry, disgust, fear, happy, sad, surprise, neutral (the authors' "
    "tools/extract_deepface_emotion.py --scene {scene})",
    "identity_feature.npy": "run AdaFace on the 50 frames that DeepFace finds most neutral and save the mean embedding "
    "[512] (the authors' tools/extract_adaface_identity.py --scene {scene})",
    "sound": "`ffmpeg -i clip.mp4 -vn -ac 1 -ar 16000 -c:a pcm_s16le {scene}/aud.wav`",
    "audio features": "`emotag-train check {scene} --make-features --encoder facebook/wav2vec2-base-960h "
    "--streaming 2,2,100`; training makes them by itself where they are of another encoder",
    "phonemes.json": "align the sound with its text, such as by the Montreal Forced Aligner, and write [name, start, "
    "end] in seconds for every phoneme, ARPABET's names, to {scene}/phonemes.json",
    "frame rate": "`ffmpeg -i clip.mp4 -r 25 -c:v libx264 -crf 10 clip25.mp4`, then make the scene again from that",
    "binding": "run the authors' tools/import_vhap_export.py; only an import of a released checkpoint needs it, and a "
    "FLAME head without masks, whose mouth it tells",
}


def cure(item: str, scene: Path) -> str:
    """How to make `item` of this scene."""
    return _CURES[item].replace("{scene}", str(scene))
