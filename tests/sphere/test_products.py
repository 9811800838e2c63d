"""The precision of products: what each word means on each platform, and what three passes lose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weather_scnn.errors import UserError
from weather_scnn.sphere import Grid, HarmonicTransform, SpinTransform, dense, products
from weather_scnn.sphere.layouts import DENSE, FOLDED
from weather_scnn.sphere.products import product_precision

PRESET = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3


def precisions(jaxpr):
    """Those of all products of a traced program."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found.append(equation.params["precision"])
        for value in equation.params.values():
            if hasattr(value, "jaxpr") or hasattr(value, "eqns"):
                found += precisions(getattr(value, "jaxpr", value))
    return found


@pytest.mark.parametrize(
    ("platform", "word", "expected"),
    [
        ("gpu", "high", PRESET),
        ("tpu", "high", jax.lax.Precision.HIGH),
        ("cpu", "high", jax.lax.Precision.HIGH),
        ("gpu", "highest", jax.lax.Precision.HIGHEST),
        ("tpu", "default", jax.lax.Precision.DEFAULT),
    ],
)
def test_a_word_for_each_platform(monkeypatch, platform, word, expected):
    monkeypatch.setattr(products, "current_platform", lambda: platform)
    assert product_precision(word, np.float32) == expected
    assert product_precision(word, np.float64) == jax.lax.Precision.HIGHEST
    assert product_precision(word, jnp.bfloat16) == jax.lax.Precision.DEFAULT


@pytest.mark.parametrize("layout", [FOLDED, DENSE])
def test_all_products_of_transforms_and_their_gradients_have_the_precision_asked_for(monkeypatch, layout):
    monkeypatch.setattr(products, "current_platform", lambda: "gpu")
    grid = Grid.equiangular(24, 12)
    transform = HarmonicTransform.create(grid, layout=layout, precision="high")
    tensors = SpinTransform.create(grid, 2, layout=layout, precision="high")
    field = jnp.zeros((*grid.shape, 1))

    def total(f):
        u, v = transform.synthesis_vector(*transform.analysis_vector(f, f))
        q, w = tensors.synthesis_pair(*tensors.analysis_pair(f, f))
        return jnp.sum((transform.synthesis(transform.analysis(f)) * u * v * q * w) ** 2)

    found = precisions(jax.make_jaxpr(jax.grad(total))(field).jaxpr)
    assert len(found) > 20
    assert all(one in (PRESET, (PRESET, PRESET)) for one in found)


def rounded(array, bits):
    """Float32 with so many bits of mantissa."""
    whole = np.asarray(array, np.float32).view(np.uint32).astype(np.uint64)
    cut = 23 - bits
    whole = (whole + (1 << (cut - 1)) - 1 + ((whole >> cut) & 1)) >> cut << cut
    return whole.astype(np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("bits", "passes", "least", "largest"), [(10, 3, 5e-8, 2e-6), (7, 3, 2e-6, 2e-5), (10, 1, 1e-4, 1e-3)]
)
def test_a_round_trip_in_passes_errs_as_documented(monkeypatch, random_spectrum, bits, passes, least, largest):
    """Passes are made of rounded parts here, as matrix units make them; their sums are exact."""

    def in_passes(_, one, other):
        parts = []
        for array in (one, other):
            high = rounded(array, bits)
            low = rounded(np.asarray(array, np.float32) - high, bits)
            parts.append([x.astype(np.float64) for x in (high, low)])
        (one, less), (other, lesser) = parts
        found = one @ other
        if passes == 3:
            found = found + (one @ lesser + less @ other)
        return jnp.asarray(found, jnp.float32)

    monkeypatch.setattr(dense.Circle, "product", in_passes)
    monkeypatch.setattr(
        dense, "_synthesised", lambda circle, table, values: in_passes(circle, np.swapaxes(table, 1, 2), values)
    )
    transform = HarmonicTransform.create(Grid.equiangular(128, 64), layout=DENSE, vectors=False)
    given = jnp.asarray(random_spectrum(64, 64, dtype=np.float32))
    with jax.disable_jit():
        found = transform.analysis(transform.synthesis(given))
    assert least < np.abs(np.asarray(found) - given).max() / np.abs(given).max() < largest


def test_an_unknown_word_is_refused():
    with pytest.raises(UserError, match="highest, high, default"):
        HarmonicTransform.create(Grid.equiangular(24, 12), precision="double")
