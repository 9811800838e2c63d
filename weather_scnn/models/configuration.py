"""Shape of a network, as a configuration writes it."""

import dataclasses
import itertools
from typing import Literal, get_args

from weather_scnn.errors import UserError
from weather_scnn.nn.width import Width
from weather_scnn.setting_limits import at_least, known_choices
from weather_scnn.sphere.grid import Grid

Kind = Literal["spherical", "planar"]
Nonlinearity = Literal["phase_collapse", "magnitude"]
NormKind = Literal["spectral", "spatial", "none"]
Remat = Literal["none", "pointwise", "grid", "block"]
Precision = Literal["highest", "high", "default"]
Activations = Literal["float32", "bfloat16"]
Positivity = Literal["none", "clip", "rescale"]
EnergyBudget = Literal["none", "hold", "fluxes"]


@dataclasses.dataclass(frozen=True)
class Resolution:
    """One grid of the pyramid. Written COARSENING:BLOCKS:SCALARS+VECTORS+TENSORS:P in a `--set`, as in 2:4:64+32:8.

    Attributes:
        coarsening: how many times coarser than the data's grid, or `ModelConfig.feature_grid`, it is, along both axes.
        blocks: residual blocks on the way down, and again on the way up; the coarsest level has them once. Only the
            first level may have none: it then passes what the coarser ones do not resolve.
        scalar_channels, vector_channels, tensor_channels: features of spin 0, 1 and 2.
        filter_parameters: free values of each filter along l; 0 gives one a degree.
        max_degree: largest degree of the features; 0 takes all that the grid resolves. Fewer oversample the grid, which
            lessens what the non-linearities alias.
        remat: empty takes `ModelConfig.remat`.
    """

    coarsening: int = 1
    blocks: int = 1
    scalar_channels: int = 32
    vector_channels: int = 16
    tensor_channels: int = 0
    filter_parameters: int = 8
    max_degree: int = 0
    remat: str = ""

    def __post_init__(self) -> None:
        at_least("levels", self, {"coarsening": 1, "blocks": 0, "scalar_channels": 1})
        at_least("levels", self, dict.fromkeys(_COUNTS, 0))
        if self.remat and self.remat not in get_args(Remat):
            raise UserError(f"a level's remat is {self.remat!r}", remedy=f"choose {' or '.join(get_args(Remat))}")

    @classmethod
    def parse(cls, text: str) -> "Resolution":
        """Reads COARSENING:BLOCKS:SCALARS[+VECTORS[+TENSORS]][:P].

        Raises:
            ValueError: the text reads otherwise.
        """
        coarsening, blocks, widths, *rest = text.split(":")
        scalars, vectors, tensors = ([int(part) for part in widths.split("+")] + [0, 0])[:3]
        parameters = int(rest[0]) if rest else cls.filter_parameters
        return cls(int(coarsening), int(blocks), scalars, vectors, tensors, parameters)

    @property
    def width(self) -> Width:
        """Channels of the features."""
        return Width(self.scalar_channels, self.vector_channels, self.tensor_channels)


@dataclasses.dataclass(frozen=True)
class NoiseConfig:
    """Chance inside the network, from which the members of an ensemble differ; see `weather_scnn.nn.noise`.

    Attributes:
        vector: normal numbers, new at each step, that scale and shift the channels within every block; 0 for none.
        fields: random scalars, and as many random winds, of each length scale, that join the input; 0 for none.
        length_scales: of the random fields, km.
        correlation_hours: of the random fields, one for each length scale.
    """

    vector: int = 0
    fields: int = 0
    length_scales: tuple[float, ...] = (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0)
    correlation_hours: tuple[float, ...] = (0.6, 1.2, 2.4, 4.8, 9.5, 19.0, 38.0, 76.0)

    def __post_init__(self) -> None:
        at_least("model.noise", self, {"vector": 0, "fields": 0})
        scales, hours = self.length_scales, self.correlation_hours
        if len(scales) != len(hours) or not scales or not all(value > 0 for value in (*scales, *hours)):
            raise UserError(
                f"model.noise has {len(scales)} length_scales and {len(hours)} correlation_hours",
                remedy="give as many of each, all above 0",
            )

    @property
    def present(self) -> bool:
        """Whether there is any."""
        return self.vector > 0 or self.fields > 0


