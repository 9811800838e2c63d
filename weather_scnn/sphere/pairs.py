"""Between the two components of spin-s fields and their real spectra E and B.

A field of spin s > 0 with real components, f = q + iu, is f = i^s Σ_lm (E_lm + i B_lm) sY_lm with spectra E and B of
real fields: the parts of positive and negative parity (for a wind, s = 1, divergent and rotational). With P and M the
analyses by half sums and half differences of sλ and ₋sλ (`tables.spin_block`), i^s E = P q + i M u and
i^s B = P u − i M q, which follows from sλ_l,−m = (−1)^(m+s) ₋sλ_lm.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weather_scnn.sphere.fourier import unstacked
from weather_scnn.sphere.latitudes import Coefficients, Layout, analyse, synthesise, turned

#: Real and imaginary part (p, i, g, k, b, c) of the coefficients of one kind in one block of orders.
Parts = tuple[jax.Array, jax.Array]


def analyse_pair(
    layout: Layout,
    tables: tuple,
    weights: jax.Array | None,
    real: Float[Array, "b y x c"],
    imaginary: Float[Array, "b y x c"],
    spin: int,
    degrees: int,
) -> tuple[list[Parts], list[Parts]]:
    """E and B of every block; the arguments are those of `latitudes.analyse`."""
    values = jnp.concatenate([real, imaginary])
    found: tuple[list[Parts], list[Parts]] = ([], [])
    begin = 0
    for part in analyse(layout, tables, weights, values, degrees):
        for into, spectrum in zip(found, _pair_spectra(part, spin)):
            into.append(turned(spectrum, begin, layout.grid))
        begin += 2 * part[0].shape[1]
    return found


def synthesise_pair(
    layout: Layout, tables: tuple, e: list[Parts], b: list[Parts], spin: int
) -> tuple[Float[Array, "b y x c"], Float[Array, "b y x c"]]:
    """The components of the fields of E and B, each as `analyse_pair` returns it."""
    begin, parts = 0, []
    for each in zip(e, b, strict=True):
        first, second = (turned(x, begin, layout.grid, back=True) for x in each)
        parts.append(_pair_fields(first, second, spin))
        begin += 2 * first[0].shape[1]
    real, imaginary = jnp.split(synthesise(layout, tables, parts), 2)
    return real, imaginary


def _times_power_of_i(part: Parts, power: int) -> Parts:
    real, imaginary = part
    return ((real, imaginary), (-imaginary, real), (-real, -imaginary), (imaginary, -real))[power % 4]


def _pair_spectra(part: Coefficients, spin: int) -> tuple[Parts, Parts]:
    """E and B, each real and imaginary part (p, i, g, k, b, c), of coefficients (p, i, g, t, k, 2b, c).

    Args:
        part: of fields q, then u, along the batch axis.
        spin: s.
    """
    (p_q_real, p_u_real, m_q_real, m_u_real), (p_q_imag, p_u_imag, m_q_imag, m_u_imag) = map(_kinds, part)
    e = p_q_real - m_u_imag, p_q_imag + m_u_real
    b = p_u_real + m_q_imag, p_u_imag - m_q_real
    return _times_power_of_i(e, -spin), _times_power_of_i(b, -spin)


def _pair_fields(e: Parts, b: Parts, spin: int) -> Coefficients:
    """Coefficients (p, i, g, t, k, 2b, c) for the synthesis of q, then u, from E and B (p, i, g, k, b, c)."""
    e, b = _times_power_of_i(e, spin), _times_power_of_i(b, spin)
    first, second = _times_power_of_i(b, 1), _times_power_of_i(e, -1)
    return tuple(  # type: ignore[return-value]
        jnp.stack(
            [
                jnp.concatenate([e[r], b[r]], -2),
                jnp.flip(jnp.concatenate([first[r], second[r]], -2), 2),
            ],
            3,
        )
        for r in (0, 1)
    )


def _kinds(values: jax.Array) -> list[jax.Array]:
    """P q, P u, M q and M u of (p, i, g, t, k, 2b, c)."""
    sums, differences = unstacked(values, 3)
    # The second kind has the degrees of the other symmetry.
    return [*jnp.split(sums, 2, -2), *jnp.split(jnp.flip(differences, 2), 2, -2)]
