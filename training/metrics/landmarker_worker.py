"""Reads blendshapes off pictures with MediaPipe's FaceLandmarker. Run by a Python that has mediapipe.

    python landmarker_worker.py face_landmarker.task pictures.npz blendshapes.json

pictures.npz: name → uint8 [N, H, W, 3]. The JSON: name → a list of {blendshape: score}, one for each face found.
"""

import json
import sys


def main() -> None:
    """Parse nothing but three paths."""
    import mediapipe
    import numpy
    from mediapipe.tasks.python import BaseOptions, vision

    task, pictures, output = sys.argv[1:]
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=task), output_face_blendshapes=True, num_faces=1
    )
    found: dict[str, list[dict[str, float]]] = {}
    with vision.FaceLandmarker.create_from_options(options) as judge, numpy.load(pictures) as file:
        for name in file.files:
            found[name] = []
            for picture in file[name]:
                image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=numpy.ascontiguousarray(picture))
                faces = judge.detect(image).face_blendshapes
                found[name] += [{shape.category_name: shape.score for shape in face} for face in faces]
    with open(output, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
