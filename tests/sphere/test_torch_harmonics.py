"""torch-harmonics as an independent oracle, on the Legendre–Gauss rows where its quadratures are exact."""

import jax.numpy as jnp
import numpy as np
import pytest

from weather_scnn.sphere import Grid, HarmonicTransform

torch = pytest.importorskip("torch", reason="torch and torch-harmonics are in the extra `bench`")
torch_harmonics = pytest.importorskip("torch_harmonics", reason="torch-harmonics is in the extra `bench`")


def as_complex(spectrum):
    return np.asarray(spectrum[..., 0, 0]) + 1j * np.asarray(spectrum[..., 1, 0])


@pytest.mark.parametrize("longitudes, latitudes", [(32, 16), (50, 21)])
def test_scalars_and_vectors_agree_in_both_directions(x64, random_spectrum, longitudes, latitudes):
    # Its rows run from the north. Its vectors are (southward, eastward); its two spectra are those of the potentials,
    # χ = E/√(l(l+1)) and −ψ = −B/√(l(l+1)).
    grid = Grid.gaussian(longitudes, latitudes)
    transform = HarmonicTransform.create(grid, dtype=np.float64)
    degrees, orders, _ = transform.spectrum_shape
    sizes = dict(lmax=degrees, mmax=orders, grid="legendre-gauss")
    a, e, b = (random_spectrum(degrees, orders, channels=1, least=least) for least in (0, 1, 1))
    factor = 1 / np.sqrt(np.maximum(np.arange(degrees) * (np.arange(degrees) + 1), 1))[:, None]

    def rows(field):
        return torch.from_numpy(np.array(field)[::-1, :, 0].copy())

    found = torch_harmonics.RealSHT(latitudes, longitudes, **sizes).double()(rows(transform.synthesis(a)))
    np.testing.assert_allclose(found.numpy(), as_complex(a), atol=1e-12)
    u, v = transform.synthesis_vector(e, b)
    analysis = torch_harmonics.RealVectorSHT(latitudes, longitudes, **sizes).double()
    chi, minus_psi = analysis(torch.stack([-rows(v), rows(u)])).numpy()
    np.testing.assert_allclose(chi, factor * as_complex(e), atol=1e-12)
    np.testing.assert_allclose(minus_psi, -factor * as_complex(b), atol=1e-12)

    synthesis = torch_harmonics.InverseRealSHT(latitudes, longitudes, **sizes).double()
    field = synthesis(torch.from_numpy(as_complex(a))).numpy()[::-1, :, None]
    np.testing.assert_allclose(transform.analysis(jnp.asarray(field)), a, atol=1e-12)
    synthesis = torch_harmonics.InverseRealVectorSHT(latitudes, longitudes, **sizes).double()
    potentials = np.stack([factor * as_complex(e), -factor * as_complex(b)])
    south, east = synthesis(torch.from_numpy(potentials)).numpy()[:, ::-1, :, None]
    np.testing.assert_allclose(u, east, atol=1e-12)
    np.testing.assert_allclose(v, -south, atol=1e-12)
