from .classify.classify import classify as classify
from .core.errors import SonosynthError as SonosynthError
from .data.imageset import ImageSet as ImageSet
from .data.load import load as load
from .data.prepared_folder import prepare as prepare
from .data.scan import read_source as read_source
from .data.scan import scan as scan
from .data.source import ReadOptions as ReadOptions
from .data.split import nested_subsets as nested_subsets
from .data.split import split as split
from .data.split import split_indices as split_indices
from .gan.registry import make_recipe as make_recipe
from .gan.sample import generate as generate
from .gan.train import train as train
from .metrics.metric import list_metrics as list_metrics
from .metrics.metric import register_metric as register_metric
from .metrics.scorecard import score as score
from .phantoms.phantom import phantom as phantom
from .phantoms.phantom import phantom_with_masks as phantom_with_masks
from .report.audit_page import audit as audit
from .report.study.page import write_report as write_report
from .report.study.study import run_study as run_study
from .study.plan import plan_study as plan_study
from .study.plan import study_status as study_status

__version__: str
