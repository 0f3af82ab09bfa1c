"""The body of `text:analyze`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from modelport.core.errors import BadRequest
from modelport.core.safety import Category

MAX_CHARACTERS: Final = 10_000
MAX_BLOCKLISTS: Final = 100
WIRE_NAMES: Final = {
    "Hate": Category.HATE,
    "SelfHarm": Category.SELF_HARM,
    "Sexual": Category.SEXUAL,
    "Violence": Category.VIOLENCE,
}
"""In the order in which Azure answers."""

TextCategory = Literal["Hate", "SelfHarm", "Sexual", "Violence"]


class AnalyzeTextOptions(Struct, frozen=True, rename="camel"):
    """What the client asks."""

    text: str
    categories: Annotated[list[TextCategory], Meta(max_length=100)] | None = None
    blocklist_names: Annotated[list[str], Meta(max_length=MAX_BLOCKLISTS)] | None = None
    halt_on_blocklist_hit: bool | None = None
    output_type: Literal["FourSeverityLevels", "EightSeverityLevels"] | None = None

    @property
    def harms(self) -> tuple[Category, ...]:
        """What is asked for, in the order in which it is answered."""
        if self.categories is None:
            return tuple(WIRE_NAMES.values())
        return tuple(category for name, category in WIRE_NAMES.items() if name in self.categories)


_DECODER: Final = msgspec.json.Decoder(AnalyzeTextOptions)


def decode(body: bytes) -> AnalyzeTextOptions:
    """Raises BadRequest."""
    try:
        options = _DECODER.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        said = str(error) if isinstance(error, msgspec.ValidationError) else "it is not a JSON object"
        raise BadRequest(f"The request body is not valid: {said}.") from None
    if not options.text:
        raise BadRequest("The request body is not valid: text is empty.", target="text")
    if len(options.text) > MAX_CHARACTERS:
        raise BadRequest(
            f"The text has {len(options.text)} characters; one request takes {MAX_CHARACTERS}. Send it in parts.",
            target="text",
        )
    return options
