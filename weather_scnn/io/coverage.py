"""Which part of the globe the rows and columns of a canonical grid cover."""

import numpy as np
import xarray as xr

_SAME_DEGREES = 1e-3


def other_axis(one: xr.DataArray | xr.Dataset, other: xr.DataArray | xr.Dataset) -> str:
    """The axis of two maps whose coordinates differ by more than rounding, 1e-3°; empty if none does."""
    for axis in ("latitude", "longitude"):
        ours, theirs = (each[axis].values.astype(np.float64) for each in (one, other))
        if ours.size != theirs.size or np.abs(ours - theirs).max() > _SAME_DEGREES:
            return axis
    return ""


def missing_lines(latitude: np.ndarray, longitude: np.ndarray) -> str:
    """Which rows or columns are missing inside a grid with ascending coordinates in degrees; empty if none is.

    Their neighbours' cells would be averaged as if they were larger. Spacings may change smoothly, as on Gaussian
    grids; one that is half as wide again as the next is a gap.
    """
    for axis, values in (("latitude", latitude), ("longitude", longitude)):
        gaps = np.diff(np.asarray(values, np.float64))
        bands = np.diff(np.sin(np.radians(values)))
        if gaps.size < 2 or (axis == "latitude" and np.ptp(bands) < 1e-3 * bands.max()):
            continue  # rows of equal area are further apart towards the poles
        nearest = np.minimum(np.append(gaps[1:], gaps[-2]), np.append(gaps[1], gaps[:-1]))
        # At the ends the only neighbour may be a pole row, which stands half a cell away.
        nearest[0], nearest[-1] = np.median(gaps[:5]), np.median(gaps[-5:])
        wide = np.flatnonzero((gaps > 1.5 * nearest) & (gaps > 1.25 * np.median(gaps)))
        if wide.size:
            at = int(wide[0])
            more = f", and {wide.size - 1} more" if wide.size > 1 else ""
            return (
                f"no {axis}s between {values[at]:g}° and {values[at + 1]:g}°, {gaps[at] / nearest[at]:.2g} cells{more}"
            )
    return ""


def coverage_fault(latitude: np.ndarray, longitude: np.ndarray) -> str:
    """What keeps ascending coordinates in degrees from covering the globe; empty if they do."""
    if latitude.size < 2 or longitude.size < 2:
        return f"the grid is {longitude.size}x{latitude.size} points"
    spacing = np.diff(latitude).max()
    for end, reach in (("south", latitude[0] + 90), ("north", 90 - latitude[-1])):
        if reach > spacing + 1e-3:
            return f"latitudes stop {reach:g}° from the {end} pole"
    gaps = np.diff(np.append(longitude, longitude[0] + 360))
    if gaps.max() > 1.5 * np.median(gaps):
        at = int(gaps.argmax())
        return f"no longitudes between {longitude[at]:g}° and {longitude[(at + 1) % longitude.size]:g}°"
    return missing_lines(latitude, longitude)


def missing_poles(latitude: np.ndarray) -> str:
    """Which poles are a whole spacing beyond the outermost of ascending rows: one may be missing; empty if none is."""
    if latitude.size < 3:
        return ""
    gaps = np.diff(latitude)
    ends = [("south", latitude[0] + 90, gaps[1]), ("north", 90 - latitude[-1], gaps[-2])]
    away = [f"{90 - reach:g}° {end}" for end, reach, gap in ends if reach > 0.95 * gap]
    return f"the outermost row is at {' and at '.join(away)}, a whole spacing from the pole" if away else ""
