"""The catalogue of public ultrasound data sets: where each lies, its terms, and how it becomes a SOURCE.

Addresses, sizes and checksums are what the publishers are reported to give; they were collected from public
descriptions and have not been tried against the servers. What nobody reports is None here, and said so wherever the
entry is shown. A checksum that is wrong stops a download, never lets one through.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sonosynth.core.download import RemoteFile
from sonosynth.core.errors import FetchError
from sonosynth.core.text import did_you_mean
from sonosynth.datasets import label_tables


@dataclass(frozen=True)
class PublicDataset:
    """One public data set."""

    name: str  # what `sonosynth data fetch` calls it
    title: str  # what it shows, in a few words
    images: int  # how many, as published
    classes: tuple[str, ...]  # their labels, as published or, where there are none, what stands for them
    licence: str  # the terms of use, with where they are stated if that is not plain
    weights: str  # what may be done with weights trained on the images, as far as the licence says; no legal advice
    citation: str  # the article to cite
    doi: str  # of the article
    page: str  # where a person finds and downloads the data
    data_doi: str | None  # of the data themselves, if they have one
    files: tuple[RemoteFile, ...]
    source: str  # path of the SOURCE under the fetched folder; "." is the folder itself
    layout: str  # how labels and groups come about, in a sentence
    write_manifest: Callable[[Path], None] | None = None  # of a set whose labels stand in a table; raises FetchError

    @property
    def size(self) -> int | None:
        """Bytes to download, if the sizes of all files are published."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def size_text(self) -> str:
        """`size` in MB, or that it is not published."""
        return "size not published" if self.size is None else f"{self.size / 1e6:.1f} MB"

    @property
    def checksums(self) -> Literal["all", "some", "none"]:
        """For how many of the files a checksum is published."""
        known = [file.checksum is not None for file in self.files]
        return "all" if all(known) else "some" if any(known) else "none"

    def as_record(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "write_manifest"}


def list_datasets() -> tuple[str, ...]:
    """Return the names of the public data sets that `fetch` takes.

    >>> list_datasets()
    ('BUSI', 'BUS-BRA', 'BUS-UCLM', 'BrEaST', 'BreastMNIST', 'HC18')
    """
    return tuple(entry.name for entry in CATALOGUE)


def public_dataset(name: str) -> PublicDataset:
    """Return the entry `name` of the catalogue, in upper or lower case. Raises FetchError if there is none."""
    names = {entry.name.casefold(): entry for entry in CATALOGUE}
    if name.casefold() not in names:
        near = did_you_mean(name.casefold(), list(names))
        raise FetchError(f"no data set '{name}' in the catalogue{near}; known: {', '.join(list_datasets())}")
    return names[name.casefold()]


_UNSETTLED = "Whether trained weights are adapted material is not settled in law"
_CC_BY = (
    f"May be published, also for commercial use, with credit to the data set. {_UNSETTLED}: credit is due either way."
)
_TCIA = "https://www.cancerimagingarchive.net/wp-content/uploads"

