"""What recipes, classifiers and metrics give a study file to choose from; importing them takes PyTorch with it."""

from sonosynth.classify.arms import CLASS_BALANCES as CLASS_BALANCES
from sonosynth.classify.arms import DEFAULT_ARMS as DEFAULT_ARMS
from sonosynth.classify.arms import find_arm as find_arm
from sonosynth.classify.filters import DEFAULT_QUANTILE as DEFAULT_QUANTILE
from sonosynth.classify.filters import FILTERS as FILTERS
from sonosynth.classify.networks import find_network as find_network
from sonosynth.classify.training import BALANCES as BALANCES
from sonosynth.classify.training import DEFAULT_TRAINING as DEFAULT_TRAINING
from sonosynth.classify.training import SCHEDULES as SCHEDULES
from sonosynth.features.registry import list_features as list_features
from sonosynth.gan.registry import make_recipe as make_recipe
from sonosynth.gan.training.transfer import with_prior as with_prior
from sonosynth.metrics.metric import PARTS as PARTS
