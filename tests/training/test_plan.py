"""What a program costs, against counts by hand, and the plan of an experiment."""

import dataclasses
import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sphere.test_products import precisions
from weather_scnn.errors import UserError
from weather_scnn.sphere import products
from weather_scnn.training.configuration import MeshConfig, Stage
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.hlo_cost import communication, floating_point_operations, product_operations, size_of
from weather_scnn.training.hlo_text import Program
from weather_scnn.training.plan import plan, step_tracer
from weather_scnn.training.plan_costs import Plan
from weather_scnn.training.rollout import segment_length

PROGRAM = """HloModule jit_step
%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}
%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %reduced = f32[8,4]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%sum
  %moved = (f32[2,2]{1,0}, f32[2,2]{1,0}) all-to-all(%y, %z), replica_groups={{0,1}}
}
%condition (p: (s32[], f32[8,4])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}
ENTRY %main (x: f32[8,4]) -> f32[8,4] {
  %loop = (s32[], f32[8,4]) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %gathered = bf16[16]{0} all-gather(%w), dimensions={0}, replica_groups=[2,2]<=[4]
  %scattered = f32[4]{0} reduce-scatter(%v), replica_groups=[1,4]<=[4], dimensions={0}, to_apply=%sum
  %started = (f32[10]{0}, f32[10]{0}) collective-permute-start(%u), source_target_pairs={{0,1}}
}
"""


def test_communication_counts_loops_and_what_each_collective_sends():
    assert communication(Program(PROGRAM)) == {
        "all-reduce": 3 * 2 * 8 * 4 * 4,
        "all-to-all": 3 * 2 * 4 * 4,
        "all-gather": 16 * 2,
        "reduce-scatter": 4 * 4 * 4,
        "collective-permute": 10 * 4,
    }


TPU_PROGRAM = """HloModule jit_step
%fused (a: f32[8,4], b: s32[], c: f32[4]) -> (f32[8,4], f32[4]) {
  %a = f32[8,4]{1,0} parameter(0)
  %b = s32[]{:T(128)} parameter(1)
  %c = f32[4]{0} parameter(2)
  %row = f32[1,4]{1,0} dynamic-slice(%a, %b, %b), dynamic_slice_sizes={1,4}
  %flat = f32[4]{0} bitcast(%row)
  %more = f32[4]{0} add(%flat, %c)
  %back = f32[1,4]{1,0} bitcast(%more)
  %new = f32[8,4]{1,0} dynamic-update-slice(%a, %back, %b, %b)
  ROOT %both = (f32[8,4]{1,0}, f32[4]{0}) tuple(%new, %more)
}
%body (p: (s32[], f32[8,4], f32[4])) -> (s32[], f32[8,4], f32[4]) {
  %p = (s32[]{:T(128)}, f32[8,4]{1,0}, /*index=2*/f32[4]{0}) parameter(0)
  %i = s32[]{:T(128)S(1)} get-tuple-element(%p), index=0
  %all = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %one = f32[4]{0:T(128)S(1)} get-tuple-element(%p), index=2
  %step = (f32[8,4]{1,0}, f32[4]{0:T(128)S(1)}) fusion(%all, %i, %one), kind=kLoop, calls=%fused
}
%condition (p: (s32[], f32[8,4], f32[4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(5), metadata={op_name="while/cond"}
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}
ENTRY %main (x: f32[8,4]) -> f32[8,4] {
  %x = f32[8,4]{1,0} parameter(0)
  %near = (f32[8,4]{1,0:T(8,128)S(1)}, f32[8,4]{1,0}, u32[]) copy-start(%x)
  %part = ((f32[8,4]{1,0}), f32[2,4]{1,0:T(8,128)S(1)}, u32[]) slice-start(%x), slice={[0:2], [0:4]}
  %loop = (s32[], f32[8,4], f32[4]) while(%t), condition=%condition, body=%body
}
"""


def test_bytes_are_those_of_memory_as_often_as_loops_run():
    """A loop of five fusions reads a row and writes a row of what is in memory; what comes near is read once."""
    assert Program(TPU_PROGRAM).bytes_accessed() == 5 * (16 + 16) + 128 + 32

    def accessed(function, *arguments):
        return Program(jax.jit(function).lower(*arguments).compile().as_text()).bytes_accessed()

    x = jnp.ones(1000)
    assert accessed(lambda x: 2.0 * jnp.sin(x) + 1.0, x) == 8 * 1000
    matrices = jnp.ones((64, 32)), jnp.ones((32, 16))
    assert accessed(lambda a, b: a @ b, *matrices) == pytest.approx(4 * (64 * 32 + 32 * 16 + 64 * 16), rel=0.01)
    once, often = (
        accessed(lambda x, n=n: jax.lax.fori_loop(0, n, lambda _, y: jnp.sin(y) @ y, x), jnp.ones((64, 64)))
        for n in (3, 30)
    )
    assert 5 < often / once < 10.1


