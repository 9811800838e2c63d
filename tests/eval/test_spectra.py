"""What a file of scores says of its spectra."""

from eval.scoring import open_scores, score


def test_the_file_tells_the_units_of_power_and_whose_it_is(world, tmp_path):
    path = str(tmp_path / "scores.nc")
    variables = ["2m_temperature", "u_component_of_wind", "v_component_of_wind"]
    options = {"variables": variables, "levels": [500], "spectra": ["24h"], "bootstrap": 0, "progress": False}
    # Added to, the file says the same.
    for choice in ({"init": "2021-01-01:2021-01-02"}, {"init": "2021-01-01:2021-01-03", "add": True}):
        score(world["forecast"], world["truth"], path, **choice, **options)
        spectra = open_scores(path, group="spectra")
        units = {name: array.attrs.get("units") for name, array in spectra.data_vars.items()}
        assert units["2m_temperature_zonal"] == "K2 m" and units["2m_temperature_degree"] == "K2"
        assert units["wind_vector_zonal"] == "m3 s-2" and units["wind_vector_degree"] == "m2 s-2"
        assert units["2m_temperature_count"] is None and spectra["level"].attrs["units"] == "hPa"
        assert "first member" in spectra["2m_temperature_degree"].attrs["comment"]
        spectra.close()