CATALOGUE = (
    PublicDataset(
        name="BUSI",
        title="breast, with masks",
        images=780,
        classes=("benign", "malignant", "normal"),
        licence="none stated with the files; the article that publishes them is open access under CC BY 4.0",
        weights="No licence says it: ask the authors before you publish weights or use them commercially. The licence "
        "of the article is not said to hold for the images.",
        citation="Al-Dhabyani W, Gomaa M, Khaled H, Fahmy A. Dataset of breast ultrasound images. "
        "Data in Brief 28:104863, 2020",
        doi="10.1016/j.dib.2019.104863",
        page="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        data_doi=None,
        files=(RemoteFile("https://scholar.cu.edu.eg/Dataset_BUSI.zip", "Dataset_BUSI.zip", archive=True),),
        source="Dataset_BUSI_with_GT",
        layout="one folder per class, the masks beside the images; no patients are given, and near copies are many",
    ),
    PublicDataset(
        name="BUS-BRA",
        title="breast, biopsy-proven, with masks",
        images=1875,
        classes=("benign", "malignant"),
        licence="its own, of 2023, in the archive: free use, copying, modification and publishing, provided that "
        "documents and papers that use the data cite the article and that the notice goes along",
        weights="May be published with a citation of the article and the notice of the licence, which allows use, "
        "modification and publishing.",
        citation="Gómez-Flores W, Gregorio-Calas MJ, Coelho de Albuquerque Pereira W. BUS-BRA: A breast ultrasound "
        "dataset for assessing computer-aided diagnosis systems. Medical Physics 51(4):3110-3123, 2024",
        doi="10.1002/mp.16812",
        page="https://zenodo.org/records/8231412",
        data_doi="10.5281/zenodo.8231412",
        files=(
            RemoteFile(
                "https://zenodo.org/records/8231412/files/BUSBRA.zip",
                "BUSBRA.zip",
                size=133_917_740,
                checksum="md5:1f8b2be6476d58fc97bfb5e5a1ea9bab",
                archive=True,
            ),
        ),
        source=".",
        layout="manifest.csv from BUSBRA/bus_data.csv: the label is Pathology, the group Case (the patient)",
        write_manifest=label_tables.bus_bra,
    ),
    PublicDataset(
        name="BUS-UCLM",
        title="breast, sequences of 38 patients, with masks",
        images=683,
        classes=("benign", "malignant", "normal"),
        licence="CC BY-NC 4.0, as LICENSE.md of the authors' repository (noeliavallez/BUS-UCLM-Dataset) says; copies "
        "elsewhere name CC BY 4.0: keep to the stricter one unless the authors tell you otherwise",
        weights="Not for commercial use; for other use they may be published with credit and under the same limit. "
        f"{_UNSETTLED}, so ask the authors before any commercial use.",
        citation="Vallez N, Bueno G, Deniz O, Rienda MA, Pastor C. BUS-UCLM: Breast ultrasound lesion segmentation "
        "dataset. Scientific Data 12, 2025",
        doi="10.1038/s41597-025-04562-3",
        page="https://data.mendeley.com/datasets/7fvgj4jsp7/1",
        data_doi="10.17632/7fvgj4jsp7.1",
        files=(
            RemoteFile(
                "https://prod-dcd-datasets-cache-zipfiles.s3.eu-west-1.amazonaws.com/7fvgj4jsp7-1.zip",
                "7fvgj4jsp7-1.zip",
                archive=True,
            ),
        ),
        source=".",
        layout="manifest.csv from INFO.csv: the label is Label in small letters, the group the patient code before "
        "the number in the file name",
        write_manifest=label_tables.bus_uclm,
    ),
    PublicDataset(
        name="BrEaST",
        title="breast, one scan per patient, with masks",
        images=256,
        classes=("benign", "malignant", "normal"),
        licence="CC BY 4.0",
        weights=_CC_BY,
        citation="Pawłowska A, Ćwierz-Pieńkowska A, Domalik A, Jaguś D, Kasprzak P, Matkowski R, Fura Ł, Nowicki A, "
        "Żołek N. Curated benchmark dataset for ultrasound based breast lesion analysis. Scientific Data 11, 2024",
        doi="10.1038/s41597-024-02984-z",
        page="https://www.cancerimagingarchive.net/collection/breast-lesions-usg/",
        data_doi="10.7937/9WKK-Q141",
        files=(
            RemoteFile(
                f"{_TCIA}/BrEaST-Lesions_USG-images_and_masks-Dec-15-2023.zip",
                "BrEaST-Lesions_USG-images_and_masks-Dec-15-2023.zip",
                archive=True,
            ),
            RemoteFile(
                f"{_TCIA}/BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx",
                "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx",
            ),
        ),
        source=".",
        layout="manifest.csv from the clinical table: the label is Classification, the group CaseID (the patient)",
        write_manifest=label_tables.breast,
    ),
    PublicDataset(
        name="BreastMNIST",
        title="breast, BUSI at 28 × 28 pixels",
        images=780,
        classes=("malignant", "normal, benign"),
        licence="CC BY 4.0",
        weights="May be published with credit to MedMNIST and to BUSI, by the licence of MedMNIST. BUSI, from which "
        "the images come, states no licence: ask its authors before any commercial use.",
        citation="Yang J, Shi R, Wei D, Liu Z, Zhao L, Ke B, Pfister H, Ni B. MedMNIST v2: A large-scale lightweight "
        "benchmark for 2D and 3D biomedical image classification. Scientific Data 10:41, 2023",
        doi="10.1038/s41597-022-01721-8",
        page="https://zenodo.org/records/10519652",
        data_doi="10.5281/zenodo.10519652",
        files=(
            RemoteFile(
                "https://zenodo.org/records/10519652/files/breastmnist.npz",
                "breastmnist.npz",
                size=559_580,
                checksum="md5:750601b1f35ba3300ea97c75c52ff8f6",
            ),
        ),
        source="breastmnist.npz",
        layout="arrays with the labels 0 (malignant) and 1 (normal, benign); no patients are given, and what holds "
        "for BUSI holds here",
    ),
    PublicDataset(
        name="HC18",
        title="fetal head, training set with measured circumference",
        images=999,
        classes=("fetal head",),
        licence="CC BY 4.0",
        weights=_CC_BY,
        citation="van den Heuvel TLA, de Bruijn D, de Korte CL, van Ginneken B. Automated measurement of fetal head "
        "circumference using 2D ultrasound images. PLOS ONE 13(8):e0200412, 2018",
        doi="10.1371/journal.pone.0200412",
        page="https://zenodo.org/records/1327317",
        data_doi="10.5281/zenodo.1327317",
        files=(
            RemoteFile(
                "https://zenodo.org/records/1327317/files/training_set.zip",
                "training_set.zip",
                size=132_926_838,
                checksum="md5:00eb8198b9a505b2b3a6dfc740382497",
                archive=True,
            ),
            RemoteFile(
                "https://zenodo.org/records/1327317/files/training_set_pixel_size_and_HC.csv",
                "training_set_pixel_size_and_HC.csv",
                size=33_688,
                checksum="md5:c0761518fece2bd2d2ad4218f2cd9777",
            ),
        ),
        source=".",
        layout="manifest.csv from the table of measurements: one class, as no diagnosis is given; the group is the "
        "examination, which is the number in the file name; pixel size and circumference are kept as columns",
        write_manifest=label_tables.hc18,
    ),
)
