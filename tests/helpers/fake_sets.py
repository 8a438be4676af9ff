"""Tiny data sets laid out as the publishers of the real ones document it."""

import io
import zipfile

import numpy as np
import pandas as pd
from PIL import Image


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def mask_png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.pad(np.full((4, 6), 255, np.uint8), ((3, 5), (4, 6)))).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def workbook(rows: list[list[str | int]]) -> bytes:
    """An .xlsx table whose empty cells are left out."""
    buffer = io.BytesIO()
    cells = [[None if value == "" else value for value in row] for row in rows]
    pd.DataFrame(cells, dtype=object).to_excel(buffer, header=False, index=False)
    return buffer.getvalue()


UCLM = "BUS-UCLM Breast ultrasound lesion segmentation dataset/BUS-UCLM"
BREAST = "BrEaST-Lesions_USG-images_and_masks"
# Tiny data sets laid out as the publishers document it: the content of each file to download.
FAKES: dict[str, dict[str, bytes]] = {
    "BUSI": {
        "Dataset_BUSI.zip": zipped(
            {
                f"Dataset_BUSI_with_GT/{name}/{name} ({i}){mask}.png": mask_png() if mask else png(i)
                for name in ("benign", "malignant", "normal")
                for i in (1, 2)
                for mask in ("", "_mask")
            }
        )
    },
    "BUS-BRA": {
        "BUSBRA.zip": zipped(
            {
                "BUSBRA/bus_data.csv": b"ID,Case,Histology,Pathology,BIRADS,Device,Side\n"
                b"bus_0001-l,1,Fibroadenoma,benign,4,GE,left\nbus_0001-r,1,Fibroadenoma,benign,4,GE,right\n"
                b"bus_0002-l,2,IDC,malignant,5,GE,left\n",
                **{f"BUSBRA/Images/bus_{name}.png": png(i) for i, name in enumerate(("0001-l", "0001-r", "0002-l"))},
                **{f"BUSBRA/Masks/mask_{name}.png": mask_png() for name in ("0001-l", "0001-r", "0002-l")},
            }
        )
    },
    "BUS-UCLM": {
        "7fvgj4jsp7-1.zip": zipped(
            {
                f"{UCLM}/INFO.csv": "\ufeffImage;Size;Label;Doppler;Marks\r\nALWI_000.png;1;Normal;No;No\r\n"
                "ALWI_001.png;1;Benign;No;No\r\nANAT_000.png;1;Malignant;No;Yes\r\n".encode(),
                **{
                    f"{UCLM}/{folder}/{name}.png": mask_png() if folder == "masks" else png(i)
                    for folder in ("images", "masks")
                    for i, name in enumerate(("ALWI_000", "ALWI_001", "ANAT_000"))
                },
            }
        )
    },
    "BrEaST": {
        f"{BREAST}-Dec-15-2023.zip": zipped(
            {
                f"{BREAST}/case00{i}{mask}.png": mask_png() if mask else png(i)
                for i in (1, 2, 3)
                for mask in ("", "_tumor")
            }
        ),
        "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx": workbook(
            [
                ["CaseID", "Image_filename", "Mask_tumor_filename", "Classification"],
                [1, "case001.png", "case001_tumor.png", "benign"],
                [2, "case002.png", "case002_tumor.png", "malignant"],
                [3, "case003.png", "", "normal"],
            ]
        ),
    },
    "BreastMNIST": {"breastmnist.npz": b"PK\x03\x04 arrays"},
    "HC18": {
        "training_set.zip": zipped(
            {
                f"training_set/{name}{end}.png": mask_png() if end else png(i)
                for i, name in enumerate(("000_HC", "010_HC", "010_2HC"))
                for end in ("", "_Annotation")
            }
        ),
        "training_set_pixel_size_and_HC.csv": b"filename,pixel size(mm),head circumference (mm)\n"
        b"000_HC.png,0.0691358041432,44.3\n010_HC.png,0.089659,56.81\n010_2HC.png,0.0896,55.2\n",
    },
}
EXPECTED: dict[str, list[tuple[str, str, str | None]]] = {  # name of the image, label, group
    "BUSI": [(f"{name} ({i})", name, None) for name in ("benign", "malignant", "normal") for i in (1, 2)],
    "BUS-BRA": [("bus_0001-l", "benign", "1"), ("bus_0001-r", "benign", "1"), ("bus_0002-l", "malignant", "2")],
    "BUS-UCLM": [("ALWI_000", "normal", "ALWI"), ("ALWI_001", "benign", "ALWI"), ("ANAT_000", "malignant", "ANAT")],
    "BrEaST": [("case001", "benign", "1"), ("case002", "malignant", "2"), ("case003", "normal", "3")],
    "HC18": [(name, "fetal head", name[:3]) for name in ("000_HC", "010_HC", "010_2HC")],
}
