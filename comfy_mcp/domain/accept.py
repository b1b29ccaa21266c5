"""What an Accept header asks for (RFC 9110, 12.5.1), where a few media types are on offer."""

import re
from collections.abc import Sequence


def preferred(accept: str, offered: Sequence[str]) -> str | None:
    """The one of `offered` that is named with the greatest weight, the first where several are; or None.

    Ranges such as `*/*` name none: programs send them without a wish.
    """
    weights = dict.fromkeys(offered, 0.0)
    for entry in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in entry.split(";"))
        if media_type in weights:
            weights[media_type] = max(weights[media_type], _weight(parameters))
    best = max(offered, key=weights.__getitem__)
    return best if weights[best] > 0 else None


def _weight(parameters: Sequence[str]) -> float:
    """RFC 9110, 12.4.2; 0 for one that is malformed."""
    shown = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
    if not shown:
        return 1.0
    return float(shown[-1]) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", shown[-1]) else 0.0
