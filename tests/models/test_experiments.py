"""Every configuration file builds its network, without memory for it; protocols have the channels they are known by."""

import dataclasses
import functools
import pathlib

import jax
import pytest
from flax import nnx

import configs
from weather_scnn.errors import UserError
from weather_scnn.models import ModelConfig
from weather_scnn.sphere.stored import shapes_only
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.checkpoints import parameter_count
from weather_scnn.training.configuration import Config, Stage, TrainingConfig
from weather_scnn.training.configuration_reading import load_config, with_overrides
from weather_scnn.training.rollout import build
from weather_scnn.training.states import expected_grid

FOLDER = pathlib.Path(configs.__file__).parent
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("[!_]*.py"))


def describe(config: Config) -> tuple[int, int, nnx.State]:
    """Channels of the state with both components of winds, all inputs, and the parameters' shapes."""
    channels = Channels.from_config(config.data)

    def parameters() -> nnx.State:
        model = build(config.model, config.data, channels, expected_grid(config.data), 0)
        return nnx.state(model, nnx.Param)

    with shapes_only():
        shapes = jax.eval_shape(parameters)
    state = len(channels.scalars) + 2 * len(channels.winds)
    return state, state * config.data.input_steps + channels.extra_count, shapes


@functools.cache
def described(name: str) -> tuple[int, int, nnx.State]:
    """`describe` of a file of the folder."""
    return describe(load_config(FOLDER / name))


# Shapes of these take two to six seconds each; era5_1p5 and tpu/v5e_8, alike but for sizes, are built at any time.
SLOW = "era5_0p25.py", "tpu/v5p_64.py", "tpu/v5e_8_ensemble.py", "tpu/v6e_16.py"


@pytest.mark.parametrize("name", FILES)
def test_every_experiment_is_whole(name):
    config = load_config(FOLDER / name)
    channels = Channels.from_config(config.data)
    assert len(channels.scalars) + len(channels.winds) > 0 and expected_grid(config.data).longitudes >= 32
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FILES]
)
def test_every_experiment_builds(name):
    config = load_config(FOLDER / name)
    state, inputs, parameters = described(name)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(parameters)} == {"float32"}
    kernel = parameters["encoder"]["kernel"]
    assert kernel.shape[-2] == inputs
    assert parameters["decoder"]["kernel"].shape[-1] == state + config.model.pointwise
    assert 1e4 < parameter_count(parameters) < 1e9


@pytest.mark.parametrize(
    ("name", "state", "inputs"),
    [
        ("keisler", 78, 88),
        ("paper_flat", 78, 88),
        ("paper_pyramid", 78, 88),
        ("weatherbench1_direct", 38, 117),
        ("weatherbench1_iterative", 38, 117),
        ("weatherbench1_two_direct", 2, 3),
        ("weatherbench1_two_iterative", 2, 3),
        ("era5_1p5", 69, 82),
        pytest.param("era5_0p25", 69, 82, marks=pytest.mark.slow),
    ],
)
def test_protocols_have_their_channels(name, state, inputs):
    assert described(f"{name}.py")[:2] == (state, inputs)


@pytest.mark.parametrize(
    "setting",
    [
        "model.nonlinearity=magnitude",
        "model.normalisation=spatial",
        "model.residual=false",
        "model.vector_channels=0",
        "model.tensor_channels=8",
        "model.kind=planar",
        "model.levels=1:1:32+16:8,2:2:64+32:6",
    ],
)
def test_ablations_are_one_setting(setting):
    config = with_overrides(load_config(FOLDER / "paper_flat.py"), [setting])
    changed, plain = describe(config)[2], described("paper_flat.py")[2]
    assert (
        jax.tree.structure(changed) != jax.tree.structure(plain)
        or jax.tree.map(lambda leaf: leaf.shape, changed) != jax.tree.map(lambda leaf: leaf.shape, plain)
        or setting.endswith(("residual=false", "normalisation=spatial"))  # which have no parameters of their own
    )


def test_a_direct_forecast_from_close_inputs_cannot_roll_out():
    data = DataConfig(surface_variables=("2m_temperature",), step="3d", input_steps=3, input_step="6h")
    with pytest.raises(UserError, match="rollouts of several steps of 3d"):
        Config(data=data, training=TrainingConfig(stages=(Stage(1, 2),)))
    equal = dataclasses.replace(data, step="24h", input_step="1d")
    assert Config(data=equal, training=TrainingConfig(stages=(Stage(1, 2),))).data.direct is False


def test_levels_of_one_variable_and_their_errors():
    channels = Channels.from_config(DataConfig(level_variables=("geopotential@500", "temperature@850/500")))
    assert channels.scalars == (("geopotential", 500), ("temperature", 850), ("temperature", 500))
    with pytest.raises(UserError, match="geopotential@high"):
        Channels.from_config(DataConfig(level_variables=("geopotential@high",)))
    with pytest.raises(UserError, match="different levels"):
        Channels.from_config(DataConfig(level_variables=("u_component_of_wind@500", "v_component_of_wind@850")))
    with pytest.raises(UserError, match="sin_longtude"):
        Channels.from_config(DataConfig(surface_variables=("2m_temperature",), coordinates=("sin_longtude",)))


def test_holding_the_mean_of_what_is_not_there_is_refused():
    config = Config(
        data=DataConfig(grid="16x8", surface_variables=("2m_temperature",)),
        model=ModelConfig(hold_mean=("surface_pressure",)),
    )
    with pytest.raises(UserError, match=r"model\.correctors\.means names surface_pressure, which is no scalar"):
        describe(config)
