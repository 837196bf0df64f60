"""A trained agent without PyTorch and without PixelSeg: a file of `pixelseg export`, an image of 8 bits, a mask.

pixelseg export runs/mine model.onnx
python examples/onnx_inference.py model.onnx scan.png mask.png
"""

import sys

try:
    import cv2
    import onnxruntime
except ImportError as error:
    sys.exit(f"{error}: pip install onnxruntime opencv-python")

if len(sys.argv) != 4:
    sys.exit(__doc__)
_, model, scan, target = sys.argv

session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map  # what the agent is, and how its images are prepared
image = cv2.imread(scan, cv2.IMREAD_GRAYSCALE if facts["channels"] == "1" else cv2.IMREAD_COLOR)
if image is None:
    sys.exit(f"{scan}: no image that OpenCV reads")
image = image.reshape(*image.shape[:2], -1)[..., ::-1]  # red, green, blue
size = facts["trained_size"]  # such as 64x64; null where it was trained on files of their own size
height, width = map(int, size.split("x")) if "x" in size else image.shape[:2]
shrinks = height <= image.shape[0] and width <= image.shape[1]
small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
planes = small.reshape(height, width, -1).transpose(2, 0, 1)[None].astype("float32") / 255
mask = session.run(["mask"], {"image": planes})[0][0]
cv2.imwrite(target, cv2.resize(mask * 255, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT))
print(f"{target}: {mask.mean():.3f} of {scan} is {facts['label_names']}, says {facts['agent']}")
