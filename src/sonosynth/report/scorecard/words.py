"""The metrics of a scorecard as people read of them: names, what each is, and where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass

from sonosynth.metrics.ultrasound.realism import UNITS


@dataclass(frozen=True)
class Words:
    """One metric.

    Attributes:
        name: for headings.
        part: of the page; see `PARTS`.
        about: what it is, in a sentence or two.
        source: where it is defined; empty for what is defined in `about`.
    """

    name: str
    part: str
    about: str
    source: str = ""


DISTANCES, DIVERSITY, MEMORISATION, REALISM = (
    "Distances",
    "Fidelity and diversity",
    "Memorisation",
    "Ultrasound realism",
)
PARTS = (DISTANCES, DIVERSITY, MEMORISATION, REALISM)

_KYNKAANNIEMI = "Kynkäänniemi et al., NeurIPS 2019"
_NAEEM = "Naeem et al., ICML 2020"
_ALAA = "Alaa et al., ICML 2022, without its one-class network"

WORDS: Mapping[str, Words] = {
    "frechet_distance": Words(
        "Fréchet distance",
        DISTANCES,
        "Distance between the means and covariances of features; in Inception features this is the FID. Biased "
        "upwards, the more so the fewer images.",
        "Heusel et al., NeurIPS 2017",
    ),
    "frechet_distance_infinity": Words(
        "Fréchet distance, n → ∞",
        DISTANCES,
        "The Fréchet distance extrapolated to infinitely many images, only where each set has twice as many images, "
        "and groups of them, as there are features.",
        "Chong and Forsyth, CVPR 2020",
    ),
    "kernel_distance": Words(
        "Kernel distance",
        DISTANCES,
        "Squared maximum mean discrepancy of features with a cubic polynomial kernel; in Inception features this is "
        "the KID. Unbiased at any number of images, about 0 for equal distributions, so single values may be negative.",
        "Bińkowski et al., ICLR 2018",
    ),
    "cmmd": Words(
        "Kernel distance, Gaussian",
        DISTANCES,
        "The same with a Gaussian kernel of width 10 on features of unit length, times 1000, as in CMMD.",
        "Jayasumana et al., CVPR 2024",
    ),
    "precision": Words(
        "Precision",
        DIVERSITY,
        "Share of synthetic images that lie among the real ones: nearer to one of them than its fifth neighbour.",
        _KYNKAANNIEMI,
    ),
    "recall": Words("Recall", DIVERSITY, "Share of real images that lie among the synthetic ones.", _KYNKAANNIEMI),
    "density": Words(
        "Density",
        DIVERSITY,
        "How many real neighbourhoods a synthetic image lies in, as a share of five: about 1 for real images, more "
        "where images crowd at what is typical.",
        _NAEEM,
    ),
    "coverage": Words(
        "Coverage", DIVERSITY, "Share of real images with a synthetic image in their neighbourhood.", _NAEEM
    ),
    "alpha_precision": Words(
        "α-precision",
        DIVERSITY,
        "Agreement of distances to the centre of the real images: 1 where synthetic and real ones are spread alike.",
        _ALAA,
    ),
    "beta_recall": Words(
        "β-recall",
        DIVERSITY,
        "The same seen from the real images, counting those with a synthetic image nearer than any other real one: "
        "about 0.5 for real images.",
        _ALAA,
    ),
    "authenticity": Words(
        "Authenticity",
        DIVERSITY,
        "Share of synthetic images farther from their nearest training image than that one is from its nearest other: "
        "0.5 to 0.8 for real images.",
        _ALAA,
    ),
    "near_copies": Words(
        "Near-copies",
        MEMORISATION,
        "Share of synthetic images more similar to a training image than any real image of other patients is. "
        "Similarity: the largest correlation of fine structure over shifts of up to an eighth of the side and both "
        "orientations. The real baseline is the share of real images above the same limit.",
        "interval: Clopper and Pearson, Biometrika 1934",
    ),
    "nearest_distance_ratio": Words(
        "Nearest-distance ratio",
        MEMORISATION,
        "Mean distance to the nearest training image over that to the nearest held-out one, for equally many of both: "
        "1 where nothing is remembered, less where something is.",
    ),
    "membership_auc": Words(
        "Membership AUC",
        MEMORISATION,
        "Success of an attacker who takes real images near a synthetic one for training images: 0.5 is chance, 1 "
        "reveals all of them.",
        "Chen et al., GAN-Leaks, CCS 2020; interval: DeLong et al., Biometrics 1988, Obuchowski, Biometrics 1997",
    ),
    "data_copying": Words(
        "Data copying, C_T",
        MEMORISATION,
        "z-score of distances to the nearest training image, of synthetic against held-out images: about 0, below −3 "
        "for copies.",
        "Meehan et al., AISTATS 2020",
    ),
    "speckle_contrast_distance": Words(
        "Speckle contrast",
        REALISM,
        "Standard deviation of grey levels in small windows, the median over an image.",
    ),
    "nakagami_distance": Words(
        "Nakagami shape m",
        REALISM,
        "Shape of the distribution of the envelope in small windows, after undoing a logarithmic compression of 60 dB.",
        "Shankar, IEEE TUFFC 2000",
    ),
    "axial_width_distance": Words(
        "Axial width",
        REALISM,
        "Full width at half maximum of the autocorrelation of speckle along the beam.",
        "Wagner et al., IEEE Trans. Sonics Ultrason. 1983",
    ),
    "lateral_width_distance": Words(
        "Lateral width", REALISM, "The same across the beam.", "Wagner et al., IEEE Trans. Sonics Ultrason. 1983"
    ),
    "power_spectrum_distance": Words(
        "Power spectrum", REALISM, "Power of speckle in bands of spatial frequency, over that of white noise."
    ),
    "depth_profile_distance": Words(
        "Depth profile", REALISM, "Mean grey level at 32 depths, less the mean over all depths."
    ),
}
"""Every metric, in the order of the scorecard."""


def unit_of(metric: str) -> str:
    """Return the unit of `metric`; empty for a pure number."""
    return "" if metric == "nakagami_distance" else UNITS.get(metric, "")
