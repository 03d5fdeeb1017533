"""Who may come in: by a link that works once, or as a reverse proxy says.

A browser that came in holds a random token in a cookie; the database holds its hash, so that a copy of the database
lets nobody in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from starlette.requests import Request

from thyme.config.studio import StudioConfig
from thyme.studio.database import Database
from thyme.studio.models import ROLES, Invite, Login, Reviewer, Setting
from thyme.studio.refusal import Refusal, missing

COOKIE = "thyme_studio"
"""What the names of cookies begin with; the rest is the database's own (`Accounts.cookie`)."""
_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
"""What so many bytes look like."""
_MOST_NAME = 100
_SECRET = "secret"
"""Setting that tokens against forged requests are made with."""


@dataclass(frozen=True)
class Person:
    """Who asks."""

    id: int
    name: str
    lead: bool
    via: Literal["invite", "proxy"]
    csrf: str
    """What their pages show with every change."""
    roles: tuple[str, ...] = ()
    """What they may do in annotation: of `models.ROLES`, and ``adjudicate``."""


class Accounts:
    """Reviewers, their links, and their browsers."""

    def __init__(self, database: Database, config: StudioConfig) -> None:
        """Keep accounts in a database."""
        self._database, self._config = database, config
        self._secret = _server_secret(database)
        self.cookie = f"{COOKIE}_{hashlib.sha256(b'cookie:' + self._secret).hexdigest()[:8]}"
        """Name of the cookie: browsers tell no ports apart, and two studios of one machine would share one name's."""

    def person_of(self, request: Request) -> Person | None:
        """Who sent a request; None where nobody is let in.

        Raises:
            Refusal: The proxy names somebody who cannot be, or who may not come in any more (403).
        """
        if self._config.proxy_header:
            return self._of_proxy(request)
        token = request.cookies.get(self.cookie, "")
        if not _TOKEN.fullmatch(token):
            return None
        with self._database.read() as session:
            found = session.execute(
                select(Reviewer)
                .join(Login, Login.reviewer_id == Reviewer.id)
                .where(Login.digest == digest(token), Login.expires > time.time(), Reviewer.active)
            ).scalar_one_or_none()
        return None if found is None else self._person(found, "invite", token)

    def invite(self, name: str, *, lead: bool = False, roles: Sequence[str] | None = None) -> str:
        """Make a link's token.

        Args:
            name: Whom it lets in, who need not be known yet; empty: anybody new, who then says their name.
            lead: Whether a person that it makes leads.
            roles: Of a person that it makes, in annotation; None: the usual ones.

        Raises:
            Refusal: Name or roles cannot be (400), or the name belongs to
                somebody who may not come in any more (403).
        """
        token, now = secrets.token_urlsafe(_TOKEN_BYTES), time.time()
        with self._database.write() as session:
            if name:
                name = clean_name(name)
                _require_active(_named(session, name))
            expires = now + self._config.invite_s
            row = Invite(digest=digest(token), name=name, lead=lead, created=now, expires=expires)
            if roles is not None:
                row.roles = kept_roles(roles)
            session.add(row)
        return token

    def join(self, token: str, name: str) -> tuple[Person, str]:
        """Let a browser in by a link, which then works no more.

        Args:
            token: Of the link.
            name: Of the person, where the link names nobody.

        Returns:
            The person, and the token for the browser's cookie.

        Raises:
            Refusal: The link is none, is used or has run out (403); the name is missing (400) or taken (409).
        """
        try:
            return self._joined(token, name)
        except IntegrityError:  # somebody came in by this name at the same moment, and is known now
            return self._joined(token, name)

    def _joined(self, token: str, name: str) -> tuple[Person, str]:
        now, cookie = time.time(), secrets.token_urlsafe(_TOKEN_BYTES)
        with self._database.write() as session:
            invite = session.scalars(select(Invite).where(Invite.digest == digest(token)).with_for_update()).first()
            if invite is None or invite.used is not None or invite.expires <= now:
                raise Refusal(403, "invite", "this link is used up or has run out; ask for a new one")
            reviewer = self._invited(session, invite, name, now)
            invite.used = now
            session.execute(delete(Login).where(Login.expires <= now))
            expires = now + self._config.session_s
            session.add(Login(digest=digest(cookie), reviewer_id=reviewer.id, created=now, expires=expires))
            return self._person(reviewer, "invite", cookie), cookie

    def leave(self, request: Request) -> None:
        """Forget a browser."""
        with self._database.write() as session:
            session.execute(delete(Login).where(Login.digest == digest(request.cookies.get(self.cookie, ""))))

    def change(
        self, id: int, *, active: bool | None, lead: bool | None, roles: Sequence[str] | None = None
    ) -> Reviewer:
        """Change what a person may; who is not active is let in no more, at once.

        Raises:
            Refusal: There is no such person (404), or role (400).
        """
        with self._database.write() as session:
            reviewer = session.get(Reviewer, id)
            if reviewer is None:
                raise missing("reviewer")
            reviewer.active = reviewer.active if active is None else active
            reviewer.lead = reviewer.lead if lead is None else lead
            reviewer.roles = reviewer.roles if roles is None else kept_roles(roles)
            return reviewer

    def _invited(self, session: Session, invite: Invite, name: str, now: float) -> Reviewer:
        known = _named(session, invite.name or clean_name(name))
        if known is not None and not invite.name:
            raise Refusal(409, "name", f"somebody is called {known.name} already; take another name")
        _require_active(known)
        if known is not None:
            known.lead = known.lead or invite.lead
            return known
        return _added(session, invite.name or clean_name(name), invite.lead, now, invite.roles)

    def _of_proxy(self, request: Request) -> Person | None:
        """The person that the reverse proxy names; what others say in its place counts for nothing."""
        peer = request.client.host if request.client else ""
        given = request.headers.getlist(self._config.proxy_header)
        if peer not in self._config.proxy_peers or len(given) != 1 or not given[0].strip():
            return None
        name = clean_name(given[0].encode("latin-1").decode("utf-8", "replace"))
        with self._database.read() as session:
            reviewer = _named(session, name)
        reviewer = reviewer or self._new(name)
        _require_active(reviewer)
        return self._person(reviewer, "proxy", name)

    def _new(self, name: str) -> Reviewer:
        try:
            with self._database.write() as session:
                return _added(session, name, False, time.time())
        except IntegrityError:  # another request of the same person was quicker
            with self._database.read() as session:
                return session.scalars(select(Reviewer).where(Reviewer.name == name)).one()

    def _person(self, reviewer: Reviewer, via: Literal["invite", "proxy"], holds: str) -> Person:
        lead = reviewer.lead or (via == "proxy" and reviewer.name in self._config.leads)
        csrf = hmac.new(self._secret, f"{via}:{holds}".encode(), hashlib.sha256).hexdigest()
        return Person(reviewer.id, reviewer.name, lead, via, csrf, roles_of(reviewer.roles, lead=lead))


