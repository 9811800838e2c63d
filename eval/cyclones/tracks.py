"""Tracks of cyclones: lows of following times put together by distance, and tracks of forecasts beside those of the truth."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.optimize

from eval.cyclones.detection import KM_PER_DEGREE, Low, great_circle


@dataclasses.dataclass(frozen=True)
class Stitching:
    """How lows become tracks.

    Attributes:
        reach: degrees that a low may have gone in 6 hours from where its last motion would bring it; of longer steps in
            proportion, up to twice as far.
        gap: time for which a low may be lost.
        shortest: from first to last low, of a track.
    """

    reach: float = 8.0
    gap: np.timedelta64 = np.timedelta64(24, "h")
    shortest: np.timedelta64 = np.timedelta64(54, "h")


@dataclasses.dataclass(frozen=True)
class Track:
    """One cyclone.

    Attributes:
        times: ascending, datetime64[ns].
        lows: one for each.
    """

    times: np.ndarray
    lows: list[Low]

    def at(self, time: np.datetime64) -> Low | None:
        """The low at a time; None where the track has none."""
        place = int(np.searchsorted(self.times, time))
        return self.lows[place] if place < self.times.size and self.times[place] == time else None


def _ahead(times: list[np.datetime64], lows: list[Low], time: np.datetime64) -> tuple[float, float]:
    """Where the last motion brings a low, without turning or slowing down."""
    last = lows[-1]
    if len(lows) < 2:
        return last.latitude, last.longitude
    share = (time - times[-1]) / (times[-1] - times[-2])
    east = (last.longitude - lows[-2].longitude + 180) % 360 - 180
    north = last.latitude - lows[-2].latitude
    return float(np.clip(last.latitude + share * north, -89.9, 89.9)), (last.longitude + share * east) % 360


def stitch(times: np.ndarray, found: Sequence[Sequence[Low]], how: Stitching = Stitching()) -> list[Track]:
    """Tracks from the lows of ascending times: at every time those pairs of tracks and lows that are nearest in all.

    Args:
        times: datetime64.
        found: lows of each.
        how: what belongs together.
    """
    open_tracks: list[tuple[list[np.datetime64], list[Low]]] = []
    closed: list[tuple[list[np.datetime64], list[Low]]] = []
    for time, lows in zip(times, found):
        still = [track for track in open_tracks if time - track[0][-1] <= how.gap]
        closed += [track for track in open_tracks if time - track[0][-1] > how.gap]
        free = set(range(len(lows)))
        if still and lows:
            places = np.array([_ahead(*track, time) for track in still])
            distance = great_circle(
                places[:, :1],
                places[:, 1:],
                np.array([low.latitude for low in lows]),
                np.array([low.longitude for low in lows]),
            )
            hours = np.array([(time - track[0][-1]) / np.timedelta64(1, "h") for track in still])
            reach = how.reach * np.clip(hours / 6, 1, 2)[:, None]
            for row, column in zip(*scipy.optimize.linear_sum_assignment(np.where(distance <= reach, distance, 1e4))):
                if distance[row, column] <= reach[row, 0]:
                    still[row][0].append(time)
                    still[row][1].append(lows[column])
                    free.discard(int(column))
        open_tracks = still + [([time], [lows[number]]) for number in sorted(free)]
    tracks = [Track(np.array(when, "datetime64[ns]"), lows) for when, lows in closed + open_tracks]
    return sorted((t for t in tracks if t.times[-1] - t.times[0] >= how.shortest), key=lambda track: track.times[0])


def pair_tracks(ours: Sequence[Track], theirs: Sequence[Track], nearest: float) -> list[tuple[int, int]]:
    """Which track of a forecast is which of the truth: both near each other at the first time that they share.

    Args:
        ours: of the forecast.
        theirs: of the truth.
        nearest: km that they may be apart then.
    """
    if not ours or not theirs:
        return []
    distance = np.full((len(ours), len(theirs)), 1e9)
    for row, one in enumerate(ours):
        for column, other in enumerate(theirs):
            shared = np.intersect1d(one.times, other.times)
            if shared.size:
                distance[row, column] = kilometres(one.at(shared[0]), other.at(shared[0]))
    rows, columns = scipy.optimize.linear_sum_assignment(np.where(distance <= nearest, distance, 1e9))
    return [(int(a), int(b)) for a, b in zip(rows, columns) if distance[a, b] <= nearest]


def kilometres(one: Low | None, other: Low | None) -> float:
    """Between two lows."""
    assert one is not None and other is not None
    return float(great_circle(one.latitude, one.longitude, other.latitude, other.longitude)) * KM_PER_DEGREE
