"""What all of scoring agrees on: conventions, wind vectors, and names in files of scores."""

WEATHERBENCH2, WEATHERBENCH1 = "weatherbench2", "weatherbench1"
CONVENTIONS = {
    WEATHERBENCH2: "WeatherBench 2: <x> = sum(w x) / sum(w) over latitude and longitude; w = sin(upper) - sin(lower) of "
    "the cell bounds in latitude, divided by its mean; box regions slice after the weights are made",
    WEATHERBENCH1: "WeatherBench (Rasp et al. 2020): w = cos(latitude) divided by its mean; sums pooled over init times, "
    "latitude and longitude; anomalies from the time mean of the truth of the years scored, less their unweighted mean",
}

# The error of the wind as a vector needs both components at the same point.
WIND_VECTORS = {
    "wind_vector": ("u_component_of_wind", "v_component_of_wind"),
    "10m_wind_vector": ("10m_u_component_of_wind", "10m_v_component_of_wind"),
}
BRIER_QUANTILES = (0.1, 0.33, 0.67, 0.9)

#: Coordinate of sums: how many members the ensemble of a system has, of dims (system, init_time); 1 for single forecasts.
MEMBERS = "members"
MISSING_TRUTH, MISSING_FORECAST = "missing_truth", "missing_forecast"
#: Of files of scores; those of earlier versions of the package, which do not say it, are version 1.
FORMAT_VERSION = 2
