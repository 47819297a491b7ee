"""Trajectories in Harbor's Agent Trajectory Interchange Format (ATIF): what an agent did, step by step."""

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
from lathe.evals.atif.streams import from_claude_events, from_exec_events
from lathe.evals.atif.threads import from_thread

__all__ = [
    "Agent",
    "ContentPart",
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
    "from_thread",
    "read",
    "write",
]
