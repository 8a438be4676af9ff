"""The pages' templates."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, context: dict[str, Any]) -> str:
    """Return the page that `template`, a file under ``templates/``, makes of `context`; a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("sonosynth.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(context)
