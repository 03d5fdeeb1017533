"""What every path wants to know: who asks, whether they may, and in which form they send something."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from thyme.studio.accounts import Person
from thyme.studio.filters import Words
from thyme.studio.refusal import Refusal
from thyme.studio.security import SAFE_METHODS, refuse_other_origins, require_token
from thyme.studio.service import Studio, person_of, studio_of

_MOST_ID = (1 << 63) - 1
"""The largest number that a database holds."""

Number = Annotated[int, Field(ge=0, le=_MOST_ID)]
"""Id in a body or a query."""
Id = Annotated[int, Path(ge=0, le=_MOST_ID)]
"""Id in a path."""
BuildName = Annotated[Words, Query(max_length=200)]
"""Name of a build in a query; empty: all."""


class Body(BaseModel):
    """What is sent; a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid")


Shared = Annotated[Studio, Depends(studio_of)]
"""The studio."""


def _person(request: Request) -> Person:
    """The person who asks, if they may.

    Raises:
        Refusal: Nobody is let in (401), or a change does not come from their own page (403).
    """
    person = person_of(request)
    if person is None:
        raise Refusal(401, "nobody", "come in by the link that you were given, or ask for one")
    if request.method not in SAFE_METHODS:
        refuse_other_origins(request, studio_of(request).config)
        require_token(request, person)
    return person


Asking = Annotated[Person, Depends(_person)]
"""Who asks, once let in; changes are known to come from their own page."""


def _lead(person: Asking) -> Person:
    if not person.lead:
        raise Refusal(403, "lead", "only those who lead may do this")
    return person


Leading = Annotated[Person, Depends(_lead)]
"""Who asks, and leads."""
