"""Find pictures that look alike, by the visual words that they share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pycolmap

from jobs.sfm.machine import SEED

__all__ = ["alike"]

_FEATURES = 400  # of each picture, the largest
_LEAST_FEATURES = 64  # of all pictures: fewer make no vocabulary


def alike(database: Path, work: Path, neighbours: int, threads: int, of: Iterable[int] = ()) -> list[tuple[int, int]]:
    """Return pairs of a picture and one with many of the same visual words, the likeliest of each picture first.

    The vocabulary tree is built from the largest features of these pictures: COLMAP's own tree is a download, and a
    small tree of the capture itself separates its pictures as well. With more words or more iterations, pairs share no
    more features.

    Args:
        database: COLMAP's, with features.
        work: a folder for the vocabulary.
        neighbours: for each picture, which is among its own neighbours.
        threads: number of threads.
        of: numbers of the first pictures of the pairs; all if empty.
    """
    with pycolmap.Database.open(database) as opened:
        largest = []
        for image in opened.read_all_images():
            keypoints = opened.read_keypoints(image.image_id)
            if len(keypoints):
                order = np.argsort(-np.abs(keypoints[:, 2:]).sum(axis=1), kind="stable")
                largest.append(opened.read_descriptors(image.image_id).data[order[:_FEATURES]])
        if sum(map(len, largest)) < _LEAST_FEATURES:
            return []
        descriptors = np.concatenate(largest).astype(np.float32)
        pycolmap.set_random_seed(SEED)  # the clusters begin at random
        index = pycolmap.VisualIndex.create(descriptors.shape[1], 64)
        build = pycolmap.VisualIndex.BuildOptions(num_iterations=5, num_rounds=1, num_threads=threads)
        build.num_visual_words = int(np.clip(len(descriptors) // 40, 1, 1024))
        index.build(build, pycolmap.FeatureDescriptorsFloat(pycolmap.FeatureExtractorType.SIFT, descriptors))
        index.write(work / "vocabulary.bin")
        options = pycolmap.VocabTreePairingOptions(
            vocab_tree_path=work / "vocabulary.bin",
            num_images=neighbours,
            max_num_features=_FEATURES,
            num_threads=threads,
        )
        pairs: list[tuple[int, int]] = pycolmap.VocabTreePairGenerator(options, opened, list(of)).all_pairs()
    return pairs
