"""Who decides the next step: thread, turn, context, approvals."""
