"""Simulated sound: from maps of tissue to the envelope an ultrasound scanner detects, and to the grey levels it shows.

Complex Gaussian scatterers are convolved with a point spread function whose lateral width follows the focus
(linear convolution model of Bamber and Dickinson, Phys. Med. Biol. 25:463, 1980), attenuated on the way, compensated
imperfectly, detected and log-compressed. The modulated pulse is simulated at baseband (as IQ data), where its envelope
and so the speckle are the same as at radio frequency, from far fewer samples.
"""

import math
from typing import cast

import numpy as np
import scipy.fft
from scipy.ndimage import correlate1d, gaussian_filter1d

from sonosynth.core.types import Array
from sonosynth.phantoms.grid import Grid, db_to_amplitude, shrink, smooth_curve
from sonosynth.phantoms.parameters import Scan
from sonosynth.phantoms.tissue import Tissue

_PENUMBRA_STEP = 0.6  # mm of depth between two softenings of the shadows
_HEADROOM_DB = 22  # white lies this far above glandular tissue at a gain of 0 dB
_DIFFUSE_SHARE = 0.5  # share of a sheet that scatters instead of reflecting


def simulate_envelope(rng: np.random.Generator, grid: Grid, tissue: Tissue, scan: Scan, contact_db: Array) -> Array:
    """Return the detected envelope (linear, glandular tissue about 1), compounded over `scan.looks` looks.

    Where scatterers are few they stand in the same places in every look, and `rng` draws the rest as if they were many.
    """
    axial, lateral = _transfer_functions(grid, scan)
    # A sheet of unit amplitude should stay at its level, and so should speckle: the first needs a kernel of unit
    # sum, the second one of unit energy. The kernel has unit sum; scatterers are scaled up to make good for it.
    energy = (np.abs(axial) ** 2).mean() * (np.abs(lateral) ** 2).mean(1, keepdims=True)
    loss = _path_loss(grid, tissue, scan) + contact_db
    rough = np.sqrt(db_to_amplitude(2 * tissue.echo_db) + (_DIFFUSE_SHARE * tissue.specular) ** 2)
    amplitude = (rough * db_to_amplitude(loss) / np.sqrt(2 * energy)).astype(np.float32)
    if math.isfinite(tissue.scatterer_density):
        amplitude *= _number_amplitude(rng.spawn(1)[0], grid, tissue.scatterer_density, axial, lateral, scan)
    specular = (1 - _DIFFUSE_SHARE) * tissue.specular * db_to_amplitude(loss)
    noise = db_to_amplitude(scan.noise_db + 8 * grid.z / np.float32(scan.depth_mm))
    total = np.zeros(tissue.echo_db.shape, dtype=np.float32)
    for _ in range(scan.looks):
        field = _complex_normal(rng, total.shape)
        field *= amplitude
        field += specular
        spectrum = scipy.fft.fft(field, axis=0, overwrite_x=True) * axial
        field = scipy.fft.ifft(spectrum, axis=0, overwrite_x=True)
        spectrum = scipy.fft.fft(field, axis=1, overwrite_x=True) * lateral
        field = scipy.fft.ifft(spectrum, axis=1, overwrite_x=True)
        total += np.abs(field + noise * _complex_normal(rng, total.shape))
    return total / np.float32(scan.looks)


def _number_amplitude(
    rng: np.random.Generator, grid: Grid, density: float, axial: Array, lateral: Array, scan: Scan
) -> Array:
    """Return the amplitude of the scatterers at each sample ``[n, n]`` relative to that of many, of mean power 1.

    Their number is Poisson distributed. k scatterers with complex normal amplitudes add up to one of √k times the
    amplitude, so many give back what was there, and few give K-distributed envelopes whose parameter is the number in a
    resolution cell (Jakeman and Pusey, IEEE Trans. Antennas Propag. 24:806, 1976). The cell is the effective area
    (Σh²)²/Σh⁴ of the pulse and the beam h at the focus, about 1.1 times the product of their widths (FWHM).
    """
    focus = int(np.abs(grid.z[:, 0] - scan.focus * scan.depth_mm).argmin())
    cell = 1.0
    for transfer in (axial[:, 0], lateral[focus]):
        power = np.abs(scipy.fft.ifft(transfer)) ** 2
        cell *= float(power.sum() ** 2 / (power**2).sum())
    count = density / cell
    return np.sqrt(rng.poisson(count, (grid.z.size, grid.x.size)) / count).astype(np.float32)


