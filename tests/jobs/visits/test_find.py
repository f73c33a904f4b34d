"""What has changed in a yard whose truth is known, under another sun and from other places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jobs.changes import describe, kinds_of, listed
from jobs.demo.raster import Patch
from jobs.metric.scene import Area, Scale
from jobs.visits import masks
from jobs.visits.find import Patch as Found
from jobs.visits.find import Settings, SurfacePair, examine, find_patches
from jobs.visits.leaves import without_leaves
from jobs.visits.moved import find_moves, kind_of
from jobs.visits.views import View
from tests.jobs.visits import room, yard

BLUE, YELLOW = (0.2, 0.35, 0.6), (0.85, 0.75, 0.2)
THEN = [*yard.base(), *yard.board(YELLOW), *yard.chest(-3.2)]
NOW = [*yard.base(), *yard.board(BLUE), *yard.chest(2.2)]


@pytest.fixture(scope="module")
def then() -> list[View]:
    return yard.visit(THEN, yard.MORNING, 0.0, "then")


@pytest.fixture(scope="module")
def now() -> list[View]:
    return yard.visit(NOW, yard.EVENING, 0.15, "now")


@pytest.fixture(scope="module")
def found(then: list[View], now: list[View]) -> tuple[SurfacePair, list[Found]]:
    surfaces = examine(then, now, Settings())
    return surfaces, find_patches(*surfaces, Settings())


def test_changes_are_found_with_their_kinds_places_and_areas(
    found: tuple[SurfacePair, list[Found]],
) -> None:
    patches = {kind_of(patch): patch for patch in found[1]}
    assert sorted(kind_of(patch) for patch in found[1]) == ["changed", "gone", "new"]
    np.testing.assert_allclose(patches["changed"].centre, [0.2, -0.06, 1.55], atol=0.15)
    assert patches["changed"].area == pytest.approx(1.2 * 0.9, rel=0.35)
    assert 2.1 < patches["new"].centre[0] < 3.3 and patches["new"].centre[2] < 1.1
    assert -3.3 < patches["gone"].centre[0] < -2.1 and patches["gone"].centre[2] < 1.1
    assert all(patch.photos >= Settings().least_photos for patch in found[1])


def test_masks_agree_with_the_truth(found: tuple[SurfacePair, list[Found]], now: list[View]) -> None:
    surfaces, patches = found
    both = either = false = unchanged = 0
    for view in now:
        truth = yard.changed(THEN, NOW, view)
        marked = masks.label(view, *surfaces, patches) > 0
        both, either = both + int((truth & marked).sum()), either + int((truth | marked).sum())
        false, unchanged = false + int((marked & ~truth).sum()), unchanged + int((~truth).sum())
    assert both / either >= 0.6
    assert false / unchanged <= 0.02


def test_another_sun_and_other_places_and_colours_of_light_are_no_change(then: list[View]) -> None:
    again = yard.visit(THEN, yard.EVENING, 0.2, "again")
    cast = np.array([0.35, 0.0, -0.25], np.float32)  # another white balance
    again = [replace(view, light=view.light + cast) for view in again]
    assert find_patches(*examine(then, again, Settings()), Settings()) == []


def test_areas_are_in_square_metres_if_the_scene_has_a_scale(
    found: tuple[SurfacePair, list[Found]], now: list[View]
) -> None:
    surfaces, patches = found
    plain = describe(patches, [], surfaces, now, Settings(), None)
    metric = describe(patches, [], surfaces, now, Settings(), Scale(metres=3.0, error=0.01))
    assert (plain.unit, metric.unit) == ("square units", "m²")
    assert metric.changes[0].area == pytest.approx(9 * plain.changes[0].area, rel=0.01)
    assert metric.least == pytest.approx(9 * plain.least, rel=0.1) and metric.area_error == pytest.approx(0.02)
    sizes = {change.kind: f"{change.kind} {change.area:.2g} m²" for change in metric.changes}
    listed = ", ".join(sizes[change.kind] for change in metric.changes)
    assert len(sizes) == 3 and metric.words == f"{metric.area:.2g} m² in 3 places: {listed}"
    twice = metric.model_copy(update={"changes": metric.changes * 2})
    large = metric.model_copy(update={"changes": (metric.changes[0].model_copy(update={"area": 1234.0}),)})
    assert large.words == f"1200 m² in 1 place: {metric.changes[0].kind} 1200 m²"
    assert twice.words == f"{twice.area:.2g} m² in 6 places: {listed}, 3 more"
    assert describe([], [], surfaces, now, Settings(), None).words.startswith("nothing larger than")


def test_a_change_has_the_name_of_the_area_that_it_is_in(
    found: tuple[SurfacePair, list[Found]], now: list[View]
) -> None:
    surfaces, patches = found
    first = patches[0]
    low, high = first.centre - 1, first.centre + 1
    corners = tuple(
        (x, float(first.centre[1]), z) for x, z in ((low[0], low[2]), (high[0], low[2]), (first.centre[0], high[2]))
    )
    named = describe(patches, [], surfaces, now, Settings(), None, areas=[Area(name="shop", corners=corners)])
    assert [change.name for change in named.changes] == ["shop", "", ""]
    assert f": shop: {named.changes[0].kind} " in named.words


def test_views_without_surfaces_are_not_compared(then: list[View], now: list[View]) -> None:
    sky = [replace(view, depths=np.zeros_like(view.depths)) for view in now]
    surfaces = examine(then, sky, Settings())
    assert [len(each.score) for each in surfaces] == [0, 0]
    assert find_patches(*surfaces, Settings()) == []


def test_what_stands_elsewhere_was_moved(found: tuple[SurfacePair, list[Found]], now: list[View]) -> None:
    surfaces, patches = found
    [move] = moves = find_moves(patches, *surfaces)
    record = describe(patches, moves, surfaces, now, Settings(), Scale(metres=2.0, error=0.01))
    assert sorted(change.kind for change in record.changes) == ["changed", "moved"]
    [moved] = [change for change in record.changes if change.kind == "moved"]
    assert moved.origin and moved.origin.centre[0] == pytest.approx(-2.7, abs=0.5)
    assert moved.centre[0] == pytest.approx(2.7, abs=0.5)
    assert moved.origin.distance == pytest.approx(2 * 5.4, rel=0.06) and moved.origin.fit == pytest.approx(1, abs=0.3)
    assert f"moved {moved.area:.2g} m² by {moved.origin.distance:.2g} m" in record.words
    assert sorted(kinds_of(patches, moves)) == ["changed", "moved", "moved"]
    places = listed(patches, moves)
    assert places[move.gone] == places[move.new] and sorted(set(places)) == [0, 1]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(yard.chest(2.2, (0.6, 0.15, 0.15)), id="colour"),
        pytest.param(yard.chest(2.2, height=1.8), id="height"),
        pytest.param(yard.chest(2.2, width=0.45), id="width"),
    ],
)
def test_unlike_things_are_not_one_that_was_moved(then: list[View], other: list[Patch]) -> None:
    surfaces = examine(
        then, yard.visit([*yard.base(), *yard.board(YELLOW), *other], yard.EVENING, 0.15, "now"), Settings()
    )
    patches = find_patches(*surfaces, Settings())
    assert sorted(kind_of(patch) for patch in patches) == ["gone", "new"]
    assert find_moves(patches, *surfaces) == []


def test_changes_in_a_room_are_found_all_around_under_another_sun() -> None:
    before = [*room.base(), *room.picture(YELLOW), *room.cupboard(-2.2)]
    then = room.visit(before, room.MORNING, 0.0, "then")
    after = [*room.base(), *room.picture(BLUE), *room.cupboard(1.4)]
    surfaces = examine(then, room.visit(after, room.EVENING, 0.1, "now"), Settings())
    patches = find_patches(*surfaces, Settings())
    assert sorted(kind_of(patch) for patch in patches) == ["changed", "gone", "new"]
    places = {kind_of(patch): patch.centre for patch in patches}
    np.testing.assert_allclose(places["changed"], [0.4, 1.96, 1.5], atol=0.15)
    [move] = find_moves(patches, *surfaces)
    apart = patches[move.new].centre - patches[move.gone].centre
    np.testing.assert_allclose(apart, [3.6, 0, 0], atol=0.3)  # each visit sees another side of it
    same = examine(then, room.visit(before, room.EVENING, 0.1, "same"), Settings())
    assert find_patches(*same, Settings()) == []


def test_leaves_in_another_colour_are_the_season() -> None:
    green, autumn = [(0.40, 0.54, 0.22), (0.34, 0.49, 0.22)], [(0.72, 0.48, 0.14), (0.66, 0.36, 0.12)]
    then = yard.visit([*yard.base(), *yard.bush(green)], yard.MORNING, 0.0, "then")
    board = yard.board((0.34, 0.52, 0.22))  # painted in the colours of the leaves: no season does that

    def found(now: list[Patch], before: list[View]) -> tuple[list[str], float]:
        surfaces = examine(before, yard.visit([*yard.base(), *now], yard.EVENING, 0.15, "now"), Settings())
        patches, leaves = without_leaves(find_patches(*surfaces, Settings()), *surfaces)
        record = describe(patches, [], surfaces, before, Settings(), None, leaves)
        assert ("leaves in another colour" in record.words) == (leaves > 0) == (record.leaves > 0)
        return [kind_of(patch) for patch in patches], leaves

    kinds, leaves = found(yard.bush(autumn), then)
    assert kinds == [] and leaves > 0.2
    surfaces = examine(then, yard.visit([*yard.base(), *yard.bush(autumn)], yard.EVENING, 0.15, "now"), Settings())
    gone = [replace(patch, gone=1.0, now=patch.now[:4]) for patch in find_patches(*surfaces, Settings())]
    assert gone and without_leaves(gone, *surfaces) == (gone, 0), "a bush that is gone is a change"
    assert "gone" in found([], then)[0]
    painted = yard.visit([*yard.base(), *board], yard.MORNING, 0.0, "then")
    assert found(yard.board(autumn[0]), painted) == (["changed"], 0)


def test_nothing_is_moved_if_two_things_could_be_it(found: tuple[SurfacePair, list[Found]]) -> None:
    surfaces, patches = found
    twin = next(patch for patch in patches if kind_of(patch) == "new")
    assert find_moves([*patches, twin], *surfaces) == []