def test_products_count_the_passes_of_their_precision():
    a = jnp.ones((8, 8))
    for precision, tpu, gpu in ((jax.lax.Precision.HIGHEST, 6, 7.4), (jax.lax.Precision.HIGH, 3, 1), (None, 1, 1)):
        traced = jax.make_jaxpr(lambda a: jnp.sin(jnp.matmul(a, a, precision=precision)))(a)  # noqa: B023
        found = [product_operations(traced, platform) for platform in ("tpu", "gpu", "cpu")]
        assert found == pytest.approx([1024 * tpu, 1024 * gpu, 1024])
    traced = jax.make_jaxpr(lambda a: a @ a)(a.astype(jnp.bfloat16))
    assert [product_operations(traced, platform) for platform in ("tpu", "gpu")] == [1024, 512]


def test_operations_count_products_transforms_and_loops():
    a, b = jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))

    def count(function, *arguments):
        return floating_point_operations(jax.make_jaxpr(function)(*arguments))

    assert count(lambda a, b: a @ b, a, b) == 2 * 3 * 4 * 5 * 6
    square = jnp.ones((5, 5))
    assert count(lambda a: jax.lax.scan(lambda x, _: (x @ square, None), a, None, length=7)[0], a) == 7 * 2 * 60 * 5
    assert count(lambda x: jnp.fft.rfft(x).real, jnp.ones((2, 64))) == pytest.approx(0.5 * 5 * 128 * 6, rel=0.1)
    once = count(jax.grad(lambda w, x: jnp.sum((x @ w) ** 2)), square, a[0])
    again = count(jax.grad(lambda w, x: jnp.sum(jax.checkpoint(lambda y: jnp.sin(y @ w))(x @ w))), square, a[0])
    product = 2 * 4 * 5 * 5
    assert 2 * product <= once < 2.5 * product and again > 4 * product


def test_equations_count_inner_programs_where_they_are_called():
    def body(carry, given):
        return jnp.concatenate([carry[1:], given[None]]), jnp.flip(carry)

    traced = jax.make_jaxpr(lambda x, y: jax.lax.scan(body, x, y))(jnp.zeros(3), jnp.zeros(5))
    equations, movements = size_of(traced)
    assert movements == 2 and equations >= 5
    twice = jax.make_jaxpr(lambda x: jax.jit(jnp.sin)(jax.jit(jnp.sin)(x)))(1.0)
    assert size_of(twice) == (4, 0)


@pytest.mark.parametrize(
    ("name", "rollout", "equations", "movements"),
    [
        ("era5", 4, 4_500, 120),
        pytest.param("era5", 1, 4_500, 120, marks=pytest.mark.slow),
        pytest.param("era5_1p5", 1, 12_000, 260, marks=pytest.mark.slow),
    ],
)
def test_the_accelerators_path_has_few_equations_and_movements(name, rollout, equations, movements):
    config = importlib.import_module(f"configs.{name}").get_config()
    _, _, traced = step_tracer(config, jax.devices()[:1], "gpu")
    found = size_of(traced(rollout).jaxpr)
    assert found[0] <= equations and found[1] <= movements


@pytest.mark.parametrize("word", ["high", "default"])
def test_products_have_the_precision_of_the_setting_and_sums_that_decide_are_exact(small_config, monkeypatch, word):
    monkeypatch.setattr(products, "current_platform", lambda: "gpu")
    config = dataclasses.replace(small_config, model=dataclasses.replace(small_config.model, precision=word))
    _, _, traced = step_tracer(config, jax.devices()[:1], "gpu")
    exact, asked = 0, 0
    wanted = products.product_precision(word, np.float32)
    for one in precisions(traced(1).jaxpr.jaxpr):
        exact += one in (products.EXACT, (products.EXACT,) * 2)
        asked += one in (wanted, (wanted,) * 2)
        assert one in (products.EXACT, wanted, (products.EXACT,) * 2, (wanted,) * 2)
    # Filters, moments, the mean over the globe and the loss; convolutions, transforms and the non-linearity.
    assert exact > 5 and asked > 20


