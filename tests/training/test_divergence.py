import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weather_scnn.training.divergence import LossWatch, judge, keep_if


def judged(losses, *, factor=20.0, norms=None):
    watch, verdicts = LossWatch.fresh(), []
    for index, loss in enumerate(losses):
        norm = 1.0 if norms is None else norms[index]
        good, watch = jax.jit(judge, static_argnums=3)(watch, jnp.float32(loss), jnp.float32(norm), factor)
        verdicts.append(bool(good))
    return verdicts, watch


def test_what_is_not_finite_is_refused_and_not_remembered():
    verdicts, watch = judged([1.0, np.nan, np.inf, 1.0], norms=[1.0, 1.0, 1.0, np.nan])
    assert verdicts == [True, False, False, False]
    assert int(watch.skipped) == 3 and float(watch.typical) == 1.0


def test_a_spike_is_held_against_recent_losses():
    assert judged([1.0, 19.0])[0] == [True, True]
    verdicts, watch = judged([1.0, 25.0, 1.0])
    assert verdicts == [True, False, True] and float(watch.typical) == 1.0
    assert judged([1.0, 1e6], factor=0.0)[0] == [True, True]
    # A fall by a factor of 100 in ten steps, then a return, is a spike; the same from a fresh stage is not.
    fallen, watch = judged([1.0] + [0.01] * 60 + [1.0])
    assert not fallen[-1]
    assert bool(judge(watch.forget(), jnp.float32(1.0), jnp.float32(1.0), 20.0)[0])


@pytest.mark.parametrize("good", [True, False])
def test_a_refused_step_leaves_every_leaf(good):
    old, new = {"a": jnp.zeros(3), "b": jnp.int32(1)}, {"a": jnp.full(3, jnp.nan), "b": jnp.int32(2)}
    kept = keep_if(jnp.bool_(good), new, old)
    assert int(kept["b"]) == (2 if good else 1) and bool(jnp.isnan(kept["a"]).all()) is good
