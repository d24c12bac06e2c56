"""The exhibits that the benchmarks publish."""

from __future__ import annotations

from benchmarks.adaptive.view import EXHIBIT as ADAPTIVE
from benchmarks.communication.view import EXHIBIT as COMMUNICATION
from benchmarks.cost_model.view import EXHIBIT as COST_MODEL
from benchmarks.growth.view import EXHIBIT as GROWTH
from benchmarks.hesd_cost.view import EXHIBIT as HESD_COST
from benchmarks.operations.view import EXHIBIT as OPERATIONS
from benchmarks.peers.view import EXHIBIT as PEERS
from benchmarks.stated_error.view import EXHIBIT as STATED_ERROR

EXHIBITS = (
    ADAPTIVE,
    COMMUNICATION,
    COST_MODEL,
    GROWTH,
    HESD_COST,
    OPERATIONS,
    PEERS,
    STATED_ERROR,
)
