"""Text for terminals and logs whose encoding lacks some of its characters, such as Latin-1 or ASCII."""

import codecs
import io
import unicodedata
from typing import TextIO

_PLAIN = {"×": "x", "–": "-", "—": "-", "−": "-", "→": "->", "°": " deg", "≥": ">=", "≤": "<=", "Δ": "D", "σ": "sigma"}
_HANDLER = "weather_scnn.plain"


def plain(text: str) -> str:
    """The nearest ASCII: … becomes three dots, ² becomes 2; a question mark where there is none."""
    found = []
    for character in text:
        near = unicodedata.normalize("NFKD", _PLAIN.get(character, character))
        found.append(near.encode("ascii", "ignore").decode() or "?")
    return "".join(found)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return plain(error.object[error.start : error.end]), error.end


def speak_plainly(stream: TextIO) -> None:
    """Lets a stream write what its encoding cannot in ASCII, where it would otherwise stop the command."""
    codecs.register_error(_HANDLER, _replaced)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_HANDLER)
