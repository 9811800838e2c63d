"""QM9's molecules: how they are read, split, scaled and put into batches, and the baselines on them."""

import dataclasses
import re

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from examples.qm9.baselines import baselines, coulomb_matrices
from examples.qm9.batches import capacity, epochs, fill, packed
from examples.qm9.molecules import SPLITS, Molecules, Split, prepare, read_npz, read_tables, split
from examples.qm9.targets import TARGETS, Composition, Scale
from tests.examples.made_molecules import made_molecules, write_npz
from weather_scnn.errors import UserError

_METHANE = "[[-0.0126981359,1.0858041578,0.],[0.,-1.,2.5],[1.,1.,0.],[0.,0.,-1.],[-0.5,1.,1.]]"
_FLUORINE = "[[0.,0.,1.,],[0.,0.,-1.]]"


def tables(folder, positions=_METHANE):
    """The three files of qm9pack, of one molecule, one and none, with columns that are not read."""
    columns = [target.column for target in TARGETS.values()]
    head = "XYZ_file,Index,Elements,XYZ_Ang," + ",".join(columns)
    numbers = ",".join(["0.", "13.21", "-1.", *["-40.5"] * 9])
    rows = {
        1: f"\"a.xyz\",1,\"['C','H','H','H','H']\",\"{positions}\",{numbers}\n",
        2: f'"b.xyz",22,"[\'F\',\'F\']","{_FLUORINE}",{numbers}\n',
        3: "",
    }
    for part, text in rows.items():
        (folder / f"qm9_part{part}.csv").write_text(f"{head}\n{text}")
    return folder


def test_the_package_s_tables_are_read_with_their_literals(tmp_path):
    arrays = read_tables(tables(tmp_path))
    np.savez(tmp_path / "all.npz", **arrays)
    found = read_npz(tmp_path / "all.npz")
    np.testing.assert_array_equal(found.index, [1, 22])
    np.testing.assert_array_equal(found.numbers, [6, 1, 1, 1, 1, 9, 9])
    np.testing.assert_allclose(found.positions[[0, 1, 6]], [[-0.0126981359, 1.0858041578, 0], [0, -1, 2.5], [0, 0, -1]])
    np.testing.assert_array_equal(found.composition, [[4, 1, 0, 0, 0], [0, 0, 0, 0, 2]])
    # Hartree become meV, debye millidebye; a0³ stay.
    assert found.target("U0")[0] == pytest.approx(-40.5 * 27211.386245988)
    np.testing.assert_array_equal(found.target("alpha"), [13.21, 13.21])


def test_a_molecule_with_a_place_too_few_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"qm9_part1.csv: molecule 1 has 5 elements and positions of shape \(2, 3\)"):
        read_tables(tables(tmp_path, _FLUORINE))


def test_prepare_keeps_a_file_and_reads_the_package_no_second_time(tmp_path, monkeypatch):
    monkeypatch.setenv("QM9_CACHE", str(tmp_path))
    monkeypatch.setattr("examples.qm9.molecules.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("the molecules are not here; pip install 'qm9pack==1.0.3'")):
        prepare()
    write_npz(tmp_path / "qm9.npz", made_molecules(3))
    assert len(read_npz(prepare())) == 3


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"plain text"])
def test_files_of_something_else_are_refused(tmp_path, content):
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(UserError, match="no file of molecules"):
        read_npz(tmp_path / "other.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(UserError, match="no file of molecules"):
        read_npz(tmp_path / "array.npy")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"Z": lambda values: values + 10}, "atomic numbers"),
        ({"y": lambda values: values * np.nan}, "not finite"),
        ({"n": lambda values: values + 1}, "do not agree"),
        ({"targets": lambda values: values[::-1][:5]}, "has no Dipole_debye"),
        ({"pos": None}, "no file of molecules"),
        ({"n": lambda values: np.array([0, *values[1:-1], values[0] + values[-1]])}, "molecules of 0 to"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, complaint):
    path = write_npz(tmp_path / "made.npz", made_molecules(4))
    arrays = dict(np.load(path))
    for name, function in change.items():
        if function is None:
            del arrays[name]
        else:
            arrays[name] = function(arrays[name])
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=complaint):
        read_npz(path)


def test_splits_are_disjoint_and_the_same_each_time():
    data = made_molecules(100)
    parts = split(data, "cormorant", training=60, test=30)
    again = split(data, "cormorant", training=60, test=30)
    seen = [part.index for part in (parts.training, parts.validation, parts.test)]
    assert [len(part) for part in seen] == [60, 10, 30]
    assert len(set(np.concatenate(seen))) == 100
    np.testing.assert_array_equal(parts.test.index, again.test.index)
    # A molecule keeps its atoms.
    place = int(parts.test.index[7]) - 1
    begin, own = data.first_atoms[place], parts.test.first_atoms[7]
    count = data.counts[place]
    np.testing.assert_array_equal(data.positions[begin : begin + count], parts.test.positions[own : own + count])
    np.testing.assert_array_equal(data.composition[place], parts.test.composition[7])


