"""The ResNet-50 that was trained on RadImageNet, frozen (Mei et al., "RadImageNet: An Open Radiologic Deep Learning
Research Dataset for Effective Transfer Learning", Radiology: Artificial Intelligence 4(5):e210315, 2022).

1.35 million CT, MRI and ultrasound images. The weights were trained in Keras and converted for MONAI, so this is Keras'
ResNet-50 (He et al., CVPR 2016): the first 1 × 1 convolution of a stage has the stride, convolutions have biases, and
batch normalisation adds 1.001e-5. Modules are called as the converted state dictionary calls them.
"""

from functools import partial

from torch import Tensor, nn

from sonosynth.features.base import FeatureNetwork
from sonosynth.features.weights import DownloadedWeights, load_into

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # channels inside the blocks, and their number
EXPANSION = 4
DIMENSION = 512 * EXPANSION
_norm = partial(nn.BatchNorm2d, eps=1.001e-5)


class KerasResNet50(nn.Module):
    """ResNet-50 without its classifier: normalised images, blue, green, red, to the means of its last maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.bn1 = _norm(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        fan_in, stages = 64, []
        for i, (width, n_blocks) in enumerate(STAGES):
            blocks = [_Bottleneck(fan_in, width, stride=1 if i == 0 else 2)]
            fan_in = width * EXPANSION
            blocks += [_Bottleneck(fan_in, width) for _ in range(1, n_blocks)]
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, 2048]`` of images ``x [N, 3, H, W]``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        y: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return y.mean(dim=(2, 3))


class _Bottleneck(nn.Module):
    def __init__(self, fan_in: int, width: int, stride: int | None = None):
        super().__init__()
        fan_out = width * EXPANSION
        self.conv1 = nn.Conv2d(fan_in, width, 1, stride=stride or 1)
        self.bn1 = _norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = _norm(width)
        self.conv3 = nn.Conv2d(width, fan_out, 1)
        self.bn3 = _norm(fan_out)
        self.relu = nn.ReLU(inplace=True)
        # The first block of a stage projects its input; the others add it as it is.
        self.downsample = (
            nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride=stride), _norm(fan_out)) if stride else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        found: Tensor = self.relu(self.bn3(self.conv3(y)) + shortcut)
        return found


NETWORK = FeatureNetwork(
    name="radimagenet",
    about="ResNet-50, trained on RadImageNet: 1.35 million CT, MRI and ultrasound images; its last pool",
    weights=DownloadedWeights(
        url="https://huggingface.co/MONAI/checkpoints/resolve/main/RadImageNet-ResNet50_notop.pth",
        file="RadImageNet-ResNet50_notop.pth",
        size=None,
        sha256="2457479b254569e5a81ba48fee6c5b2b84b7a729e507aaa2466101aedb8e5c37",
        evidence="the page of the file at Hugging Face; a user of the file reports the same",
    ),
    licence="Apache-2.0 (MONAI's copy), MIT (the authors' repository); the images themselves are on request",
    input_px=224,
    channels=3,
    dimension=2048,
    mean=(103.939, 116.779, 123.68),
    std=(255.0, 255.0, 255.0),
    scaling=(
        "ImageNet's means in the order blue, green, red, then a division by 255, as in the authors' scripts "
        "for transfer and in MONAI; how it was trained is not published, and 224 px is Keras' default"
    ),
    build=lambda path: load_into(KerasResNet50(), path),
)
