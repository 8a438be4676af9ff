import numpy as np
import pytest
import torch
from monai.networks.nets import resnet18

from sonosynth.classify.networks import NETWORKS, NetworkError, build_network, find_network
from sonosynth.features.extract import load_features


@pytest.mark.long
@pytest.mark.parametrize("name", [*NETWORKS, "monai:DenseNet121", "resnet34"])
def test_every_network_makes_logits_and_all_its_parameters_learn(name):
    network = build_network(name, 3)
    network(torch.randn(2, 1, 64, 64)).square().sum().backward()
    assert network(torch.randn(2, 1, 64, 64)).shape == (2, 3)
    assert not list(network.buffers()) or "running_mean" in "".join(dict(network.named_buffers()))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.long
def test_sizes_are_those_of_the_literature():
    counts = {name: sum(p.numel() for p in build_network(name, 3).parameters()) for name in NETWORKS}
    assert counts["resnet18"] == 11_172_675  # one channel, three classes, MONAI's biases
    assert counts["densenet121"] == 6_950_659  # 7,978,856 of torchvision, less 997 classes and two channels
    assert build_network("resnet18", 3).conv1.stride == build_network("resnet34", 3).conv1.stride == (2, 2)


def test_the_pretrained_network_begins_with_the_features_of_imagenet():
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224), dtype=np.uint8)
    network, known = build_network("efficientnet-lite0", 3), find_network("efficientnet-lite0")
    mean, deviation = known.normalisation
    x = (torch.from_numpy(images)[:, None].float() / 255 - mean) / deviation
    with torch.no_grad():
        ours = network.features(x.expand(-1, 3, -1, -1)).numpy()
    assert np.allclose(ours, load_features("efficientnet-lite0")(images), atol=1e-4)
    assert known.learning_rate < find_network("resnet18").learning_rate
    for shape in [(48, 80), (128, 160), (150, 130)]:
        assert network(torch.zeros(1, 1, *shape)).shape == (1, 3)


@pytest.mark.long
def test_dropout_goes_where_a_network_has_it():
    x = torch.randn(2, 1, 64, 64)
    for name in [*NETWORKS, "SEResNet50"]:
        network = build_network(name, 2, dropout=0.5)
        dropped = [m for m in network.modules() if isinstance(m, torch.nn.Dropout | torch.nn.Dropout2d) and m.p == 0.5]
        assert dropped, name
    first = build_network("resnet18", 2, dropout=0.9)
    first.train()
    assert not torch.equal(first(x), first(x))
    with pytest.raises(NetworkError, match="has no dropout"):
        build_network("resnet34", 2, dropout=0.5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", r"no classifier network 'resnet81' \(did you mean 'resnet18'\?\)"),
        ("monai:DenseNet12", r"did you mean 'DenseNet121'"),
        ("__name__", "no classifier network"),
        ("ViT", r"'ViT' of MONAI cannot be made .* it needs img_size, patch_size too"),
        ("BasicUNet", r"is no classifier: of 2 images it makes \[2, 3, 64, 64\]"),
        ("VarAutoEncoder", "is no classifier network: it takes no in_channels"),
    ],
)
def test_what_cannot_be_a_classifier_is_told(name, message):
    with pytest.raises(NetworkError, match=message):
        build_network(name, 3)


def test_images_that_are_too_small_are_told():
    with pytest.raises(NetworkError, match="cannot see images of 16×16 pixels"):
        build_network("monai:DenseNet121", 3, px=(16, 16))


@pytest.mark.long
@pytest.mark.parametrize("side", [64, 128])
def test_matrix_products_stand_for_the_convolutions_of_the_last_stage(side):
    torch.manual_seed(0)
    ours = build_network("resnet18", 3).eval()
    theirs = resnet18(spatial_dims=2, n_input_channels=1, num_classes=3, conv1_t_stride=2).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 1, side, side)
    for network in (ours, theirs):
        network(x).square().sum().backward()
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    gradients = (network.layer4[0].conv1.weight.grad for network in (ours, theirs))
    assert torch.allclose(*gradients, atol=1e-4)
