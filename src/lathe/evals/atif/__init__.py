"""Trajectories in Harbor's Agent Trajectory Interchange Format (ATIF): what an agent did, step by step."""

from lathe.evals.atif.draft import Draft, stamp
from lathe.evals.atif.format import (
    Agent,
    ContentPart,
    FinalMetrics,
    ImageSource,
    Metrics,
    Observation,
    ObservationResult,
    Step,
    SubagentTrajectoryRef,
    ToolCall,
    Trajectory,
    TrajectoryError,
    faults_of,
    read,
    write,
)
from lathe.evals.atif.mini import from_mini
from lathe.evals.atif.streams import from_claude_events, from_exec_events
from lathe.evals.atif.threads import from_thread
from lathe.evals.atif.timeline import seconds_of

__all__ = [
    "Agent",
    "ContentPart",
    "Draft",
    "FinalMetrics",
    "ImageSource",
    "Metrics",
    "Observation",
    "ObservationResult",
    "Step",
    "SubagentTrajectoryRef",
    "ToolCall",
    "Trajectory",
    "TrajectoryError",
    "faults_of",
    "from_claude_events",
    "from_exec_events",
    "from_mini",
    "from_thread",
    "read",
    "seconds_of",
    "stamp",
    "write",
]