def test_a_plan_traces_the_path_of_the_platform_it_is_asked_for(small_config):
    lasting = ["training.input_errors=1", "loss.kind=adjusted", "loss.whitening=1", "model.direct=true"]
    config = with_overrides(small_config, [*lasting, "model.seasonal=true"])
    _, _, on_gpu = step_tracer(config, jax.devices()[:1], "gpu")
    _, _, on_cpu = step_tracer(config, jax.devices()[:1], "cpu")
    accelerated, plain = (size_of(traced(1).jaxpr) for traced in (on_gpu, on_cpu))
    assert accelerated[0] < plain[0] and accelerated[1] < plain[1]
    with pytest.raises(UserError, match="choose cpu, gpu, tpu"):
        plan(small_config, platform="abacus")


@pytest.mark.slow
def test_a_plan_needs_no_data_and_counts_what_is_computed(small_config):
    config = dataclasses.replace(small_config, data=dataclasses.replace(small_config.data, path=""))
    found = plan(config)
    assert set(found.parameters) >= {"encoder", "decoder"} and found.mesh == (1, 1, 1)
    one, two = found.stages
    assert (one.rollout_steps, two.rollout_steps) == (1, 2) and one.communicated == {}
    # Forward and backward are 3 units a step at most, and with the step computed again 4.
    assert 2 < two.flops / one.flops < 3.3
    assert found.platform == "cpu" and one.equations > one.movements > 0
    assert 1.5 < two.bytes_accessed / one.bytes_accessed < 4
    assert one.bytes_accessed > one.state_bytes and one.seconds is None
    assert one.state_bytes > 4 * 4 * sum(found.parameters.values()) + found.table_bytes
    assert Plan.from_json(json.loads(json.dumps(dataclasses.asdict(found)))) == found
    assert len(found.render()) == 2


def test_what_cannot_be_planned_is_refused_before_anything_is_compiled(small_config):
    with pytest.raises(UserError, match=r"set training\.batch_size to 8"):
        plan(small_config, devices=8)
    with pytest.raises(UserError, match="v5e:2x4"):
        plan(small_config, topology="v5litepod-8")


def test_segments_are_about_the_root_of_the_rollout():
    assert [segment_length(steps, "nested") for steps in (4, 9, 12, 16)] == [2, 3, 4, 4]
    assert segment_length(12, "step") == segment_length(12, "auto") == 0 and segment_length(40, "auto") == 7


@pytest.mark.slow
def test_devices_along_data_send_their_gradients_once_whatever_the_rollout(small_config):
    config = with_overrides(small_config, ["training.stages=1x1,1x3", "training.batch_size=8"])
    found = plan(config, devices=8)
    assert found.mesh == (8, 1, 1)
    for stage in found.stages:
        assert sum(stage.communicated.values()) < 1.3 * found.ideal_bytes + 20_000  # moments of the batch norms
    mixed = plan(
        dataclasses.replace(config, training=dataclasses.replace(config.training, mesh=MeshConfig(2))), devices=8
    )
    assert mixed.mesh == (4, 1, 2) and mixed.stages[0].state_bytes < found.stages[0].state_bytes


@pytest.mark.slow
def test_members_on_devices_pass_by_in_a_ring_and_take_less_memory_each(small_config):
    """A device holds its own members; others come one after the other, and nothing is sent back for the gradient."""
    noisy = ["model.noise.vector=4", "loss.kind=crps", "training.members=4", "training.stages=1x1"]
    config = with_overrides(small_config, noisy)
    alone, ring = plan(config), plan(with_overrides(config, ["training.mesh.ensemble=2"]), devices=2)
    assert ring.mesh == (1, 2, 1) and ring.members == 4
    (one,), (two,) = alone.stages, ring.stages
    y, x = 8, 16
    fields = config.training.batch_size * 2 * y * x * 7 * 4  # two members of three scalars and two winds
    sent = two.communicated["collective-permute"]
    assert one.communicated == {} and fields <= sent < 4 * fields  # and their spectra
    assert two.temporary_bytes < 0.7 * one.temporary_bytes


@pytest.mark.slow
def test_memory_of_a_rollout_grows_no_faster_than_the_root_of_its_length(small_config):
    config = with_overrides(small_config, ["training.stages=1x1,1x4,1x12", "training.remat=nested"])
    one, four, twelve = (stage.temporary_bytes for stage in plan(config, every_stage=True).stages)
    assert four < np.sqrt(4) * one and twelve < np.sqrt(12) * one
    plain = dataclasses.replace(
        config, training=dataclasses.replace(config.training, remat="none", stages=(Stage(1, 12),))
    )
    assert plan(plain).stages[0].temporary_bytes > 2 * twelve
