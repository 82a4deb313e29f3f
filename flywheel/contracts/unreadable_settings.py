"""Settings that cannot be read, each told by its name and the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsError

PREFIX = "FLYWHEEL_"
WAY_OUT = "Mend them in the environment or in .env, or unset them for their defaults; docs/settings.md lists all."


def unreadable(kinds: Iterable[type[BaseSettings]]) -> Iterator[str]:
    """A sentence for each setting of these kinds that has a wrong value in the environment or in `.env`."""
    for kind in kinds:
        try:
            kind()
        except ValidationError as error:
            yield from (_sentence(each) for each in error.errors(include_url=False, include_context=False))
        except SettingsError as error:
            # What is a list or a mapping is read as JSON.
            name = next((name for name in kind.model_fields if f'"{name}"' in str(error)), "")
            yield f'{PREFIX}{name.upper()}: is no JSON; a list is written ["one", "another"]'


def _sentence(details: ErrorDetails) -> str:
    name = str(details["loc"][0]) if details["loc"] else ""
    reason = details["msg"][:1].lower() + details["msg"][1:]
    return f"{name if name.startswith(PREFIX) else PREFIX + name.upper()}: {reason}, unlike {details['input']!r}"
