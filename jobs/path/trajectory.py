"""Camera paths made from the cameras of a capture.

`tour` goes along them, `orbit` around what they look at, `sweep` straight past it, `spiral` a little about one of them.
All stay where the capture saw something. Poses are in the model's frame (+Z up, OpenGL camera axes), without roll.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median_high
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.camera_path import GENERATED, CameraPath, Frame
from jobs.errors import InvalidInput
from jobs.options import RenderOptions
from jobs.path.capture import OFF, Capture, unit, upright
from jobs.path.sight import covered

__all__ = [
    "KINDS",
    "Capture",
    "generate",
    "model_to_dataset",
    "moments",
    "orbit",
    "photo_shape",
    "read_capture",
    "read_points",
    "spiral",
    "sweep",
    "tour",
]

Array = NDArray[np.float64]

_LOOK_WEIGHT = 0.4  # of a difference in look against one in place, both as they shift the picture
_TURN_COST = 0.06  # what a radian of turning costs a tour, in the distance that cameras are off it, by the depth
_MOST_STOPS = 30  # of a tour
_CLOSED_GAP = np.radians(75)  # cameras with a wider gap between them do not go all round
_ARC_MARGIN = 0.05  # of an open arc, left out at each end, where few photos saw the scene
_PLY_TYPES = {"float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8", "uchar": "u1", "uint8": "u1"}
_ORBIT_BLUR = np.radians(15)
_ONE_FRONT = 0.8  # length of the mean look of photos of one front: they differ by 37 degrees from it on the whole
_STRICTER = 0.9  # the bound where a way is laid out, for between its samples it may be a little farther off
_AROUND = 720  # samples of an orbit
_TURN_PACE = 1.5  # a tour goes slower where more radians than this come on a way as long as the depth
_SPIRAL = np.array([0.12, 0.06, 0.06])  # how far a spiral goes to the right, up and back, by the depth
_SPIRAL_TURNS = 2
_CLOSED = ("orbit", "spiral")  # they end where they began


def generate(kind: str, dataset: Path, model: Path, options: RenderOptions) -> CameraPath:
    """A camera path through what the dataset saw, in the model's frame.

    If the options name none, the shape of the video and its field of view are those of the photos. A field of view
    that does not fit the video's shape is made narrower.

    Args:
        kind: one of `KINDS`.
        dataset: folder with `transforms.json`, or such a file.
        model: folder with `dataparser_transforms.json`.
        options: with the profile filled in: size, length, pace, projection.

    Raises:
        InvalidInput: see `read_capture`, `orbit`, `sweep` and `RenderOptions.in_shape`.
    """
    capture = read_capture(dataset, model)
    options = options.in_shape(capture.shape)
    assert options.width and options.height and options.seconds and options.fps
    # 29.97 frames a second are that, though no whole number of them may fill the time.
    seconds = options.seconds if options.fps == int(options.fps) else options.frames / options.fps
    aspect = options.width / options.height
    horizontal, vertical = capture.half_field
    fov = options.field_of_view or float(np.degrees(2 * np.arctan(min(vertical, horizontal / aspect))))
    if apart := len(capture.centres) - len(capture.largest_part().centres):
        print(
            f"{apart} of {len(capture.centres)} photos are apart from the others: {kind} leaves them out.", flush=True
        )
    poses = KINDS[kind](capture, moments(kind, options.frames, options.easing == "ease", options.loop))
    _check_covered(kind, capture, poses)
    return CameraPath(
        render_width=options.width,
        render_height=options.height,
        fps=options.frames / seconds,
        seconds=seconds,
        camera_type=options.camera_type or "perspective",
        camera_path=[Frame(camera_to_world=p.flatten().tolist(), fov=fov, aspect=aspect) for p in poses],
        crop=options.crop,
    )


def _check_covered(kind: str, capture: Capture, poses: Array) -> None:
    into_nothing = np.flatnonzero(~covered(capture, poses[:, :3, 3], -poses[:, :3, 2]))
    if len(into_nothing):
        raise InvalidInput(
            f"The path {kind} leaves what the photos saw at frame {into_nothing[0] + 1} of {len(poses)}: take the "
            "spiral, which stays about one photo, or make a path in the viewer."
        )


def moments(kind: str, frames: int, ease: bool = False, loop: bool = False) -> Array:
    """(frames,) where on a path of `kind` each frame is: 0 is its beginning, 1 its end.

    Args:
        kind: one of `KINDS`.
        frames: at least 2.
        ease: begin and end slowly, by the smoothstep polynomial; else at an even pace.
        loop: end where it began. Orbit and spiral do; others go there and, turning softly, back.
    """
    closed = kind in _CLOSED
    # Where the first frame follows upon the last, it is not shown twice.
    even = np.arange(frames) / (frames if closed or loop else frames - 1)
    eased = even**2 * (3 - 2 * even) if ease else even
    there: Array = 0.5 - 0.5 * np.cos(2 * np.pi * eased) if loop and not closed else eased
    return there


def read_capture(dataset: Path, model: Path) -> Capture:
    """The cameras of a dataset, in the frame of a model that was trained on it.

    Raises:
        InvalidInput: a file is missing or holds no camera.
    """
    file, meta, way = _opened(dataset, model)
    frames = meta.get("frames", [])
    if not frames:
        raise InvalidInput(f"{file} has no frames: prepare the dataset again.")
    rotation, scale, shift = way
    poses = np.array([frame["transform_matrix"] for frame in frames], dtype=np.float64)
    centres = scale * (poses[:, :3, 3] @ rotation.T + shift)
    looks = unit(-poses[:, :3, 2] @ rotation.T)
    half_fields = [_half_field(meta | frame) for frame in frames]
    horizontal, vertical = np.median(half_fields, axis=0)
    points, _ = _points(file, meta, way)
    depth = _typical_depth(centres, looks, points, max(horizontal, vertical))
    return Capture(centres, looks, depth, (float(horizontal), float(vertical)), points, photo_shape(meta))


def photo_shape(transforms: dict[str, Any]) -> float:
    """Return the width of most photos divided by their height; 16:9 where they show all round or name no size.

    Args:
        transforms: the content of a dataset's `transforms.json`.
    """
    photos = [transforms | frame for frame in transforms.get("frames", [])]
    shapes = [
        photo["w"] / photo["h"]
        for photo in photos
        if photo.get("w") and photo.get("h") and photo.get("camera_model") != "EQUIRECTANGULAR"
    ]
    return float(median_high(shapes)) if shapes else 16 / 9


def read_points(dataset: Path, model: Path) -> tuple[Array, Array]:
    """(N, 3) the sparse points of a dataset in the frame of a model, and (N, 3) their colours, 0 to 255.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    return _points(*_opened(dataset, model))


