"""Evaluators that draw images: maps of features and reconstructions."""

import warnings

import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import ConfigError
from imgcls.evaluate.evaluators.embedding_map import EmbeddingMap, draw_map, project
from imgcls.evaluate.evaluators.reconstructions import (
    GAP,
    MARGIN,
    Reconstructions,
    draw_grid,
    middle_slice,
)
from tests.conftest import make_mesh
from tests.evaluate.cases import INFO, Linear, draw_variables, make_config, read_digits

VARIABLES = {"": draw_variables(0), "ema_": draw_variables(1)}


def make_map(**options):
    return EmbeddingMap(make_config(), Linear(), make_mesh(data=2), INFO, **options)


def check_picture(picture: np.ndarray, *shape: int) -> None:
    assert picture.dtype == np.uint8 and picture.shape == (*shape, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5


# ---- Maps.


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_map(method):
    evaluator = make_map(method=method, examples=60)
    found = evaluator.run(VARIABLES)
    assert found.keys() == {method, f"ema_{method}"}
    for picture in found.values():
        check_picture(picture, 700, 900)
    assert (found[method] != found[f"ema_{method}"]).any()
    again = make_map(method=method, examples=60).run(VARIABLES)
    np.testing.assert_array_equal(again[method], found[method])
    assert evaluator.protocol == (
        f"embedding_map: {method} of the backbone features of 60 examples of test (359)"
    )


def test_map_of_all_examples_of_a_small_split():
    assert "of 359 examples of test (359)" in make_map().protocol


def test_projection_keeps_clusters_separate():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    features = (10 * np.eye(8)[labels] + rng.normal(size=(60, 8))).astype(np.float32)
    for method in ("pca", "tsne"):
        points = project(features, method, seed=0)
        assert points.shape == (60, 2)
        centers = np.stack([points[labels == c].mean(0) for c in range(3)])
        nearest = np.linalg.norm(points[:, None] - centers, axis=-1).argmin(1)
        np.testing.assert_array_equal(nearest, labels)


def test_points_have_the_color_of_their_legend_entry():
    """Two distant points of different classes."""
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    picture = draw_map(points, np.array([0, 2]), ("a", "b", "c"))
    colored = [tuple(c) for c in picture[picture.std(-1) > 20]]
    for color, times in (((31, 119, 180), 2), ((255, 127, 14), 1), ((44, 160, 44), 2)):
        spots = np.argwhere((picture == color).all(-1))
        assert tuple(color) in colored
        # The legend is to the right of the map.
        columns = np.unique(spots[:, 1])
        assert 1 + (np.diff(columns) > 50).sum() == times, color


def test_many_classes_and_strange_names():
    rng = np.random.default_rng(0)
    points, names = rng.normal(size=(50, 2)), [f"c{i}" for i in range(21)]
    many = draw_map(points, rng.integers(0, 21, 50), tuple(names))
    check_picture(many, 700, 900)
    # Without a legend the map has the full width.
    frame = (draw_map(points, np.zeros(50, int), tuple(names[:20])), many)
    black = [np.flatnonzero((p[350] < 60).all(-1))[-1] for p in frame]
    assert black[0] < black[1] and black[1] > 880
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_picture(draw_map(points, np.zeros(50, int), ("$", "$\\x$", "a_b", "_x")), 700, 900)


def test_wrong_maps():
    with pytest.raises(ConfigError, match="method='umap': unknown; write 'pca' or 'tsne'"):
        make_map(method="umap")
    with pytest.raises(ConfigError, match="2 examples of split 'test' are too few for a map"):
        make_map(examples=2)
    with pytest.raises(ConfigError, match=r"got features \[9, 1\]; use another layer"):
        project(np.zeros((9, 1)), "pca", 0)


# ---- Reconstructions.


def cells_of(picture: np.ndarray, columns: int, side: int) -> np.ndarray:
    """`[3, columns, side, side, 3]`, without margin and gaps."""
    body = picture[:, MARGIN:].reshape(3, side + GAP, columns, side + GAP, 3)
    return body.swapaxes(1, 2)[:, :, :side, :side]


@pytest.mark.parametrize("axes", [{"data": 1}, {"data": 4}])
def test_reconstructions(axes):
    evaluator = Reconstructions(make_config(), Linear(), make_mesh(**axes), INFO, examples=6)
    found = evaluator.run(VARIABLES)
    assert found.keys() == {"grid", "ema_grid"}
    check_picture(found["grid"], 3 * 66, MARGIN + 6 * 66)
    cells = cells_of(found["grid"], 6, 64)
    small = cells[:, :, ::8, ::8]
    np.testing.assert_array_equal(small.repeat(8, 2).repeat(8, 3), cells)
    # Gray, with the exact pixels of examples spread over the full split.
    images, _ = read_digits("test")
    chosen = images[np.linspace(0, 358, 6).round().astype(int)]
    np.testing.assert_array_equal(small[0], np.broadcast_to(chosen, (6, 8, 8, 3)))
    # About half of the pixels are kept; the others are 0 after normalization, which is the mean.
    gone = small[1] == round(0.3 * 255)
    assert 0.3 < gone.mean() < 0.7
    np.testing.assert_array_equal(small[1][~gone], small[0][~gone])
    kernel = float(VARIABLES[""][0]["kernel"][0, 0])
    expected = np.clip(small[1] + kernel * 0.37 * 255, 0, 255)
    np.testing.assert_allclose(small[2], expected, atol=1)
    # The same masks every time.
    np.testing.assert_array_equal(evaluator.run(VARIABLES)["grid"], found["grid"])
    assert (
        evaluator.protocol == "reconstructions: input, masked, output of 6 examples of test (359)"
    )


def test_unreadable_example_has_no_column(tmp_path):
    for label in "0123456789":
        for split in ("train", "test"):
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("L", (8, 8)).save(tmp_path / split / label / "0.png")
    (tmp_path / "test" / "3" / "0.png").write_bytes(b"")
    config = make_config()
    config.data.source, config.data.on_error = f"folder:{tmp_path}", "skip"
    found = Reconstructions(config, Linear(), make_mesh(), INFO, examples=10).run(VARIABLES)
    assert found["grid"].shape == (3 * 66, MARGIN + 9 * 66, 3)


@pytest.mark.parametrize(("side", "cell"), [(8, 64), (28, 84), (63, 126), (64, 64), (224, 224)])
def test_sizes_of_cells(side, cell):
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    picture = draw_grid({"a": images, "b": images, "c": images})
    check_picture(picture, 3 * (cell + GAP), MARGIN + 2 * (cell + GAP))
    np.testing.assert_array_equal(
        cells_of(picture, 2, cell)[1, 1, :: cell // side, :: cell // side], images[1]
    )
    # The rows are labeled.
    assert all((picture[row * (cell + GAP) :][:cell, :MARGIN] < 100).any() for row in range(3))


def test_objective_without_reconstruction():
    with pytest.raises(ConfigError, match="'supervised' does not reconstruct images"):
        Reconstructions(make_config(), object(), make_mesh(), INFO)


def test_volumes_and_other_channels_are_shown_in_part():
    volumes = np.random.default_rng(0).integers(0, 256, (2, 5, 64, 64, 4), np.uint8)
    np.testing.assert_array_equal(middle_slice(volumes), volumes[:, 2])
    np.testing.assert_array_equal(middle_slice(volumes[:, 0]), volumes[:, 0])
    picture = draw_grid(dict.fromkeys("abc", volumes[:, 2]))
    expected = np.broadcast_to(volumes[:, 2, ..., :1], (2, 64, 64, 3))
    np.testing.assert_array_equal(cells_of(picture, 2, 64)[0], expected)
