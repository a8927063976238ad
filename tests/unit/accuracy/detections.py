"""Detected boxes and true ones, without random numbers, so that other programs can be shown them."""

import numpy as np

IMAGES, FOUND, TRUE = 12, 14, 5


def made() -> tuple[np.ndarray, np.ndarray]:
    """Detections ``(12, 14, 6)`` and truths ``(12, 5, 5)``, some padded: near ones, far ones, some of another class."""
    found, true = np.full((IMAGES, FOUND, 6), -1.0), np.full((IMAGES, TRUE, 5), -1.0)
    for image in range(IMAGES):
        for place in range((image * 3) % (TRUE + 1)):
            x, y = (17 * image + 23 * place) % 60, (29 * image + 11 * place) % 60
            w, h = 8 + (5 * place + image) % 20, 9 + (7 * place + 3 * image) % 18
            kind = (image + 2 * place) % 3
            true[image, place] = (x, y, x + w, y + h, kind)
            shift = (image * 5 + place * 3) % 5 - 1.5
            told = kind if (image + place) % 4 else (kind + 1) % 3
            score = ((37 * image + 53 * place) % 97) / 97
            found[image, place] = (x + shift, y - shift / 2, x + w + shift, y + h, score, told)
        for place in range(TRUE, FOUND - image % 4):
            x, y = (13 * image + 31 * place) % 70, (7 * image + 19 * place) % 70
            score = ((41 * image + 71 * place) % 89) / 178
            found[image, place] = (x, y, x + 6 + place, y + 20 - place, score, (image + place) % 3)
    return found, true
