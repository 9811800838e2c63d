"""Scoring one piece: some variables and a run of init times → sums. Pieces are independent of each other.

Shapes: s systems, i init times, l lead times, n members, v levels, p points, r regions.
"""

import concurrent.futures
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator

import numpy as np
import threadpoolctl

from eval.baselines import CLIMATOLOGY, PERSISTENCE, PROBABILISTIC
from eval.ensembles import ensemble_sums, rank_weights
from eval.field_reading import CACHE_BYTES, as_slice
from eval.implausible_forecasts import implausible_maps
from eval.missing_values import Masked, mended_sums
from eval.moments import Scratch, climatology_sums, error_sums
from eval.pairing import Comparison
from eval.parts import Parts
from eval.piece_arrays import PieceArrays
from eval.piece_maps import add_maps
from eval.piece_sizes import Piece, blocks_of
from eval.piece_spectra import add_spectra
from eval.precipitation import dry_threshold, seeps
from eval.valid_time_fields import ReadFields, References, ValidTimeFields, Window
from eval.wind_vectors import error_lengths, masked_vector_moments, vector_moments
from weather_scnn.catalogue.naming import lookup


@dataclasses.dataclass(frozen=True)
class _Block:
    """What is in memory: forecasts of shape (i, l, n, v, p) by system and name, and the windows of truth."""

    inits: slice
    leads: slice
    forecasts: dict[tuple[str, str], np.ndarray]
    windows: dict[str, Window]
    implausible: dict[tuple[str, str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class _ReadBlock:
    """A block as it is read: reading and arithmetic take two cores. `implausible` counts maps that cannot be, (i, l)."""

    inits: slice
    leads: slice
    forecasts: dict[tuple[str, str], np.ndarray]
    fields: dict[str, ReadFields]
    implausible: dict[tuple[str, str], np.ndarray]


@functools.cache
def _thread_pools() -> threadpoolctl.ThreadpoolController:
    """The libraries' own threads; finding them takes 12 ms, a tenth of a small piece."""
    return threadpoolctl.ThreadpoolController()


_LOCAL = threading.local()


def _reading_thread() -> concurrent.futures.ThreadPoolExecutor:
    """The thread that reads ahead for this one, whatever it scores: memory that a thread lets go of stays with it."""
    if not hasattr(_LOCAL, "reader"):
        _LOCAL.reader = concurrent.futures.ThreadPoolExecutor(1)
    return _LOCAL.reader


class PieceScorer:
    """Scores pieces of one group of variables; keeps its caches from piece to piece.

    Args:
        comparison: what is compared.
        group: number of the group.
        parts: holds the means of `eval.valid_time_fields.prepare_references`.
    """

    def __init__(self, comparison: Comparison, group: int, parts: Parts):
        self.comparison, self.names = comparison, comparison.groups[group]
        readers = References(comparison, CACHE_BYTES // (2 * len(self.names)))
        self.fields = {name: ValidTimeFields(comparison, name, parts, readers) for name in self.names}
        self.vector = next((key for key, pair in comparison.vectors.items() if pair == self.names), None)
        self.scratch = Scratch(comparison.latitude.size * comparison.longitude.size)
        self.has_lead = {name: np.isin(comparison.leads, store.leads) for name, store in comparison.forecasts.items()}
        self.present = {name: comparison.present_for(name) for name in self.names}
        self.absent = {
            (system, name): store.empty_levels(
                name, comparison.inits, comparison.leads, self.present[name] & self.has_lead[system]
            )
            for system, store in comparison.forecasts.items()
            for name in self.names
            if name in store.dataset
        }
        self.ensembles = [system for system in comparison.systems if self._members(system) > 1]
        self.area = np.broadcast_to(
            comparison.weights.regions.max(axis=0), (comparison.latitude.size, comparison.longitude.size)
        ).ravel()
        self._by_valid_time: dict[tuple[str, str, int], tuple] = {}
        self._reader = _reading_thread()
        self._begun: tuple[Piece, concurrent.futures.Future[_ReadBlock]] | None = None

    def _members(self, system: str) -> int:
        if system == PROBABILISTIC:
            return self.fields[self.names[0]].member_count
        return self.comparison.members(system)

    def _load(self, block: tuple[slice, slice]) -> _ReadBlock:
        comparison = self.comparison
        inits, leads = comparison.inits[block[0]], comparison.leads[block[1]]
        valid = (inits[:, None] + leads[None, :])[comparison.present[block]]
        if PERSISTENCE in comparison.systems:
            valid = np.concatenate([valid, inits])
        times = np.unique(valid)
        forecasts = {
            (system, name): values
            for system, store in comparison.forecasts.items()
            for name, values in store.read([n for n in self.names if n in store.dataset], inits, leads).items()
        }
        counts = {key: implausible_maps(key[1], values) for key, values in forecasts.items()}
        implausible = {key: maps for key, maps in counts.items() if maps is not None}
        return _ReadBlock(*block, forecasts, {name: self.fields[name].read(times) for name in self.names}, implausible)

    def begin(self, piece: Piece) -> None:
        """Starts to read a piece, while another is being scored."""
        first = blocks_of(self.comparison, self.names, piece)[0]
        self._begun = piece, self._reader.submit(self._load, first)

    def score(
        self,
        piece: Piece,
        tick: Callable[[float], None] = lambda inits: None,
        ahead: Callable[[], None] = lambda: None,
    ) -> dict[str, np.ndarray]:
        """The sums of a piece, see `eval.piece_arrays`.

        Args:
            piece: of the scorer's group.
            tick: told of the init times done.
            ahead: called when all is read, so that the next piece can be begun.

        Raises:
            UserError: a forecast has missing values and they are not allowed.
        """
        arrays = PieceArrays.empty(self.comparison, self.names, self.vector, piece.stop - piece.start, self._members)
        # Products here are too small for BLAS's own threads, which wait for each other: on a busy machine 5 times longer.
        with _thread_pools().limit(limits=1, user_api="blas"):
            for block in self._loaded(piece, ahead):
                self._forget_before(self.comparison.inits[block.inits.start])
                rows = slice(block.inits.start - piece.start, block.inits.stop - piece.start)
                for (system, name), maps in block.implausible.items():
                    arrays.count_implausible(name, system, rows, block.leads, maps)
                for init in range(block.inits.start, block.inits.stop):
                    self._score_init(block, init, init - piece.start, arrays)
                share = (block.leads.stop - block.leads.start) / self.comparison.leads.size
                tick((block.inits.stop - block.inits.start) * share)
        return arrays.finished()

    def _loaded(self, piece: Piece, ahead: Callable[[], None]) -> Iterator[_Block]:
        """Blocks, each read while the one before is being scored; decompression leaves the interpreter free."""
        blocks = blocks_of(self.comparison, self.names, piece)
        if self._begun is None or self._begun[0] != piece:
            self.begin(piece)
        assert self._begun is not None
        waiting, self._begun = self._begun[1], None
        for following in [*blocks[1:], None]:
            block = waiting.result()
            if following is not None:
                waiting = self._reader.submit(self._load, following)
            else:
                ahead()
            windows = {name: self.fields[name].window(fields) for name, fields in block.fields.items()}
            yield _Block(block.inits, block.leads, block.forecasts, windows, block.implausible)

    def _forget_before(self, init: np.datetime64) -> None:
        """Lets go of the sums of valid times that no later forecast reaches; they are made again if one does."""
        oldest = int(init.astype(np.int64))
        if any(time < oldest for *_, time in self._by_valid_time):
            self._by_valid_time = {key: kept for key, kept in self._by_valid_time.items() if key[2] >= oldest}

    def _lead_times(self, block: _Block, init: int, name: str) -> np.ndarray:
        """Lead times of the block that are scored, counted from the block's first."""
        return np.flatnonzero(self.present[name][init, block.leads])

    def field(self, block: _Block, system: str, name: str, init: int, lead: int) -> np.ndarray | None:
        """A system's field, shape (n, v, p), by positions in the whole comparison; None where it has not got it."""
        comparison = self.comparison
        if system in comparison.forecasts:
            if (system, name) not in block.forecasts or not self.has_lead[system][lead]:
                return None
            return block.forecasts[system, name][init - block.inits.start, lead - block.leads.start]
        window, start = block.windows[name], comparison.inits[init]
        if system == PERSISTENCE:
            return window.truth[window.positions(np.array([start]))]
        valid = start + comparison.leads[lead]
        if system == PROBABILISTIC:
            return self.fields[name].members(valid)
        return self.fields[name].baseline(system, np.array([valid]))

    def _sums(
        self, block: _Block, system: str, name: str, init: int, leads: np.ndarray, arrays: PieceArrays, row: int
    ) -> np.ndarray:
        """Fills the moments of one system; gives which fields (l, v) hold nothing but finite numbers."""
        comparison, window = self.comparison, block.windows[name]
        index = as_slice(window.positions(comparison.inits[init] + comparison.leads[block.leads][leads]))
        truth, sums = window.truth[index], window.sums.at(index)
        anomaly = None if window.anomaly is None else window.anomaly[index]
        whole = leads + block.leads.start
        if system == CLIMATOLOGY and not comparison.pooled:
            if anomaly is not None:
                arrays.put(name, system, row, whole, climatology_sums(sums, comparison.weights))
            return sums.finite
        if system in comparison.forecasts:
            members = block.forecasts[system, name][init - block.inits.start][as_slice(leads)]
        elif system == PERSISTENCE:
            members = None
        else:
            return self._by_valid_time_sums(block, system, name, init, leads, arrays, row)
        forecast = self._predicted(block, system, name, init, leads)
        moments, finite = error_sums(
            forecast, truth, anomaly, sums, comparison.weights, self.scratch, anomalies=comparison.anomalies
        )
        arrays.put(name, system, row, whole, moments)
        if members is not None and members.shape[1] > 1:
            for lead, (ensemble, observed) in enumerate(zip(members, truth)):
                if finite[lead].all():
                    parts = self.ensemble_parts(
                        name, ensemble, observed, comparison.inits[init] + comparison.leads[whole[lead]]
                    )
                    arrays.put_ensemble(name, system, row, whole[lead], *parts)
        return finite | self.absent[system, name] if members is not None else finite

    def _predicted(self, block: _Block, system: str, name: str, init: int, leads: np.ndarray) -> np.ndarray:
        """A forecast, of an ensemble its mean, or persistence, which is one field for all lead times: (l or 1, v, p)."""
        if system == PERSISTENCE:
            window = block.windows[name]
            return window.truth[window.positions(self.comparison.inits[[init]])]
        members = block.forecasts[system, name][init - block.inits.start][as_slice(leads)]
        return members[:, 0] if members.shape[1] == 1 else members.mean(axis=1, dtype=np.float64)

    def ensemble_parts(
        self,
        name: str,
        members: np.ndarray,
        truth: np.ndarray,
        valid_time: np.datetime64,
        valid: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ensemble sums (moment, v, r) and ranks (v, rank) of members (n, v, p) against the truth (v, p)."""
        thresholds = self.fields[name].thresholds(valid_time)
        sums = ensemble_sums(members, truth, thresholds, self.comparison.weights.columns, valid)
        return sums, rank_weights(members, truth, self.area, valid)

    def _by_valid_time_sums(
        self, block: _Block, system: str, name: str, init: int, leads: np.ndarray, arrays: PieceArrays, row: int
    ) -> np.ndarray:
        """As `_sums`, for baselines that depend on the valid time alone: computed once for all init times."""
        comparison, window = self.comparison, block.windows[name]
        finite = []
        for lead in leads + block.leads.start:
            time = comparison.inits[init] + comparison.leads[lead]
            key = (name, system, int(time.astype(np.int64)))
            if key not in self._by_valid_time:
                index = window.positions(np.array([time]))
                members = self.field(block, system, name, init, lead)
                assert members is not None
                anomaly = None if window.anomaly is None else window.anomaly[index]
                moments, good = error_sums(
                    members.mean(axis=0, dtype=np.float64)[None],
                    window.truth[index],
                    anomaly,
                    window.sums.at(index),
                    comparison.weights,
                    self.scratch,
                    anomalies=comparison.anomalies,
                )
                parts = None
                if system == PROBABILISTIC and good.all():
                    parts = self.ensemble_parts(name, members, window.truth[index[0]], time)
                self._by_valid_time[key] = moments[:, 0], good[0], parts
            moments, good, parts = self._by_valid_time[key]
            arrays.put(name, system, row, np.array([lead]), moments[:, None])
            if parts is not None:
                arrays.put_ensemble(name, system, row, lead, *parts)
            finite.append(good)
        return np.stack(finite)

    def _score_init(self, block: _Block, init: int, row: int, arrays: PieceArrays) -> None:
        comparison = self.comparison
        masked: dict[str, Masked] = {}
        for name in self.names:
            leads = self._lead_times(block, init, name)
            if not leads.size:
                continue
            finite = np.ones((block.leads.stop - block.leads.start, comparison.level_count(name)), bool)
            for system in comparison.systems:
                mine = leads
                if system in comparison.forecasts:
                    if (system, name) not in block.forecasts:
                        continue
                    mine = leads[self.has_lead[system][block.leads][leads]]
                if mine.size:
                    finite[mine] &= self._sums(block, system, name, init, mine, arrays, row)
            if not finite[leads].all():
                masked[name] = mended_sums(self, block, name, init, ~finite, arrays, row)
            self._seeps(block, name, init, leads, arrays, row)
        if self.vector is not None:
            self._vector(self.vector, block, init, masked, arrays, row)
        add_maps(self, block, init, arrays)
        add_spectra(self, block, init, arrays)

    def _vector(
        self, vector: str, block: _Block, init: int, masked: dict[str, Masked], arrays: PieceArrays, row: int
    ) -> None:
        """Wind vectors: sums of both components, or their own where points are masked in either."""
        u, v = self.names
        comparison, leads = self.comparison, self._lead_times(block, init, u)
        options = {"anomalies": comparison.anomalies, "pooled": comparison.pooled}
        for system in comparison.systems:
            mine = leads
            if system in comparison.forecasts:
                if not all((system, name) in block.forecasts for name in (u, v)):
                    continue
                mine = leads[self.has_lead[system][block.leads][leads]]
            if not mine.size:
                continue
            lengths = self._error_lengths(block, system, (u, v), init, mine)
            whole = mine + block.leads.start
            east, north = (arrays.moments_at(name, system, row, whole) for name in (u, v))
            arrays.put(vector, system, row, whole, vector_moments(east, north, lengths, **options))
        rows = {key for each in masked.values() for key in each}
        for lead, level in sorted(rows):
            truth = np.stack([self.truth_at(block, name, init, lead)[level] for name in (u, v)])
            valid = np.ones(truth[0].shape, bool)
            for name in (u, v):
                valid &= masked.get(name, {}).get((lead, level), True)
            time = np.array([comparison.inits[init] + comparison.leads[lead]])
            normals = [self.fields[name].normal(time) for name in (u, v)]
            normal = None if None in normals else np.stack([each[0][level] for each in normals if each is not None])
            for system in comparison.systems:
                pair = [self.field(block, system, name, init, lead) for name in (u, v)]
                means = [part.mean(axis=0, dtype=np.float64)[level] for part in pair if part is not None]
                if len(means) < 2:
                    continue
                sums = masked_vector_moments(
                    np.stack(means)[:, None],
                    truth[:, None],
                    None if normal is None else normal[:, None],
                    comparison.weights.columns.T[:, None],
                    valid[None],
                    **options,
                )
                arrays.put_vector(vector, system, row, lead, level, sums)

    def _error_lengths(
        self, block: _Block, system: str, pair: tuple[str, str], init: int, leads: np.ndarray
    ) -> np.ndarray:
        """Sums of the length of the error of a wind, shape (l, v, r); of baselines by valid time computed once."""
        comparison, windows = self.comparison, [block.windows[name] for name in pair]
        times = comparison.inits[init] + comparison.leads[block.leads][leads]
        if system in comparison.forecasts or system == PERSISTENCE:
            east, north = (self._predicted(block, system, name, init, leads) for name in pair)
            u, v = (window.truth[as_slice(window.positions(times))] for window in windows)
            return error_lengths((east, north), (u, v), comparison.weights, self.scratch)
        found = []
        for lead, time in zip(leads + block.leads.start, times):
            key = ("".join(pair), system, int(time.astype(np.int64)))
            if key not in self._by_valid_time:
                fields = [self.field(block, system, name, init, lead) for name in pair]
                east, north = (each.mean(axis=0, dtype=np.float64)[None] for each in fields if each is not None)
                u, v = (window.truth[window.positions(np.array([time]))] for window in windows)
                self._by_valid_time[key] = (error_lengths((east, north), (u, v), comparison.weights, self.scratch)[0],)
            found.append(self._by_valid_time[key][0])
        return np.stack(found)

    def truth_at(self, block: _Block, name: str, init: int, lead: int) -> np.ndarray:
        """The truth of a pair, shape (v, p)."""
        window = block.windows[name]
        time = self.comparison.inits[init] + self.comparison.leads[lead]
        return window.truth[window.positions(np.array([time]))[0]]

    def anomaly_at(self, block: _Block, name: str, init: int, lead: int) -> np.ndarray | None:
        """The truth's anomaly, shape (v, p); None without a climatology of the variable."""
        window = block.windows[name]
        time = self.comparison.inits[init] + self.comparison.leads[lead]
        return None if window.anomaly is None else window.anomaly[window.positions(np.array([time]))[0]]

    def _seeps(self, block: _Block, name: str, init: int, leads: np.ndarray, arrays: PieceArrays, row: int) -> None:
        if name not in arrays.seeps:
            return
        known = lookup(name)
        dry = dry_threshold(known.window_hours if known is not None else None)
        map_numbers = {int(lead): number for number, lead in enumerate(self.comparison.map_leads)}
        for lead in leads + block.leads.start:
            truth = self.truth_at(block, name, init, lead)
            time = self.comparison.inits[init] + self.comparison.leads[lead]
            parameters = self.fields[name].seeps_parameters(np.array([time]))
            assert parameters is not None
            fields = {system: self.field(block, system, name, init, lead) for system in self.comparison.systems}
            means = {key: field.mean(axis=0, dtype=np.float64) for key, field in fields.items() if field is not None}
            valid = np.isfinite(truth)
            for field in means.values():
                valid = valid & np.isfinite(field)
            for system, field in means.items():
                score = seeps(field, truth, parameters[0], parameters[1][0], dry)
                used = valid & np.isfinite(score)
                columns = self.comparison.weights.columns
                sums = np.stack([used @ columns, np.where(used, score, 0.0) @ columns])
                arrays.put_seeps(name, system, row, lead, sums)
                if int(lead) in map_numbers:
                    arrays.add_seeps_map(name, system, map_numbers[int(lead)], used, score)
