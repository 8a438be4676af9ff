"""The pages' templates, and pictures inside pages."""

import base64
import io
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from sonosynth.core.text import agreeing, counted, joined, span
from sonosynth.report import wording

_FILTERS = {  # how templates write numbers and lists; see the functions
    "cell": wording.markdown_cell,
    "dash": wording.or_dash,
    "decimals": wording.decimals_for,
    "interval": wording.interval_text,
    "joined": lambda values: joined([str(value) for value in values]),
    "listed": wording.listed,
    "number": wording.number,
    "p_value": wording.p_text,
    "percent": wording.percent,
    "short": wording.short_number,
    "span": span,
}


def render(template: str, context: dict[str, Any]) -> str:
    """Return the page that `template`, a file under ``templates/``, makes of `context`; a missing value is an error.

    Values are escaped in pages of HTML, and stand as they are in Markdown.

    Templates may use `_FILTERS`, and call `counted` and `agreeing` of `core.text`.
    """
    environment = template_environment("sonosynth.report", escapes=template.endswith(".html"))
    return environment.get_template(template).render(context)


def template_environment(package: str, *, escapes: bool = True) -> Environment:
    """Return what the templates of `package` may use; `escapes` values for HTML."""
    environment = Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=escapes,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    environment.globals |= {"counted": counted, "agreeing": agreeing}
    return environment


def data_uri(kind: str, content: bytes) -> str:
    """Return the `content` of an image file of the MIME type ``image/KIND`` as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(picture: Image.Image, kind: str, **how: Any) -> str:
    """Return `picture` as a data URI, saved by Pillow as `kind`, ``png`` or ``jpeg``, and as `how` says."""
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return data_uri(kind, stream.getvalue())
