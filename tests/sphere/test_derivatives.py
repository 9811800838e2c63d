"""What JAX does with the transforms: derivatives, batching, loops and devices, for scalars, winds and other spins."""

import functools
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weather_scnn.sphere import Grid, GridKind, HarmonicTransform, SpinTransform

KINDS = ["scalar", "vector", "complex", "pair"]
# By products along longitude, and by FFT with an equator row and another first longitude.
PRODUCT, FFT = Grid.equiangular(24, 12), Grid(GridKind.EQUIANGULAR, 22, 11, 30.0)
CASES = [*((PRODUCT, kind) for kind in KINDS), (FFT, "vector")]
CASES += [pytest.param(FFT, kind, marks=pytest.mark.slow) for kind in ("scalar", "complex")]


def operators(grid, kind, dtype=np.float64):
    """Analysis and synthesis of one real array (…, y, x, 2c), the second one's spectra as a tuple."""
    if kind in ("scalar", "vector"):
        transform = HarmonicTransform.create(grid, dtype=dtype, vectors=kind == "vector")
    else:
        transform = SpinTransform.create(grid, 2, dtype=dtype)
    if kind == "scalar":
        return lambda f: (transform.analysis(f),), transform.synthesis
    if kind == "complex":

        def analysis(f):
            spectrum = transform.analysis(jax.lax.complex(*jnp.split(f, 2, -1)))
            return spectrum.real, spectrum.imag

        def synthesis(real, imaginary):
            field = transform.synthesis(jax.lax.complex(real, imaginary))
            return jnp.concatenate([field.real, field.imag], -1)

        return analysis, synthesis
    forward, back = (
        (transform.analysis_vector, transform.synthesis_vector)
        if kind == "vector"
        else (transform.analysis_pair, transform.synthesis_pair)
    )
    return lambda f: forward(*jnp.split(f, 2, -1)), lambda e, b: jnp.concatenate(back(e, b), -1)


@pytest.mark.usefixtures("each_layout")
@pytest.mark.parametrize(("grid", "kind"), CASES, ids=str)
def test_gradients_agree_with_finite_differences(x64, grid, kind):
    analysis, synthesis = operators(grid, kind)
    rng = np.random.default_rng(0)
    field, direction = jnp.asarray(rng.normal(size=(2, *grid.shape, 2)))

    @jax.jit
    def loss(f):
        spectra = analysis(f)
        return jnp.sum(jnp.sin(synthesis(*spectra))) + sum(jnp.sum(x**3) for x in spectra)

    slope = jnp.vdot(jax.grad(loss)(field), direction)
    step = 1e-5
    expected = (loss(field + step * direction) - loss(field - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float(expected), rel=1e-7)
    # Forward mode, and so Hessian products, exist as well.
    np.testing.assert_allclose(jax.jvp(loss, (field,), (direction,))[1], slope, rtol=1e-10)


@pytest.mark.usefixtures("each_layout")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind == "complex" else kind for kind in KINDS]
)
def test_vmap_and_scan_do_what_a_batch_does(kind):
    grid = Grid.equiangular(24, 12)
    analysis, synthesis = operators(grid, kind, np.float32)
    fields = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, *grid.shape, 2)), jnp.float32)

    def both(f):
        spectra = analysis(f)
        return spectra, synthesis(*spectra)

    whole = jax.jit(both)(fields)
    mapped = jax.jit(jax.vmap(both, 1, 1))(fields)
    _, scanned = jax.lax.scan(lambda carry, f: (carry, both(f)), 0, fields)
    for found in (mapped, scanned):
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), found, whole)


@pytest.mark.slow
def test_shard_map_and_split_orders_over_eight_devices():
    code = """
        import jax, jax.numpy as jnp, numpy as np
        from weather_scnn.sphere import Grid, HarmonicTransform, SpinTransform
        for grid in (Grid.equiangular(36, 18), Grid.equiangular(70, 35, poles=True)):
            mesh = jax.make_mesh((8,), ("order",))
            kw = dict(mesh=mesh, mesh_axis="order")
            u, v = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, *grid.shape, 1)), jnp.float32)
            same = lambda x, y: jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), x, y)
            whole, split = SpinTransform.create(grid, 2), SpinTransform.create(grid, 2, one_table=True, **kw)
            e = whole.analysis_pair(u, v)
            same(split.analysis_pair(u, v), e)
            same(split.synthesis_pair(*e), whole.synthesis_pair(*e))
            same(split.analysis(u + 1j * v, 9), whole.analysis(u + 1j * v, 9))
            transform = HarmonicTransform.create(grid, **kw)
            text = jax.jit(lambda t, x: t.synthesis(x)).lower(transform, e[0]).compile().as_text()
            # Orders are exchanged for latitudes, a part each, before the Fourier transform.
            assert "all-to-all" in text
            half = -(-((grid.latitudes + 1) // 2) // 8)
            if "fft(" in text:
                shape = text[text.index(" fft(") - 40 : text.index(" fft(")].split("f32[")[1].split("]")[0]
                assert f"2,{half},8," in shape, shape
            # Inside of a user's shard_map, over samples.
            data = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
            one = HarmonicTransform.create(grid)
            def back_and_forth(t, x, y):
                return t.synthesis(t.analysis(x)), *t.synthesis_vector(*t.analysis_vector(x, y))
            mapped = jax.shard_map(back_and_forth, mesh=data, in_specs=(jax.P(), jax.P("data"), jax.P("data")),
                                   out_specs=jax.P("data"))
            same(jax.jit(mapped)(one, u, v), back_and_forth(one, u, v))
    """
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.usefixtures("each_layout")
def test_truncation_leaves_the_work_out(x64):
    grid = Grid.equiangular(192, 96)
    transform = HarmonicTransform.create(grid, dtype=np.float64)
    field = jnp.zeros((*grid.shape, 4))
    spectrum = jnp.zeros((96, 96, 2, 4))

    def operations(function, *arguments):
        return jax.jit(function).lower(transform, *arguments).cost_analysis()["flops"]

    whole = operations(lambda t, f: t.analysis(f), field)
    assert operations(lambda t, f: t.analysis(f, 23), field) < 0.35 * whole
    whole = operations(lambda t, f: t.analysis_vector(f, f), field)
    assert operations(lambda t, f: t.analysis_vector(f, f, 23), field) < 0.3 * whole
    whole = operations(lambda t, s: t.synthesis(s), spectrum)
    assert operations(lambda t, s: t.synthesis(s), spectrum[:24, :24]) < 0.35 * whole
