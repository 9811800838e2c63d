"""Errors that others published for all of QM9, each trained for days on a GPU; transcribed, not measured here."""

from collections.abc import Mapping

#: Mean absolute errors in the units of `TARGETS`, on the authors' own splits of about 100,000 training molecules: Anderson,
#: Hy and Kondor 2019; Satorras, Hoogeboom and Welling 2021; Gasteiger, Giri, Margraf and Günnemann 2020.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "Cormorant": {
        "mu": 38, "alpha": 0.085, "homo": 34, "lumo": 38, "gap": 61, "r2": 0.961, "zpve": 2.03,
        "U0": 22, "U": 21, "H": 21, "G": 20, "Cv": 0.026,
    },
    "EGNN": {
        "mu": 29, "alpha": 0.071, "homo": 29, "lumo": 25, "gap": 48, "r2": 0.106, "zpve": 1.55,
        "U0": 11, "U": 12, "H": 12, "G": 12, "Cv": 0.031,
    },
    "DimeNet++": {
        "mu": 29.7, "alpha": 0.0435, "homo": 24.6, "lumo": 19.5, "gap": 32.6, "r2": 0.331, "zpve": 1.21,
        "U0": 6.32, "U": 6.28, "H": 6.53, "G": 7.56, "Cv": 0.0230,
    },
}  # fmt: skip