@dataclasses.dataclass(frozen=True)
class CorrectorConfig:
    """What each forecast step is held to, in training too; see `weather_scnn.training.correctors`, in this order.

    Attributes:
        means: fields whose mean over the globe stays, by a uniform shift.
        means_of: which means these keep: of the state that the step began with; or of the climate, that of the training period,
            which suits what the planet itself conserves.
        positive: fields that the catalogue calls never negative, such as humidity and precipitation, are cut off at zero in
            the state that is fed on: `clip` adds what is cut off, `rescale` takes it from the rest, so that the global
            mean stays.
        dry_air: the surface pressure without the weight of the column's water keeps its global mean, by a uniform shift of
            the surface pressure.
        moisture: precipitation is scaled so that the global mean of the column's water changes by evaporation less
            precipitation; evaporation or surface_latent_heat_flux must be in the state.
        energy: of the columns, by a uniform shift of the temperature: `hold` keeps its global mean, which suits planets
            without seasons; `fluxes` changes it by the radiation and the heat at the top and the bottom, which must be in
            the state.
    """

    means: tuple[str, ...] = ()
    means_of: Literal["state", "climate"] = "state"
    positive: Positivity = "none"
    dry_air: bool = False
    moisture: bool = False
    energy: EnergyBudget = "none"

    def __post_init__(self) -> None:
        known_choices("model.correctors", self)
        for name, on in (("surface_pressure", self.dry_air), ("temperature", self.energy != "none")):
            if on and name in self.means:
                other = "dry_air" if name == "surface_pressure" else "energy"
                raise UserError(
                    f"model.correctors.means holds {name}, and model.correctors.{other} shifts it",
                    remedy="leave out one of both",
                )

    @property
    def present(self) -> bool:
        """Whether there is anything to correct."""
        return self != CorrectorConfig()