def test_published_sizes_of_splits():
    """On as many molecules as QM9 has, of one atom each."""
    count = 130_831
    atoms = np.ones(count, np.int64)
    data = Molecules(np.arange(count), atoms, atoms, np.zeros((count, 3), np.float32), np.zeros((count, 12)))
    for name, sizes in SPLITS.items():
        parts = split(data, name)
        assert (len(parts.training), len(parts.validation), len(parts.test)) == sizes
        less = split(data, name, training=10_000, test=1_000)
        assert set(less.training.index) <= set(parts.training.index)
        assert set(less.test.index) <= set(parts.test.index)
        assert (len(less.training), len(less.validation), len(less.test)) == (10_000, sizes[1], 1_000)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sizes": "cormorant"}, "--molecules"),
        ({"sizes": "cormorant", "training": 60, "test": 40}, "leave none for validation"),
        ({"sizes": "kfold"}, "choose cormorant or dimenet"),
    ],
)
def test_splits_that_cannot_be(options, complaint):
    with pytest.raises(UserError, match=complaint):
        split(made_molecules(100), **options)


def test_scales_come_back_and_take_the_composition_off():
    data = made_molecules(60)
    values = data.target("U0")
    scale = Scale.fit(TARGETS["U0"], data.composition, values)
    learned = scale.normalised(data.composition, values)
    np.testing.assert_allclose(scale.physical(data.composition, learned), values)
    assert abs(learned.mean()) < 1e-6
    assert np.abs(learned).mean() == pytest.approx(1.0, rel=1e-6)
    assert np.abs(values).mean() > 50 * scale.spread
    # A sum over atoms of known energies is found again.
    energies = np.array([-0.5, -37.8, -54.6, -75.1, -99.7])
    found = Composition.fit(data.composition, data.composition @ energies, constant=False)
    np.testing.assert_allclose(found.by_element, energies)


def test_batches_use_each_molecule_once_and_fit():
    data = made_molecules(50)
    shape = 8, capacity(8, data.counts.mean())
    seen = packed(data.counts, np.arange(50)[::-1], shape)
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(50)[::-1])
    assert all(len(part) <= 8 and data.counts[part].sum() <= shape[1] for part in seen)
    made = epochs(data.counts, shape, 3)
    first = [next(made) for _ in range(3 * len(seen))]
    other = epochs(data.counts, shape, 3)
    assert all(np.array_equal(one[1], next(other)[1]) for one in first)
    of_epochs = [np.concatenate([part for epoch, part in first if epoch == number]) for number in (0, 1)]
    assert sorted(of_epochs[0]) == list(range(50)) and list(of_epochs[0]) != list(of_epochs[1])


def test_empty_places_of_a_batch_count_for_nothing():
    data = made_molecules(5)
    batch = fill(data, np.arange(5.0), np.array([4, 1]), (4, 40))
    assert batch.numbers.shape == (40,) and batch.targets.shape == (4,)
    np.testing.assert_array_equal(batch.weights, [1, 1, 0, 0])
    np.testing.assert_array_equal(batch.targets[:2], [4, 1])
    np.testing.assert_allclose(batch.total(batch.atoms), [data.counts[4], data.counts[1], 0, 0])
    np.testing.assert_allclose(batch.mean(batch.atoms), [1, 1, 0, 0])


def test_coulomb_matrices_know_no_order_and_no_direction():
    data = made_molecules(4)
    rng = np.random.default_rng(0)
    turned = Rotation.random(random_state=0).as_matrix()
    order = np.concatenate([b + rng.permutation(n) for b, n in zip(data.first_atoms, data.counts)])
    moved = dataclasses.replace(
        data, numbers=data.numbers[order], positions=(data.positions[order] @ turned.T + 3.0).astype(np.float32)
    )
    np.testing.assert_allclose(coulomb_matrices(moved), coulomb_matrices(data), rtol=2e-5)
    # Two carbon atoms, 1.5 Å apart.
    pair = Molecules(*map(np.array, ([1], [2], [6, 6])), np.array([[0, 0, 0], [0, 0, 1.5]]), np.zeros((1, 12)))
    np.testing.assert_allclose(coulomb_matrices(pair)[0, :3], [0.5 * 6**2.4, 24.0, 0.5 * 6**2.4])


def test_baselines_find_what_they_can_express():
    """Energies that are sums over atoms are the composition's; the kernel knows its training molecules again."""
    data = made_molecules(80)
    sums = dataclasses.replace(data, properties=np.repeat((data.composition @ np.arange(1.0, 6))[:, None], 12, 1))
    parts = Split(sums.take(np.arange(60)), sums, sums.take(np.arange(60, 80)))
    assert baselines(parts, "gap").composition_mae < 1e-9
    # One molecule that vibrates; what is asked for is a distance.
    rng = np.random.default_rng(0)
    copies = made_molecules(1).take(np.zeros(80, int))
    places = copies.positions + rng.normal(size=copies.positions.shape, scale=0.05)
    first = copies.first_atoms
    distances = np.linalg.norm(places[first] - places[first + 1], axis=1)
    moved = dataclasses.replace(
        copies, positions=places.astype(np.float32), properties=np.repeat(distances[:, None], 12, 1)
    )
    known = Split(moved.take(np.arange(60)), moved, moved.take(np.arange(20)))
    unknown = Split(moved.take(np.arange(60)), moved, moved.take(np.arange(60, 80)))
    again, new = (baselines(each, "gap") for each in (known, unknown))
    assert new.coulomb_molecules == 60
    assert again.coulomb_mae < 0.1 * new.composition_mae
    assert new.coulomb_mae < 0.7 * new.composition_mae
