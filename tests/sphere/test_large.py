"""Blocks of orders, one table for both directions, orders split over devices, and tables on disk."""

import os
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from weather_scnn.sphere import Grid, GridKind, HarmonicTransform, SpinTransform, stored, table_cache, tables


def relative(found, expected):
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("grid", "one_table"),
    [
        (Grid.equiangular(134, 67, poles=True), False),
        (Grid.equiangular(140, 70), True),
        pytest.param(Grid.equiangular(140, 70), False, marks=pytest.mark.slow),
        pytest.param(Grid.equiangular(134, 67, poles=True), True, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_blocks_and_one_table_stay_exact(random_spectrum, grid, one_table):
    transform = HarmonicTransform.create(grid, one_table=one_table)
    degrees, orders, _ = transform.spectrum_shape
    assert len(transform.scalar_synthesis) == -(-orders // tables.BLOCK_ORDERS) > 1
    a, e, b = (random_spectrum(degrees, orders, least=least, dtype=np.float32) for least in (0, 1, 1))
    assert relative(transform.analysis(transform.synthesis(a)), a) < 2e-6
    found_e, found_b = transform.analysis_vector(*transform.synthesis_vector(e, b))
    assert relative(found_e, e) < 2e-6 and relative(found_b, b) < 2e-6
    # Truncation inside a block, at its edge, and below the first.
    field = transform.synthesis(a)
    for degree in (5, 31, 32, 40, 63):
        assert relative(transform.analysis(field, degree), a[: degree + 1, : degree + 1]) < 2e-6
    assert relative(transform.analysis(transform.synthesis(a[:40, :20]), 39)[:, :20], a[:40, :20]) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(GridKind))
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-6), (np.float64, 1e-12)])
def test_exact_at_128_rows(x64, random_spectrum, kind, dtype, tolerance):
    check_exact(random_spectrum, Grid(kind, 256, 128), dtype, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("spin", [2, -4])
def test_other_spins_are_exact_at_128_rows(x64, spin):
    transform = SpinTransform.create(Grid.equiangular(256, 128), spin, dtype=np.float64)
    rng, (degrees, orders) = np.random.default_rng(0), transform.spectrum_shape
    a = rng.normal(size=(degrees, orders, 2)) @ np.array([1, 1j])
    a[np.arange(degrees)[:, None] < np.maximum(np.abs(np.arange(orders) - transform.max_order), abs(spin))] = 0
    assert relative(transform.analysis(transform.synthesis(a[..., None])), a[..., None]) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-11)])
def test_exact_at_a_quarter_degree(x64, random_spectrum, dtype, tolerance):
    check_exact(random_spectrum, Grid.equiangular(1440, 721, poles=True), dtype, tolerance)


def check_exact(random_spectrum, grid, dtype, tolerance):
    transform = HarmonicTransform.create(grid, dtype=dtype, one_table=True)
    degrees, orders, _ = transform.spectrum_shape
    a, e, b = (random_spectrum(degrees, orders, channels=1, least=least, dtype=dtype) for least in (0, 1, 1))
    assert relative(transform.analysis(transform.synthesis(a)), a) < tolerance
    found_e, found_b = transform.analysis_vector(*transform.synthesis_vector(e, b))
    assert relative(found_e, e) < tolerance and relative(found_b, b) < tolerance


