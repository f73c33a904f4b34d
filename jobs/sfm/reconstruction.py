"""Structure from motion with pycolmap, in this process: pictures to camera poses and a sparse cloud of points.

COLMAP: Schönberger and Frahm, "Structure-from-Motion Revisited", CVPR 2016; its global mapper is GLOMAP:
Pan et al., "Global Structure-from-Motion Revisited", ECCV 2024.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from jobs.manifest import Timer
from jobs.options import PrepareOptions
from jobs.report import Meter
from jobs.sfm import parallax

_SEED = 0
_EXHAUSTIVE_IMAGES = 60  # up to here all pairs cost less than finding the right ones
_INCREMENTAL_IMAGES = 400  # from here the incremental mapper's time grows beyond the global one's
_NEIGHBOURS = 24  # pictures that retrieval names for each picture
_REPEATABLE_IMAGES = 100  # up to here one thread maps as fast as many, and gives the same poses each time
_ADDED_NEIGHBOURS = 8  # pictures of an earlier dataset for each picture
_LOOP_NEIGHBOURS = 6  # … beside the sequence's own pairs
_OVERLAP = 10  # pictures on either side in a sequence, and then in steps of powers of two
_ENOUGH = 0.9  # share of registered pictures below which a wider search begins
_ROOM_BYTES = 16_000_000  # of free disk that COLMAP's steps do not start to use up
_LOOKED_AT = 64  # pairs that tell whether the camera only turned
_FEW_MATCHES = 15  # COLMAP's least number of inlier matches of a pair


Points = NDArray[np.int64]
Tracks = dict[str, tuple[NDArray[np.float64], Points]]
"""By picture's name, where points were seen in it, (n, 2) px, and the points' numbers, (n,)."""
Shared = list[tuple[str, str, Points]]
"""For pairs of pictures of two models, by name, the numbers in both of the points that are the same, (m, 2)."""


@dataclass(frozen=True)
class View:
    """A picture for structure from motion.

    Args:
        name: file name in the folder of pictures.
        width, height: px.
        camera: pictures that share this key share their intrinsics.
        focal: focal length from EXIF as a multiple of the diagonal; None if unknown.
    """

    name: str
    width: int
    height: int
    camera: str
    focal: float | None = None


@dataclass
class Result:
    """What structure from motion found.

    Args:
        model: the reconstruction with the most registered pictures; None if there is none at all.
        matching, mapper: what was used for it, e.g. "sequential, then exhaustive" and "incremental".
        models: how many pictures each separate reconstruction holds, largest first.
        features: number of features by picture's name.
        best_matches: most inlier matches with any one other picture, by picture's name.
        elsewhere: names of the pictures in the other, smaller models.
        search: features and matches, to which pictures of an earlier dataset can be added.
    """

    model: pycolmap.Reconstruction | None = None
    matching: str = ""
    mapper: str = ""
    models: list[int] = field(default_factory=list)
    features: dict[str, int] = field(default_factory=dict)
    best_matches: Counter[str] = field(default_factory=Counter)
    elsewhere: set[str] = field(default_factory=set)
    search: Search | None = None
    only_turned: bool = False
    """Whether the camera only turned on the spot; then there is no model."""

    @property
    def registered(self) -> set[str]:
        """Names of the pictures with a pose."""
        return {image.name for image in self.model.images.values() if image.has_pose} if self.model else set()

    def why_not(self, name: str) -> str:
        """Why a picture has no pose, in words."""
        if self.only_turned:
            return "no parallax: the camera only turned on the spot"
        if self.features[name] < _FEW_MATCHES:
            return f"too few features: {self.features[name]} (blurred, dark, or without texture)"
        if self.best_matches[name] < _FEW_MATCHES:
            return f"too few matches: {self.best_matches[name]} with its best neighbour"
        if name in self.elsewhere:
            return "not connected to the largest model"
        return f"no consistent pose, with {self.best_matches[name]} matches to its best neighbour"


def gpu() -> bool:
    """Whether pycolmap works on a GPU here: it is built for CUDA, and there is one."""
    return bool(pycolmap.has_cuda) and pycolmap.get_num_cuda_devices() > 0  # type: ignore[attr-defined]


def reconstruct(
    folder: Path, views: list[View], work: Path, options: PrepareOptions, timer: Timer, *, sequence: bool
) -> Result:
    """Find the poses of pictures.

    Starts with the pairs that the kind and number of pictures make likely, and widens the search where too few
    pictures register: first all pairs with those that did not, then features of half the size.

    Args:
        folder: where the pictures are; grey ones do.
        views: the pictures, in the order in which they were taken.
        work: an empty folder on a local disk for the database and models.
        options: matching, mapper, max_features and min_registered_share are used.
        timer: gets the steps features, matching and mapping.
        sequence: the pictures are frames of a video.

    Returns:
        The result, in pixels of these pictures. Up to 100 pictures and without a GPU, the same input gives the same
        result on the same machine; else, poses vary a little.
    """
    print(f"Features are found and matched on the {'GPU' if gpu() else 'CPU'}.", flush=True)
    pycolmap.logging.minloglevel = pycolmap.logging.WARNING.value
    pycolmap.logging.logtostderr = True  # the job's log is where it is looked for, not files under the system's /tmp
    pycolmap.set_random_seed(_SEED)
    search = Search(folder, views, work, options, timer)
    kind = _matching(options, len(views), sequence)
    small = max(max(view.width, view.height) for view in views) <= 480
    search.find_features(first_octave=-1 if small else 0)
    search.match(search.pairs(kind), kind)
    if search.only_turned():
        return replace(search.result([], "none"), only_turned=True)
    result = search.map()
    needed = max(_ENOUGH, options.min_registered_share) * len(views)
    if len(result.registered) < needed and kind != "exhaustive" and options.matching == "auto":
        missing = {view.name for view in views} - result.registered
        search.match([pair for pair in search.pairs("exhaustive") if missing & set(pair)], "exhaustive")
        result = max(result, search.map(), key=lambda r: len(r.registered))
    if len(result.registered) < options.min_registered_share * len(views) and not small:
        search.find_features(first_octave=-1)
        search.match(search.pairs(kind), f"{kind} with finer features")
        result = max(result, search.map(), key=lambda r: len(r.registered))
    return result


def _matching(options: PrepareOptions, number: int, sequence: bool) -> Literal["exhaustive", "sequential", "retrieval"]:
    if options.matching != "auto":
        return options.matching
    if number <= _EXHAUSTIVE_IMAGES:
        return "exhaustive"
    return "sequential" if sequence else "retrieval"


class Search:
    """One database of features and matches, and the steps that fill and use it."""

    def __init__(self, folder: Path, views: list[View], work: Path, options: PrepareOptions, timer: Timer) -> None:
        self._folder, self._views, self._work, self._options, self._timer = folder, views, work, options, timer
        self._names = [view.name for view in views]
        self._database = work / "database.db"
        self._matching: list[str] = []
        self._first_octave = 0

    def find_features(self, first_octave: int) -> None:
        """Find SIFT features in every picture; -1 as `first_octave` doubles the pictures first, at 4 times the cost."""
        self._database.unlink(missing_ok=True)
        self._matching = []
        self._first_octave = first_octave
        self.add(self._folder, self._views)

    def add(self, folder: Path, views: list[View]) -> None:
        """Find features in further pictures, in the same way."""
        with pycolmap.Database.open(self._database) as database:
            _write_views(database, views)
            known = _images_with_features(database)
        options = pycolmap.FeatureExtractionOptions(num_threads=_threads())
        options.sift.max_num_features = self._options.max_features
        options.sift.first_octave = self._first_octave
        with (
            self._timer.step("features"),
            self._progress(
                "features", len(views), lambda database: _images_with_features(database) - known
            ) as cancellation,
        ):
            pycolmap.extract_features(
                self._database,
                folder,
                [view.name for view in views],
                extraction_options=options,
                device=_device(),
                cancellation_token=cancellation,
            )

    def pairs(self, kind: Literal["exhaustive", "sequential", "retrieval"]) -> list[tuple[str, str]]:
        """The pairs of pictures, by name, that a kind of matching looks at."""
        number = len(self._views)
        if kind == "exhaustive":
            chosen = set(combinations(range(number), 2))
        else:
            steps = {*range(1, _OVERLAP + 1), *(1 << k for k in range(4, number.bit_length()))}
            if kind == "retrieval":  # photos are mostly taken along a walk: a few neighbours are a good guess
                steps = {1, 2, 3}
            chosen = {(i, i + step) for step in steps for i in range(number - step)}
            chosen |= self._look_alikes(_LOOP_NEIGHBOURS if kind == "sequential" else _NEIGHBOURS)
        return [(self._names[i], self._names[j]) for i, j in sorted(chosen)]

    def pairs_with(self, added: list[View]) -> list[tuple[str, str]]:
        """The pairs, by name, of these pictures with added ones: all, or the likeliest where those are many."""
        names = [view.name for view in added]
        if len(self._names) * len(names) <= _EXHAUSTIVE_IMAGES**2 / 2:
            return [(own, other) for own in self._names for other in names]
        with pycolmap.Database.open(self._database) as database:  # it may hold those of another dataset, too
            pictures = {image.image_id: image.name for image in database.read_all_images()}
        wanted, chosen = set(names), dict[int, list[str]]()
        for i, j in self._alike(len(pictures), of=range(1, len(self._names) + 1)):  # the likeliest first
            if pictures[j] in wanted:
                chosen.setdefault(i, []).append(pictures[j])
        return [(pictures[i], other) for i, others in chosen.items() for other in others[:_ADDED_NEIGHBOURS]]

    def _look_alikes(self, neighbours: int) -> set[tuple[int, int]]:
        """Pairs that share visual words, by position among the pictures."""
        pairs = self._alike(neighbours + 1)  # the picture itself is among them
        return {(min(i, j) - 1, max(i, j) - 1) for i, j in pairs if i != j}

    def _alike(self, neighbours: int, of: Iterable[int] = ()) -> list[tuple[int, int]]:
        """The pictures that share most visual words with each of all, or of those given, by number.

        The vocabulary tree is grown from the largest features of these very pictures: COLMAP's own is a download, and
        a small one of the capture itself tells its pictures apart as well.
        """
        with self._timer.step("matching"), pycolmap.Database.open(self._database) as database:
            largest = []
            for image in database.read_all_images():
                keypoints = database.read_keypoints(image.image_id)
                if len(keypoints):
                    order = np.argsort(-np.abs(keypoints[:, 2:]).sum(axis=1), kind="stable")
                    largest.append(database.read_descriptors(image.image_id).data[order[:400]])
            if sum(map(len, largest)) < 64:
                return []
            descriptors = np.concatenate(largest).astype(np.float32)
            index = pycolmap.VisualIndex.create(descriptors.shape[1], 64)
            build = pycolmap.VisualIndex.BuildOptions(num_iterations=20, num_rounds=1, num_threads=_threads())
            build.num_visual_words = int(np.clip(len(descriptors) // 40, 1, 4096))
            index.build(build, pycolmap.FeatureDescriptorsFloat(pycolmap.FeatureExtractorType.SIFT, descriptors))
            index.write(self._work / "vocabulary.bin")
            options = pycolmap.VocabTreePairingOptions(
                vocab_tree_path=self._work / "vocabulary.bin",
                num_images=neighbours,
                max_num_features=400,
                num_threads=_threads(),
            )
            pairs: list[tuple[int, int]] = pycolmap.VocabTreePairGenerator(options, database, list(of)).all_pairs()
        return pairs

    @property
    def threads(self) -> int:
        """For what gives the same result each time by one alone."""
        return 1 if len(self._views) <= _REPEATABLE_IMAGES else _threads()

    def shared(self, own: Tracks, added: Tracks) -> Shared:
        """Which points of two models are the same, by the features that match between their pictures.

        Args:
            own, added: what each of the pictures shows.
        """
        result = []
        with pycolmap.Database.open(self._database) as database:
            known = {image.name: image.image_id for image in database.read_all_images()}
            points = {
                name: _points_of(database.read_keypoints(known[name]), *seen) for name, seen in {**own, **added}.items()
            }
            numbers = {known[name]: name for name in points}
            for pair, _ in zip(*database.read_two_view_geometry_num_inliers(), strict=True):
                i, j = pycolmap.pair_id_to_image_pair(pair)
                names = numbers.get(i, ""), numbers.get(j, "")
                if names[0] not in own or names[1] not in added:
                    continue
                matches = database.read_two_view_geometry(i, j).inlier_matches.astype(int)
                both = np.stack([points[name][matches[:, k]] for k, name in enumerate(names)], axis=1)
                both = both[(both >= 0).all(axis=1)]
                if len(both):
                    result.append((*names, both))
        return result

    def match(self, pairs: list[tuple[str, str]], kind: str) -> None:
        """Match the features of the pairs and keep what one rigid motion explains."""
        self._matching.append(kind)
        pairing = pycolmap.ImportedPairingOptions(match_list_path=self._work / "pairs.txt")
        pairing.match_list_path.write_text("".join(f"{a} {b}\n" for a, b in pairs))
        matching = pycolmap.FeatureMatchingOptions(num_threads=_threads())
        verification = pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = _SEED
        known = self._read(lambda database: database.num_matched_image_pairs())
        with (
            self._timer.step("matching"),
            self._progress(
                "matching", len(pairs), lambda database: database.num_matched_image_pairs() - known
            ) as cancellation,
        ):
            pycolmap.match_image_pairs(
                self._database,
                matching_options=matching,
                pairing_options=pairing,
                verification_options=verification,
                device=_device(),
                cancellation_token=cancellation,
            )

    def map(self) -> Result:
        """Poses and points from the matches: the largest of the models that come out."""
        mapper: str = self._options.mapper
        if mapper == "auto":
            mapper = "incremental" if len(self._views) <= _INCREMENTAL_IMAGES else "global"
        with self._timer.step("mapping"):
            models = self._map_globally() if mapper == "global" else self._map_incrementally()
            if mapper == "global" and self._options.mapper == "auto":
                most = max((model.num_reg_images() for model in models), default=0)
                if most < _ENOUGH * len(self._views):
                    models += self._map_incrementally()
                    mapper = "global, then incremental"
        models.sort(key=lambda model: -model.num_reg_images())
        return self.result(models, mapper)

    def _map_incrementally(self) -> list[pycolmap.Reconstruction]:
        options = pycolmap.IncrementalPipelineOptions(
            random_seed=_SEED,
            num_threads=self.threads,
            extract_colors=False,
            min_model_size=3,
        )
        meter = Meter("prepare:mapping", len(self._views))
        placed = 0

        def place(pictures: int) -> None:
            nonlocal placed
            placed = pictures
            meter.update(min(placed, len(self._views) - 1))

        models = pycolmap.incremental_mapping(
            self._database,
            self._folder,
            self._output(),
            options,
            initial_image_pair_callback=lambda: place(2),  # also of every new model
            next_image_callback=lambda: place(placed + 1),
        )
        meter.update(len(self._views))
        return list(models.values())

    def _map_globally(self) -> list[pycolmap.Reconstruction]:
        if sum(view.focal is None for view in self._views) > len(self._views) / 2:
            pycolmap.calibrate_view_graph(self._database, pycolmap.ViewGraphCalibrationOptions(random_seed=_SEED))
        options = pycolmap.GlobalPipelineOptions(random_seed=_SEED, num_threads=_threads())
        options.mapper.global_positioning.use_gpu = gpu()
        options.mapper.bundle_adjustment.ceres.use_gpu = gpu()
        return list(pycolmap.global_mapping(self._database, self._folder, self._output(), options).values())

    def _output(self) -> Path:
        """An empty folder: the mapper writes its models there, beside handing them back."""
        folder = self._work / "models"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def only_turned(self) -> bool:
        """Return whether the pictures that match were all taken from one spot (`jobs.sfm.reconstruction.parallax`)."""
        (size, _), *_ = Counter((view.width, view.height) for view in self._views).most_common(1)
        names = {view.name for view in self._views if (view.width, view.height) == size}
        with pycolmap.Database.open(self._database) as database:
            same = {image.image_id for image in database.read_all_images() if image.name in names}
            counts = zip(*database.read_two_view_geometry_num_inliers(), strict=True)
            found = [pycolmap.pair_id_to_image_pair(pair) for pair, inliers in counts if inliers >= 2 * _FEW_MATCHES]
            found = sorted(pair for pair in found if same.issuperset(pair))
            pairs = []
            for i, j in found[:: max(1, len(found) // _LOOKED_AT)]:
                matches = database.read_two_view_geometry(i, j).inlier_matches.astype(int)
                a, b = (database.read_keypoints(image)[matches[:, k], :2] for k, image in enumerate((i, j)))
                pairs.append((a.astype(float), b.astype(float)))
        return parallax.only_turned(pairs, size)

    def result(self, models: list[pycolmap.Reconstruction], mapper: str) -> Result:
        """What the models tell, with the figures of features and matches; `models` the largest first."""
        with pycolmap.Database.open(self._database) as database:
            names = {image.image_id: image.name for image in database.read_all_images()}
            features = {name: database.num_keypoints_for_image(image_id) for image_id, name in names.items()}
            best = Counter[str]()
            for pair, inliers in zip(*database.read_two_view_geometry_num_inliers(), strict=True):
                for image_id in pycolmap.pair_id_to_image_pair(pair):
                    best[names[image_id]] = max(best[names[image_id]], inliers)
        return Result(
            model=models[0] if models else None,
            matching=", then ".join(self._matching),
            mapper=mapper,
            models=[model.num_reg_images() for model in models],
            features=features,
            best_matches=best,
            elsewhere={i.name for model in models[1:] for i in model.images.values() if i.has_pose},
            search=self,
        )

    def _read(self, question: Callable[[Any], int]) -> int:
        with pycolmap.Database.open(self._database) as database:
            return question(database)

    @contextmanager
    def _progress(self, step: str, total: int, done: Callable[[Any], int]) -> Iterator[Any]:
        """Tell how far a step of COLMAP is by looking into its database from a thread; yields what cancels the step.

        Through pycolmap alone: another SQLite library in the same process breaks the first one's file locks.

        Raises:
            OSError: the disk is nearly full. COLMAP would abort the process on a full one.
        """
        meter = Meter(f"prepare:{step}", total)
        ended = threading.Event()
        cancellation = pycolmap.CancellationToken()

        def watch() -> None:
            with pycolmap.Database.open(self._database) as database:
                while not ended.wait(1.0):
                    meter.update(min(done(database), total - 1))
                    if shutil.disk_usage(self._work).free < _ROOM_BYTES:
                        cancellation.cancel()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield cancellation
        except InterruptedError:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._work)) from None
        finally:
            ended.set()
            thread.join()
        meter.update(total)


def _images_with_features(database: Any) -> int:
    return sum(database.exists_keypoints(image.image_id) for image in database.read_all_images())


def _points_of(keypoints: NDArray[np.float32], seen: NDArray[np.float64], points: NDArray[np.int64]) -> Points:
    """The number of the point that each keypoint (n, 2 and more) shows, -1 where none was seen within a pixel."""
    if not len(seen) or not len(keypoints):
        return np.full(len(keypoints), -1)
    distances, nearest = cKDTree(seen).query(keypoints[:, :2])
    found: Points = np.where(distances < 1, points[nearest], -1)
    return found


def _write_views(database: Any, views: list[View]) -> None:
    """Cameras and images, numbered on in the order given; each image is a rig's frame of its own."""
    sizes = Counter(view.camera for view in views)
    cameras: dict[str, Any] = {}
    known = database.num_cameras()
    for number, view in enumerate(views, database.num_images() + 1):
        if view.camera not in cameras:
            diagonal = float(np.hypot(view.width, view.height))
            # COLMAP guesses 1.2 times the longer side where EXIF says nothing.
            focal = view.focal * diagonal if view.focal else 1.2 * max(view.width, view.height)
            # Eight parameters of distortion and focal length bend to the noise of a few pictures.
            model = "OPENCV" if sizes[view.camera] >= 8 else "SIMPLE_RADIAL"
            camera = pycolmap.Camera.create_from_model_name(
                known + len(cameras) + 1, model, focal, view.width, view.height
            )
            camera.has_prior_focal_length = view.focal is not None
            database.write_camera(camera, use_camera_id=True)
            rig = pycolmap.Rig(rig_id=camera.camera_id)
            rig.add_ref_sensor(camera.sensor_id)
            database.write_rig(rig, use_rig_id=True)
            cameras[view.camera] = camera
        camera_id = cameras[view.camera].camera_id
        image = pycolmap.Image(name=view.name, camera_id=camera_id, image_id=number)
        database.write_image(image, use_image_id=True)
        frame = pycolmap.Frame(frame_id=number, rig_id=camera_id)
        frame.add_data_id(image.data_id)
        database.write_frame(frame, use_frame_id=True)


def _device() -> Any:
    """For features and matches; a pycolmap that is built for CUDA does not look for itself whether there is a GPU."""
    return pycolmap.Device.cuda if gpu() else pycolmap.Device.cpu


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
