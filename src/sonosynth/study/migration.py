"""Studies of earlier versions: how their files are read today.

What was renamed or moved in the files of a study stands here and nowhere else, apart from the names of scores, which
`metrics.scores.current_names` knows.
"""

from typing import Any

from sonosynth.metrics.scores import current_names


def current_result(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the file of a finished cell as this version writes it.

    The first version kept the kind, and what distinguishes cells of a kind, apart from the result.
    """
    cell, result = content.get("cell"), content.get("result")
    if "kind" in content or not isinstance(cell, dict) or not isinstance(result, dict):
        return content
    merged = cell | result
    if cell.get("kind") == "score" and isinstance(result.get("scores"), list):
        rows = [row for row in result["scores"] if isinstance(row, dict)]
        merged["scores"] = [current_names(row) | {"features": row.get("features") or ""} for row in rows]
    return content | {"kind": cell.get("kind", ""), "result": merged}
