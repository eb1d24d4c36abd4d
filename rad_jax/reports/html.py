"""The Jinja templates of the pages: everything that is put into them is escaped, and a name they lack is an error."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from rad_jax.media import CONTEXT_COLOUR, PREDICTED_COLOUR
from rad_jax.reports.tables import cell_text
from rad_jax.reports.text import number

TEMPLATES = Environment(
    loader=PackageLoader("rad_jax.reports"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.globals |= {
    "number": number,
    "cell_text": cell_text,
    "colours": {"given": f"rgb{CONTEXT_COLOUR}", "predicted": f"rgb{PREDICTED_COLOUR}"},
}


def render(template: str, **values: object) -> str:
    """A page from a file of ``templates/``."""
    return TEMPLATES.get_template(template).render(values)