def _complex_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Box and Muller (Annals of Mathematical Statistics 29:610, 1958): two and a half times as fast as by ziggurat."""
    radius = np.sqrt(-2 * np.log1p(-rng.random(shape, dtype=np.float32)))
    angle = rng.random(shape, dtype=np.float32) * np.float32(2 * np.pi)
    normal = np.empty(shape, dtype=np.complex64)
    np.multiply(radius, np.cos(angle), out=normal.real)
    np.multiply(radius, np.sin(angle), out=normal.imag)
    return normal


def _transfer_functions(grid: Grid, scan: Scan) -> tuple[Array, Array]:
    """Axial ``[n, 1]`` and, for every depth, lateral ``[n, n]`` transfer functions of the Gaussian pulse and beam.

    Pulse length: `cycles` wavelengths, two-way. Beam width (FWHM): wavelength times f-number at the focus, growing
    as for a Gaussian beam away from it; a fiftieth of the beam spreads five times as wide (side lobes, clutter).
    """
    wavelength = 1.54 / scan.frequency_mhz
    step_z, step_x = grid.steps
    to_sigma = 1 / 2.355
    sigma_z = to_sigma * scan.cycles * wavelength / 2
    reach = 14 * wavelength * scan.f_number**2
    sigma_x = to_sigma * wavelength * scan.f_number * np.sqrt(1 + ((grid.z - scan.focus * scan.depth_mm) / reach) ** 2)
    f_z = scipy.fft.fftfreq(grid.z.size, step_z).astype(np.float32)[:, None]
    f_x = scipy.fft.fftfreq(grid.x.size, step_x).astype(np.float32)[None, :]
    axial = np.exp(-2 * (np.pi * sigma_z * f_z) ** 2)
    main = (-2 * (np.pi * sigma_x * f_x) ** 2).astype(np.float32)
    return axial.astype(np.float32), 0.98 * np.exp(main) + 0.02 * np.exp(25 * main)


def _path_loss(grid: Grid, tissue: Tissue, scan: Scan) -> Array:
    """Two-way attenuation above each point less the gain that compensates for it, in dB: shadows and enhancement.

    The gain knows the mean attenuation as it was before `attenuation_scale`. The aperture sees around an obstacle, so
    the edges of its shadow soften on the way down.
    """
    step_z, step_x = grid.steps
    in_body = (grid.z > 0) * tissue.attenuation
    spent = in_body * np.float32(0.2 * step_z * scan.frequency_mhz)
    mean = np.cumsum(spent.mean(1, keepdims=True), axis=0)
    spent *= np.float32(tissue.attenuation_scale)
    rows = max(1, round(_PENUMBRA_STEP / step_z))
    carried = np.zeros(grid.x.size, dtype=np.float32)
    sigma = 0.35 / step_x
    reach = int(2.5 * sigma + 0.5)
    soften = np.exp(-0.5 / sigma**2 * np.arange(-reach, reach + 1) ** 2)
    soften /= soften.sum()
    for top in range(0, len(spent), rows):
        spent[top : top + rows] = carried + np.cumsum(spent[top : top + rows], axis=0)
        carried = correlate1d(spent[min(top + rows, len(spent)) - 1], soften)
    relative = np.maximum(grid.z, 0) / np.float32(scan.depth_mm)
    wave = scan.tgc_wave_db * np.sin(2 * np.pi * 1.5 * relative)
    return (mean - spent - scan.tgc_error_db * relative**1.5 + wave).astype(np.float32)


def contact_loss(rng: np.random.Generator, grid: Grid, scan: Scan) -> Array:
    """Return streaks of loss that grow with depth, ``[n, n]`` in dB: poor skin contact, ligaments on the way."""
    streaks = np.minimum(smooth_curve(rng, grid, 2.5) * 0.6 + smooth_curve(rng, grid, 7), 0.6) - 0.6
    sides = (np.abs(grid.x) / grid.x.max()) ** 4
    onset = np.clip(grid.z / np.float32(0.6 * scan.depth_mm), 0, 1) ** 0.7
    return cast(Array, scan.contact_db * (streaks - 0.4 * sides) * onset)


def display(envelope: Array, scan: Scan) -> Array:
    """Return the image, uint8 ``[n, n]``, of a cropped envelope ``[2n, 2n]``: log-compressed and averaged down."""
    level_db = 20 * np.log10(envelope + np.float32(1e-6)) + np.float32(scan.gain_db - _HEADROOM_DB)
    grey = np.clip(1 + level_db / np.float32(scan.dynamic_range_db), 0, 1) * 255
    step_z, step_x = scan.depth_mm / len(grey), scan.width_mm / len(grey)
    grey = gaussian_filter1d(grey, scan.smoothing_mm / step_z, axis=0, truncate=3)
    grey = gaussian_filter1d(grey, 0.5 * scan.smoothing_mm / step_x, axis=1, truncate=3)
    return np.rint(shrink(grey)).astype(np.uint8)