_COUNTS = ("vector_channels", "tensor_channels", "filter_parameters", "max_degree")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of the network.

    Attributes:
        kind: spherical; or planar, an ordinary CNN on the latitude–longitude grid, to compare with, for which scalar_channels,
            blocks, kernel_size, precision and correctors count, and nothing else here.
        scalar_channels: spin-0 features; all features of a planar network.
        vector_channels: spin-1 features; with none, u and v enter as two scalars and equivariance is lost.
        tensor_channels: spin-2 features.
        blocks: residual blocks.
        filter_parameters: free values of each filter along l; 0 gives one a degree. Fewer make filters local, which counts where
            data are few: up to degree 30, nine tenths of the square of one of 8 lie within 44° of its centre, of 4 within 23°.
        max_degree: largest degree of the features; 0 takes all that the grid resolves.
        feature_grid: a finer grid for the features than the data's, as in 96x48; empty takes the data's. The points of an
            equiangular grid hold more than the degrees that its rows determine: on 64x32 a third (root mean square) of the
            change of T850 in six hours is beyond degree 30. On a finer one `max_degree` may go beyond the data's rows. Its
            latitudes are of the data's kind unless its name tells another, as in 96x48_gaussian.
        filter_degree: degree beyond which filters stay what they are there, at most the features' largest; 0 lets them vary up to
            that. Weights of a network whose largest degree is this one then serve, as `training.start_from`.
        levels: a pyramid of grids from fine to coarse, which have channels, blocks, filter parameters and largest degrees of
            their own in place of those above; empty makes a flat network.
        gate: multiply features of spin > 0 by a factor that depends on the spin-0 features.
        mirror_symmetric: forbid what a mirror image of the planet would not do.
        nonlinearity: phase_collapse or magnitude.
        normalisation: batch norm: spectral, spatial or none.
        residual: whether blocks have a skip.
        activate_after_skip: a second non-linearity after it, as in Esteves et al. (2023).
        branch_scale: scale at which residual branches start.
        pointwise: hidden features of a layer that sees the inputs as they are at each point, and some more of the spectral
            ones, and adds to the increment what spectra cannot hold: scales beyond `max_degree`, the edges of coasts and
            mountains; 0 for none. On 64x32 a third of the change of T850 in six hours is beyond degree 30.
        direct: whether a linear convolution with a value for each degree leads from the inputs straight to the increment, besides
            all else. It learns how fast each scale decays, small ones too, which count next to nothing in the loss, but which
            rollouts of months fill up with errors.
        seasonal: whether the place in the year scales all features and shifts those of spin 0 in every block, as chance does. What
            the season changes within a step is small beside the weather; rollouts of years live by it.
        correctors: what each step is held to. `model.correctors.means` was once called hold_mean, which still works.
        remat: what the backward pass computes again: none; pointwise, non-linearities; grid, all that is on the grid
            within a block; block, all
            within a block.
        precision: of products in float32: highest, high or default. On CPUs all are float32. highest is float32 on GPUs
            and TPUs too; high takes three passes there, and a round trip through the transforms errs by 3e-7 on GPUs and
            1e-5 on TPUs; default takes one, of TF32 or bfloat16, and errs by 5e-4 and 4e-3. Losses, means and norms are
            exact in any case.
        activations: float32 or bfloat16; tables, sums, the residual stream and parameters are float32 in any case.
        kernel_size: of the planar network's filters.
        noise: chance inside the network.
    """

    kind: Kind = "spherical"
    scalar_channels: int = 32
    vector_channels: int = 16
    tensor_channels: int = 0
    blocks: int = 4
    filter_parameters: int = 8
    max_degree: int = 0
    feature_grid: str = ""
    filter_degree: int = 0
    levels: tuple[Resolution, ...] = ()
    gate: bool = True
    mirror_symmetric: bool = False
    nonlinearity: Nonlinearity = "phase_collapse"
    normalisation: NormKind = "spectral"
    residual: bool = True
    activate_after_skip: bool = False
    branch_scale: float = 0.0
    pointwise: int = 0
    direct: bool = False
    seasonal: bool = False
    correctors: CorrectorConfig = CorrectorConfig()
    remat: Remat = "none"
    precision: Precision = "high"
    activations: Activations = "float32"
    kernel_size: int = 3
    noise: NoiseConfig = NoiseConfig()
    hold_mean: dataclasses.InitVar[tuple[str, ...] | None] = None  # what correctors.means was called until version 0.2

    def __post_init__(self, hold_mean: tuple[str, ...] | None) -> None:
        if hold_mean:
            object.__setattr__(self, "correctors", dataclasses.replace(self.correctors, means=tuple(hold_mean)))
        at_least("model", self, {"scalar_channels": 1, "blocks": 1, "kernel_size": 1})
        at_least("model", self, dict.fromkeys((*_COUNTS, "pointwise", "filter_degree"), 0))
        known_choices("model", self)
        if self.kernel_size % 2 == 0:
            raise UserError(f"model.kernel_size is {self.kernel_size}", remedy="give an odd number")
        if self.noise.present and self.kind == "planar":
            raise UserError("model.noise is for spheres, and model.kind is planar", remedy="leave model.noise out")
        for name, on in (("noise.vector", self.noise.vector), ("seasonal", self.seasonal)):
            if on and self.normalisation == "spatial":
                raise UserError(
                    f"model.{name} acts on spectra, and model.normalisation is spatial",
                    remedy="set model.normalisation=spectral or none",
                )
        steps = [level.coarsening for level in self.levels]
        if any(coarse <= fine or coarse % fine for fine, coarse in itertools.pairwise(steps)):
            raise UserError(
                f"model.levels coarsen by {', '.join(map(str, steps))}", remedy="give increasing multiples, as 1, 2, 4"
            )
        if steps and steps[0] != 1:
            raise UserError(
                f"the first of model.levels is {steps[0]} times coarser than the data",
                remedy="begin with 1, the grid of model.feature_grid or the data; it may have no block",
            )
        if any(level.blocks < 1 for level in self.levels[1:]):
            raise UserError("a coarser level of model.levels has no block", remedy="only the first may have none")

    def grid_of_features(self, data: Grid) -> Grid:
        """The grid of the first level, of the kind of the data's unless its name tells another.

        Raises:
            UserError: `feature_grid` reads as no grid, or is coarser than the data's.
        """
        if not self.feature_grid:
            return data
        try:
            grid = Grid.from_name(self.feature_grid)
        except UserError as error:
            raise UserError(error.what, where="model.feature_grid", remedy=error.remedy) from error
        if "_" not in self.feature_grid:
            grid = dataclasses.replace(grid, kind=data.kind)
        if grid.longitudes < data.longitudes or grid.latitudes < data.latitudes:
            raise UserError(
                f"model.feature_grid is {grid.name}, coarser than the data's {data.name}",
                remedy="give a finer one, or coarser levels in model.levels",
            )
        return grid

    @property
    def pyramid(self) -> tuple[Resolution, ...]:
        """The levels, one for a flat network."""
        flat = {name: getattr(self, name) for name in ("blocks", "scalar_channels", *_COUNTS)}
        return self.levels or (Resolution(**flat),)
