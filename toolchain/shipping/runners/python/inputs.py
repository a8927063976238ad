"""How a sentence, a picture or a file of numbers becomes what the model takes."""

import re
from collections import Counter

import numpy as np
from package import PACKAGE, Refused, read


def prepared(given):
    """The model's inputs, of a sentence, a picture, or an array as the model takes it."""
    try:
        if given.endswith(".npy"):
            return {PACKAGE["inputs"][0]["name"]: np.load(given, allow_pickle=False)}
        how = read(PACKAGE["preprocessing"]) if PACKAGE["preprocessing"] else {"kind": "not told"}
        if how["kind"] == "tfidf":
            return {how["input"]: weighed(given, how)}
        if how["kind"] == "image":
            return {how["input"]: picture(given, how)}
    except ImportError as error:
        raise Refused("Pictures are read by Pillow, which is not here.", "pip install pillow.", 3) from error
    except (OSError, ValueError) as error:
        raise Refused(f"{given} cannot be read: {error}.", "Give a picture, or what numpy.save wrote.") from error
    raise Refused("How to make an input of that is not in the package.", "Give a .npy of what the model takes.")


def weighed(text, how):
    """The row of TF-IDF weights of a sentence."""
    row, idf = np.zeros(len(how["idf"]), np.float32), np.asarray(how["idf"], np.float32)
    for token, count in Counter(re.findall(how["tokenizer"]["pattern"], text.lower())).items():
        if token in how["vocabulary"]:
            row[how["vocabulary"][token]] = count * idf[how["vocabulary"][token]]
    return (row / max(float(np.linalg.norm(row)), 1e-30)).astype(np.float32)[None]


def picture(given, how):
    from PIL import Image

    width, height = size = how["width"], how["height"]
    with Image.open(given) as image:
        image = image.convert("L" if how["channels"] == 1 else "RGB")
        if how["crop"]:
            scale = max(width / image.width, height / image.height) / how["crop"]
            size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32).reshape(size[1], size[0], -1)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    scaled = pixels[top : top + height, left : left + width] * np.float32(how["scale"])
    scaled = (scaled - np.float32(how["mean"])) / np.float32(how["std"])
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])
