"""Ways to run model-written code, each behind the same small adapter; see `base.Peer`."""

from __future__ import annotations

from sandbox_peers.base import Peer
from sandbox_peers.others import Bubblewrap, Jupyter, PlainPython, Smolagents
from sandbox_peers.ours import Cold, Pooled, Remote, RoundTrip

OURS: tuple[type[Peer], ...] = (Pooled, Cold, RoundTrip, Remote)
"""Forms of ours; the first is what others are compared with."""
OTHERS: tuple[type[Peer], ...] = (PlainPython, Bubblewrap, Jupyter, Smolagents)
PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (*OURS, *OTHERS)}
