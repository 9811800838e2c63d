import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weather_scnn.training.windows import window_indices

SIX = np.timedelta64(6, "h")


@given(st.sets(st.integers(0, 30), min_size=1), st.integers(1, 4), st.integers(1, 3), st.randoms())
def test_a_window_is_consecutive_in_time_and_none_is_forgotten(present, length, stride, random):
    order = list(present)
    random.shuffle(order)
    times = np.datetime64("2001-01-01", "ns") + np.array(order) * SIX
    found = window_indices(times, step=stride * SIX, length=length)
    expected = [start for start in sorted(present) if all(start + stride * k in present for k in range(length))]
    assert [order[row[0]] for row in found] == expected
    for row in found:
        assert np.all(np.diff(times[row]) == stride * SIX)


def test_a_time_with_nans_is_in_no_window():
    times = np.datetime64("2001-01-01", "ns") + np.arange(6) * SIX
    usable = np.array([True, True, True, False, True, True])
    assert window_indices(times, step=SIX, length=2, usable=usable).tolist() == [[0, 1], [1, 2], [4, 5]]


def test_inputs_of_a_direct_forecast_lie_closer_than_its_lead():
    """Three states 6 h apart and one 3 days after the last of them."""
    times = np.datetime64("2001-01-01", "ns") + np.arange(20) * SIX
    found = window_indices(times, step=12 * SIX, length=4, inputs=3, input_step=SIX)
    np.testing.assert_array_equal(found, np.arange(6)[:, None] + np.array([0, 1, 2, 14]))
    broken = np.delete(times, 5)
    starts = broken[window_indices(broken, step=12 * SIX, length=4, inputs=3, input_step=SIX)[:, 0]]
    np.testing.assert_array_equal(starts, times[:3])
