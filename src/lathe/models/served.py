"""Whether the model that served is the one that was asked for: endpoints call one and the same by several names."""

from __future__ import annotations

import re

_VENDOR = r"^(?:(?:us|eu|apac|global)\.)?(?:anthropic|openai|amazon|google|meta|mistral)\."
_DATED = r"[-@:](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|\d{4}|00\d)(?:-v\d+)?(?::\d+)?$"
_MOVING = r"[-:]latest$"


def same_model(requested: str, served: str) -> bool:
    """Tell whether `served` is a name of `requested`: with its vendor, or with the date of its snapshot.

    Where the endpoint says nothing ("") nothing is known to differ.
    """
    if not served or not requested or requested == served:
        return True
    asked, given = _bare(requested), _bare(served)
    return asked == given or re.sub(_MOVING, "", asked) == re.sub(_DATED, "", given)


def _bare(name: str) -> str:
    return re.sub(_VENDOR, "", name.strip().lower().rpartition("/")[2])