@pytest.mark.slow
def test_orders_split_over_eight_devices():
    code = """
        import jax, jax.numpy as jnp, numpy as np
        from weather_scnn.sphere import Grid, HarmonicTransform
        grid = Grid.equiangular(70, 35)
        mesh = jax.make_mesh((2, 4), ("data", "order"))
        whole = HarmonicTransform.create(grid)
        for one_table in (False, True):
            split = HarmonicTransform.create(grid, one_table=one_table, mesh=mesh, mesh_axis="order")
            table = split.vector_synthesis[0]
            assert table.addressable_shards[0].data.shape[0] * 4 == table.shape[0]
            u, v = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 35, 70, 3)), jnp.float32)
            same = lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5)
            same(split.analysis(u), whole.analysis(u))
            same(split.analysis(u, 20), whole.analysis(u, 20))
            e, b = whole.analysis_vector(u, v)
            jax.tree.map(same, split.analysis_vector(u, v), (e, b))
            same(split.synthesis(e), whole.synthesis(e))
            jax.tree.map(same, split.synthesis_vector(e, b), whole.synthesis_vector(e, b))
            loss = lambda t, x: jnp.sum(t.synthesis(t.analysis(x)) ** 3)
            slope = [jax.jit(jax.grad(loss, 1))(t, u) for t in (split, whole)]
            np.testing.assert_allclose(*slope, atol=1e-3)
    """
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_tables_on_disk_are_checked_and_keyed_by_content(tmp_path, monkeypatch):
    monkeypatch.setenv(table_cache.VARIABLE, str(tmp_path))
    grid, sizes, calls = Grid.equiangular(8, 4), (200, 0, 2), []

    def make():
        calls.append(1)
        return np.arange(12.0).reshape(3, 4)

    def get(kind="scalar", dtype=np.float32, on=grid):
        return table_cache.cached(on, kind, np.dtype(dtype), sizes, make)

    np.testing.assert_array_equal(get(), get())
    assert len(calls) == 1
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".table"  # nothing half-written is left
    # Longitudes do not matter, latitudes, kind and type do.
    get(on=Grid.equiangular(16, 4))
    assert len(calls) == 1
    get(on=Grid.equiangular(8, 5)), get(kind="vector"), get(dtype=np.float64)
    assert len(calls) == 4
    # A damaged or cut file is made anew.
    for damage in (lambda data: data[:-3], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b""):
        path.write_bytes(damage(path.read_bytes()))
        before = len(calls)
        np.testing.assert_array_equal(get(), make())
        assert len(calls) == before + 2
    monkeypatch.setenv(table_cache.VARIABLE, "off")
    get()
    assert table_cache.directory() is None


def test_building_large_tables_shows_progress(capsys, monkeypatch):
    HarmonicTransform.create(Grid.equiangular(16, 8))
    assert not capsys.readouterr().err
    monkeypatch.setattr(stored, "_ROWS_WITH_PROGRESS", 8)
    HarmonicTransform.create(Grid.equiangular(16, 8))
    assert "Tables of spin 1 for 16x8" in capsys.readouterr().err


def test_two_processes_may_write_the_same_table(tmp_path):
    code = """
        import numpy as np
        from weather_scnn.sphere import Grid, table_cache
        for i in range(60):
            table = table_cache.cached(Grid.equiangular(8, 4), f"k{i}", np.dtype("f8"), (200,), lambda: np.full(5000, i))
            assert (table == i).all() and table.size == 5000
    """
    environment = os.environ | {table_cache.VARIABLE: str(tmp_path)}
    arguments = [sys.executable, "-c", textwrap.dedent(code)]
    processes = [subprocess.Popen(arguments, env=environment) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 60


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(table_cache.VARIABLE, str(tmp_path / "file" / "below"))
    table = table_cache.cached(Grid.equiangular(8, 4), "scalar", np.dtype("f4"), (200,), lambda: np.ones(3))
    np.testing.assert_array_equal(table, np.ones(3))


def test_synthesis_of_a_tiny_spectrum_on_a_large_grid(random_spectrum):
    a = random_spectrum(3, 2, dtype=np.float32)
    coarse, fine = (HarmonicTransform.create(Grid.gaussian(2 * n, n), vectors=False) for n in (4, 80))
    assert relative(fine.analysis(fine.synthesis(a), 2)[:, :2], a) < 2e-6
    assert relative(coarse.analysis(jnp.asarray(coarse.synthesis(a)), 2)[:, :2], a) < 2e-6