def roles_of(kept: str, *, lead: bool) -> tuple[str, ...]:
    """Roles as they are kept, as a tuple; who leads has all of them."""
    held = kept.split()
    return (*ROLES, "adjudicate") if lead else tuple(role for role in ROLES if role in held)


def kept_roles(roles: Sequence[str]) -> str:
    """Roles as they are kept.

    Raises:
        Refusal: There is no such role (400).
    """
    unknown = set(roles) - set(ROLES)
    if unknown:
        raise Refusal(400, "roles", f"there is no role {min(unknown)!r}; roles are {', '.join(ROLES)}")
    return " ".join(role for role in ROLES if role in roles)


def digest(token: str) -> str:
    """What the database holds of a token, which is random enough for a plain hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def clean_name(name: str) -> str:
    """A name as it is kept.

    Raises:
        Refusal: It is empty, too long, or has characters that cannot be seen (400).
    """
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if not cleaned or len(cleaned) > _MOST_NAME or not cleaned.isprintable():
        raise Refusal(400, "name", f"a name has 1 to {_MOST_NAME} characters that can be seen")
    return cleaned


def _named(session: Session, name: str) -> Reviewer | None:
    return session.scalars(select(Reviewer).where(Reviewer.name == name)).first()


def _added(session: Session, name: str, lead: bool, now: float, roles: str | None = None) -> Reviewer:
    reviewer = Reviewer(name=name, lead=lead, active=True, created=now, **({} if roles is None else {"roles": roles}))
    session.add(reviewer)
    session.flush()
    return reviewer


def _require_active(reviewer: Reviewer | None) -> None:
    if reviewer is not None and not reviewer.active:
        raise Refusal(403, "inactive", f"{reviewer.name} does not review here any more; ask who leads")


def _server_secret(database: Database) -> bytes:
    with suppress(IntegrityError), database.write() as session:  # another process may be quicker
        if session.get(Setting, _SECRET) is None:
            session.add(Setting(name=_SECRET, value=secrets.token_hex(_TOKEN_BYTES)))
    with database.read() as session:
        return bytes.fromhex(session.get_one(Setting, _SECRET).value)