def tour(capture: Capture, at: Array) -> Array:
    """(F, 4, 4) poses at the moments `at` (F,), 0 to 1, of a way along the capture.

    It is the simplest smooth line that passes near most of the cameras.

    Cameras are gathered to as few stops as will do, the stops are put in the order of the shortest way through
    them, whatever the order of the photos was, and the way is smoothed. The camera goes at a constant speed, by the
    length of its way; where it turns by more than 1.5 radians on a way as long as the typical depth, as at the corners
    of a corridor, it goes slower, so that the turn is at a constant speed instead. The way is gone in the direction
    that the order of the photos has on the whole. Photos apart from most are left out, and where the way would leave
    what the photos cover (`sight.covered`), it is cut to its longest part that does not.

    Raises:
        InvalidInput: there is no such way: the photos are too far from each other.
    """
    capture = _together(capture)
    places = np.hstack([capture.centres / capture.depth, _LOOK_WEIGHT * capture.looks])
    places = places[:: 1 + len(places) // 500]
    way = _simplest_way(places, capture)
    nearest = np.linalg.norm(places[:, None] - way, axis=2).argmin(axis=1)
    if _goes_back(nearest):
        way = way[::-1]
    centres, looks = way[:, :3] * capture.depth, unit(way[:, 3:])
    shift, turn = (np.linalg.norm(np.diff(a, axis=0), axis=1) for a in (way[:, :3], looks))
    pace = np.maximum(shift, turn / _TURN_PACE)
    gone = np.concatenate([[0], np.cumsum(pace)])
    wanted = gone[-1] * at
    centres, looks = (np.stack([np.interp(wanted, gone, c) for c in a.T], axis=1) for a in (centres, looks))
    return upright(centres, looks)


def orbit(capture: Capture, at: Array) -> Array:
    """(F, 4, 4) poses at the moments `at` (F,), 0 to 1, of a way around the focus.

    It is at the distance and height that the cameras have on that side.

    Goes once all round where the cameras do; else swings to and fro over the longest arc that they cover
    (`sight.covered`). Both end where they begin, so that the video can be looped.

    Raises:
        InvalidInput: the photos do not look at one place, or cover nothing of a way around it.
    """
    capture = _together(capture)
    focus = capture.focus
    offsets = capture.centres - focus
    angles = np.arctan2(offsets[:, 1], offsets[:, 0])
    towards = float(np.median(np.einsum("ij,ij->i", unit(-offsets), capture.looks)))
    if abs(towards) < 0.5:
        raise InvalidInput("The photos do not look at one place that an orbit could go around; take the tour instead.")
    look = np.sign(towards)
    around, radius, height = _ring(offsets, angles, _CLOSED_GAP)
    seen = covered(capture, *_on_ring(focus, look, around, radius, height), _STRICTER * OFF)
    closed = around[-1] - around[0] >= 2 * np.pi and bool(seen.all())
    if not closed:
        around, radius, height = _ring(offsets, angles, 0.0)
        seen = covered(capture, *_on_ring(focus, look, around, radius, height), _STRICTER * OFF)
        run = _longest_run(seen)
        if run.stop - run.start < 2:
            raise InvalidInput("The photos cover nothing of a way around what they look at; take the tour instead.")
        around, radius, height = around[run], radius[run], height[run]
    share = at if closed else 0.5 - 0.5 * np.cos(2 * np.pi * at)
    to = around[0] + (around[-1] - around[0]) * share
    way = _on_ring(focus, look, to, *(np.interp(to, around, each) for each in (radius, height)))
    return upright(*way)


def _ring(offsets: Array, angles: Array, closed_gap: float) -> tuple[Array, Array, Array]:
    """(S,) angles over the arc of the cameras, and the radius and height that these have there on the whole.

    Args:
        offsets: (N, 3) of the cameras from the focus.
        angles: (N,) of them about +Z, radians.
        closed_gap: see `_arc`.
    """
    around = np.linspace(*_arc(angles, closed_gap), _AROUND + 1)
    apart = np.angle(np.exp(1j * (around[:, None] - angles)))
    near = np.exp(-0.5 * (apart / _ORBIT_BLUR) ** 2) + 1e-12
    near /= near.sum(axis=1, keepdims=True)
    return around, near @ np.linalg.norm(offsets[:, :2], axis=1), near @ offsets[:, 2]


def _on_ring(focus: Array, look: float, around: Array, radius: Array, height: Array) -> tuple[Array, Array]:
    """(S, 3) places about the focus, and (S, 3) looks towards it, or from it where `look` is -1."""
    offsets = np.stack([radius * np.cos(around), radius * np.sin(around), height], axis=1)
    return focus + offsets, unit(-look * offsets)


def sweep(capture: Capture, at: Array) -> Array:
    """(F, 4, 4) poses at the moments `at` (F,), 0 to 1, of a straight way past a front, all looking the same way.

    Raises:
        InvalidInput: the photos do not look at one front, or were not taken along a line before it.
    """
    capture = _together(capture)
    mean = capture.looks.mean(axis=0)
    look = unit(mean)
    middle = capture.centres.mean(axis=0)
    sideways = capture.centres - middle
    sideways = sideways - np.outer(sideways @ look, look)
    across = np.linalg.svd(sideways, full_matrices=False)[2][0]
    along = sideways @ across
    if _goes_back(along):
        across, along = -across, -along
    # At the ends the photos often look inwards: what is right before the last camera, no photo may have seen.
    aims = along + capture.depth * (capture.looks @ across)
    ends = np.quantile([along, aims], [_ARC_MARGIN, 1 - _ARC_MARGIN], axis=1)
    first, last = ends[0].max(), ends[1].min()
    slope = along @ (capture.centres - middle) / max(float(along @ along), 1e-12)
    centres = middle + (first + (last - first) * at)[:, None] * slope
    looks = np.tile(look, (len(at), 1))
    one_front = np.linalg.norm(mean) >= _ONE_FRONT and last - first >= 0.1 * capture.depth
    if not one_front or not covered(capture, centres, looks).all():
        raise InvalidInput("The photos were not taken along one front that a sweep could pass; take the tour instead.")
    return upright(centres, looks)


def spiral(capture: Capture, at: Array) -> Array:
    """(F, 4, 4) poses at the moments `at` (F,), 0 to 1, of a small spiral about the middlemost camera.

    It looks at what is in the middle of that camera's photo.

    It shows the depth of the scene from where it was seen best, and ends where it begins. After LLFF (Mildenhall et
    al. 2019), whose spiral is about the mean of the cameras, where none need be.
    """
    capture = capture.largest_part()
    places = np.hstack([capture.centres / capture.depth, capture.looks])
    some = places[:: 1 + len(places) // 500]
    middle = int(np.argmin([np.linalg.norm(place - some, axis=1).sum() for place in places]))
    centre, look = capture.centres[middle], capture.looks[middle]
    axes = upright(centre[None], look[None])[0, :3, :3]
    turn = 2 * np.pi * _SPIRAL_TURNS * at
    offsets = np.stack([np.cos(turn), np.sin(turn), np.sin(turn / _SPIRAL_TURNS)], axis=1) * _SPIRAL * capture.depth
    centres = centre + offsets @ axes.T
    return upright(centres, centre + capture.depth * look - centres)


def _together(capture: Capture) -> Capture:
    """The largest part of a capture, of two photos at least."""
    part = capture.largest_part()
    if len(part.centres) < 2:
        raise InvalidInput("The photos are too far from each other for a way along them; take the spiral instead.")
    return part


def _goes_back(at: NDArray[Any]) -> bool:
    """Whether places along a path, in the order of the photos, fall on the whole: it began where the capture ended."""
    return bool(np.polyfit(np.arange(len(at)), at, 1)[0] < 0)


def _longest_run(seen: NDArray[np.bool_]) -> slice:
    """The longest stretch of true values; an empty one where there is none."""
    edges = np.flatnonzero(np.diff(seen.astype(int), prepend=0, append=0)).reshape(-1, 2)
    if not len(edges):
        return slice(0, 0)
    first, last = edges[np.diff(edges, axis=1).argmax()].tolist()
    return slice(first, last)


def _arc(angles: Array, closed_gap: float) -> tuple[float, float]:
    """The first and last of `angles` (radians) on the arc that they cover; 2 pi apart where they go all round.

    They do where no two of them are farther apart than `closed_gap`.
    """
    ordered = np.sort(angles)
    gaps = np.diff(ordered, append=ordered[0] + 2 * np.pi)
    widest = int(gaps.argmax())
    first = float(ordered[(widest + 1) % len(ordered)])
    if gaps[widest] < closed_gap and len(ordered) > 2:
        return first, first + 2 * np.pi
    covered = 2 * np.pi - float(gaps[widest])
    return first + _ARC_MARGIN * covered, first + (1 - _ARC_MARGIN) * covered


def _simplest_way(places: Array, capture: Capture) -> Array:
    """(M, D) the smooth line that is the best bargain between passing near the places and going straight.

    Of each line, it is the longest part that the photos cover.
    """
    best, lowest = np.empty((0, places.shape[1])), np.inf
    for number in range(min(2, len(places)), min(_MOST_STOPS, len(places)) + 1):
        stops = _in_order(_gather(places, number))
        way = _fit(places, stops)
        way = way[_longest_run(covered(capture, way[:, :3] * capture.depth, unit(way[:, 3:]), _STRICTER * OFF))]
        if len(way) < 2:
            continue
        off = np.quantile(np.linalg.norm(places[:, None] - way, axis=2).min(axis=1), 0.9)
        steps = unit(np.diff(stops, axis=0))
        turning = np.arccos(np.clip(np.einsum("ij,ij->i", steps[1:], steps[:-1]), -1, 1)).sum()
        if off + _TURN_COST * turning < lowest:
            best, lowest = way, off + _TURN_COST * turning
    if not len(best):
        raise InvalidInput("The photos are too far from each other for a way along them; take the spiral instead.")
    return best


def _gather(places: Array, number: int) -> Array:
    """(number, D) means of clusters of places: Lloyd's k-means from the places farthest from each other."""
    means = places[[int(np.linalg.norm(places - places.mean(axis=0), axis=1).argmax())]]
    while len(means) < number:
        apart = np.linalg.norm(places[:, None] - means, axis=2).min(axis=1)
        means = np.vstack([means, places[apart.argmax()]])
    for _ in range(20):
        nearest = np.linalg.norm(places[:, None] - means, axis=2).argmin(axis=1)
        means = np.stack([places[nearest == k].mean(axis=0) if k in nearest else means[k] for k in range(number)])
    return means


def _in_order(stops: Array) -> Array:
    """The stops in the order of a short open way through all: nearest neighbour from each, then 2-opt (Croes 1958)."""
    apart = np.linalg.norm(stops[:, None] - stops, axis=2)
    best, shortest = list(range(len(stops))), np.inf
    for start in range(len(stops)):
        order, left = [start], set(range(len(stops))) - {start}
        while left:
            order.append(min(left, key=lambda k: apart[order[-1], k]))
            left.remove(order[-1])
        while _untangle(order, apart):
            pass
        length = float(apart[order[:-1], order[1:]].sum())
        if length < shortest - 1e-9:
            best, shortest = order, length
    return stops[best]


def _untangle(order: list[int], apart: Array) -> bool:
    """Turn round every stretch of `order` that makes the way shorter when turned; whether there was any."""
    better = False
    for i in range(len(order) - 1):
        for j in range(i + 1, len(order)):
            first, last, gain = order[i], order[j], 0.0
            if i > 0:
                gain += apart[order[i - 1], first] - apart[order[i - 1], last]
            if j + 1 < len(order):
                gain += apart[last, order[j + 1]] - apart[first, order[j + 1]]
            if gain > 1e-9:
                order[i : j + 1] = order[i : j + 1][::-1]
                better = True
    return better


def _fit(places: Array, stops: Array, samples: int = 300) -> Array:
    """(samples, D) a smooth line through the middle of the places along the way of the stops.

    The places are projected to the way and locally fitted by lines over its length, with a bandwidth of half the
    distance of two stops: a step of a principal curve (Hastie & Stuetzle 1989), taken twice.
    """
    share = np.linspace(0, len(stops) - 1, samples)
    way = np.stack([np.interp(share, np.arange(len(stops)), axis) for axis in stops.T], axis=1)
    width = samples / len(stops) / 2
    for _ in range(2):
        at = np.linalg.norm(places[:, None] - way, axis=2).argmin(axis=1)
        along = np.linspace(at.min(), at.max(), samples)
        near = np.exp(-0.5 * ((along[:, None] - at) / width) ** 2) + 1e-12
        near /= near.sum(axis=1, keepdims=True)
        middle = near @ at
        offsets = at - middle[:, None]
        slopes = (near * offsets) @ places / (near * offsets**2).sum(axis=1, keepdims=True).clip(1e-9)
        way = near @ places + (along - middle)[:, None] * slopes
    return way


def _dataset_to_model(meta: dict[str, Any], saved: dict[str, Any]) -> tuple[Array, float, Array]:
    """Rotation (3, 3), scale and shift (3,) with which `scale * (rotation @ p + shift)` leads to the model's frame.

    nerfstudio saves the way from the frame before `applied_transform` and `applied_scale`
    (`nerfstudio_dataparser.py`); the poses in `transforms.json` are in the one after them.
    """
    applied, transform = np.eye(4), np.eye(4)
    applied[:3] = meta.get("applied_transform", applied[:3])
    transform[:3] = saved["transform"]
    transform = transform @ np.linalg.inv(applied)
    return transform[:3, :3], float(saved["scale"]) / float(meta.get("applied_scale", 1.0)), transform[:3, 3]


def model_to_dataset(dataset: Path, model: Path) -> tuple[Array, float, Array]:
    """Rotation (3, 3), scale and shift (3,) with which `scale * (rotation @ p + shift)` leads from a model's frame to
    that of its dataset's `transforms.json`: the identity for datasets of `jobs.prepare`.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    _, _, (rotation, scale, shift) = _opened(dataset, model)
    return rotation.T, 1 / scale, -scale * (shift @ rotation)


def _half_field(camera: dict[str, Any]) -> tuple[float, float]:
    """Tangents of half the horizontal and vertical field of view of a camera of `transforms.json`."""
    if "fl_x" not in camera or camera.get("camera_model") == "EQUIRECTANGULAR":
        return 1.0, 1.0
    half = np.array([camera["w"] / 2 / camera["fl_x"], camera["h"] / 2 / camera.get("fl_y", camera["fl_x"])])
    if "FISHEYE" in camera.get("camera_model", ""):
        half = np.tan(np.minimum(half, np.radians(50)))  # its angle grows with the distance from the centre
    return float(half[0]), float(half[1])


def _typical_depth(centres: Array, looks: Array, points: Array, half_field: float) -> float:
    """The median distance, along its axis, of the points before a camera; the capture's extent where there are none."""
    extent = float(np.sqrt(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())) or 1.0
    points = points[:: max(1, len(points) // 2000)]
    some = slice(None, None, 1 + len(centres) // 1000)  # so that memory does not grow with the photos
    centres, looks = centres[some], looks[some]
    offsets = points[None] - centres[:, None]
    depths = np.einsum("npi,ni->np", offsets, looks)
    seen = depths > np.linalg.norm(offsets, axis=2) / np.hypot(1, half_field)
    return float(np.median(depths[seen])) if seen.sum() >= 10 else extent


def _read_ply(file: Path) -> tuple[Array, Array]:
    """(N, 3) the vertices of a PLY file, text or little endian, as nerfstudio and COLMAP write it, and (N, 3) their
    colours, 0 to 255, grey where there are none; no points without a file."""
    if not file.is_file():
        return np.empty((0, 3)), np.empty((0, 3))
    with file.open("rb") as stream:
        header = []
        while (words := stream.readline(200).decode("ascii", "replace").split()) not in ([], ["end_header"]):
            header.append(words)
        count = next(int(words[2]) for words in header if words[:2] == ["element", "vertex"])
        layout = [(words[2], _PLY_TYPES[words[1]]) for words in header if words[:1] == ["property"] and len(words) == 3]
        if ["format", "ascii", "1.0"] in header:
            table = np.loadtxt(stream, max_rows=count, ndmin=2, usecols=range(len(layout)))
            columns = {name: table[:, index] for index, (name, _) in enumerate(layout)}
        else:
            vertices = np.frombuffer(stream.read(count * np.dtype(layout).itemsize), dtype=layout)
            columns = {name: vertices[name].astype(np.float64) for name, _ in layout}
    grey = np.full(count, 128.0)
    colours = [columns.get(name, grey) for name in ("red", "green", "blue")]
    return np.stack([columns[axis] for axis in "xyz"], axis=1), np.stack(colours, axis=1)


def _opened(dataset: Path, model: Path) -> tuple[Path, dict[str, Any], tuple[Array, float, Array]]:
    """The JSON file of a dataset, given as a folder or as that file, its content, and the way to a model's frame."""
    file = dataset if dataset.suffix == ".json" else dataset / "transforms.json"
    meta = _read_json(file)
    return file, meta, _dataset_to_model(meta, _read_json(model / "dataparser_transforms.json"))


def _points(file: Path, meta: dict[str, Any], way: tuple[Array, float, Array]) -> tuple[Array, Array]:
    """What `read_points` gives, of an opened dataset."""
    rotation, scale, shift = way
    points, colours = _read_ply(file.parent / meta.get("ply_file_path", "."))
    return scale * (points @ rotation.T + shift), colours


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read: is this a whole dataset or model? ({error})") from error


KINDS = dict(zip(GENERATED, (tour, orbit, sweep, spiral), strict=True))
"""The generated paths by name."""
