"""What a page says of the word of others: judge, people, the sets by version, and other tools."""

from collections.abc import Sequence
from html import escape

from flywheel.evaluate.report.tables import Told, number, table


def others_told(result: Told, by_tools: Sequence[Told]) -> str:
    """All of it, and what must hold of any challenger; what is not there is said to be missing.

    Args:
        result: Of the evaluation.
        by_tools: What other tools measured, as `outside.results_beside` gives it.
    """
    return (
        _broken(result["broken_invariants"])
        + _judge(result["judge"])
        + _people(result["people"])
        + "".join(f"<p>{escape(one)}.</p>" for one in result["no_say"])
        + _sets(result["evaluation_sets"])
        + _tools(by_tools)
    )


def _broken(found: dict[str, str]) -> str:
    if not found:
        return "<p>Of what must hold of any challenger, nothing was found broken.</p>"
    lines = "".join(
        f"<li><b>{escape(name)}</b>: {escape(told)}</li>" for name, told in found.items()
    )
    return f"<p>What must hold of any challenger does not:</p><ul>{lines}</ul>"


def _judge(found: Told | None) -> str:
    """Its agreement with people beside the most that can be asked of it: theirs with each other."""
    if found is None:
        return "<p class=note>No model judged.</p>"
    rows = [
        (who, *number({f"{name}_se": None} | found, name, f"{name}_"))
        for who, name in (
            ("the judge with people", "agreement"),
            ("one annotator with another", "annotator_ceiling"),
        )
        if found[name] is not None
    ]
    told = (
        f"<p>Judge {escape(found['judge'])} read {found['pairs'] - found['unread']} of "
        f"{found['pairs']} held-out pairs that people decided, gave another verdict in the other "
        f"order on {found['orders_disagree']}, and was talked into the worse answer "
        f"{found['fooled']} of {found['probed']} times.</p>"
    )
    return told + table(("agreement on held-out pairs", "", "95 % interval", "error"), rows)


def _people(found: dict[str, Told]) -> str:
    if not found:
        return "<p class=note>No person compared these answers.</p>"
    rows = [
        (
            f"over {other}",
            *number(one, "win_rate"),
            str(one["prompts"]),
            str(one["annotators"]),
            str(one["judgements"]),
            _agreement(one["grader_agrees"]),
        )
        for other, one in found.items()
    ]
    heads = ("preferred by people", "win rate", "95 % interval", "error", "prompts", "people")
    return table((*heads, "judgements", "the grader agrees"), rows)


def _agreement(found: Told | None) -> str:
    if found is None:
        return ""
    return f"{found['agreement']:.3f} ({found['ci'][0]:.3f} to {found['ci'][1]:.3f})"


def _sets(found: Sequence[Told]) -> str:
    rows = [
        (
            f"{one['name']} version {one['version']} ({one['content_hash'][:12]})",
            ", ".join(one["graders"]),
            *(number(one, "win_rate") if one["compared"] else ("", "", "")),
            f"{one['compared']} of {one['prompts']}",
        )
        for one in found
    ]
    heads = ("evaluation set", "grader", "win rate", "95 % interval", "error", "prompts")
    return table(heads, rows)


def _tools(found: Sequence[Told]) -> str:
    rows = [
        (
            f"{one['task']} {one['task_version']}",
            one["by"],
            one["metric"],
            "none" if one["value"] is None else f"{one['value']:.3f}",
            "" if one["stderr"] is None else f"{one['stderr']:.3f}",
            str(one["samples"]),
            "" if one["is_current"] else "of other weights than these",
        )
        for one in found
    ]
    heads = ("task", "measured by", "metric", "value", "error", "samples", "")
    return table(heads, rows) or "<p class=note>No other tool has measured it.</p>"
