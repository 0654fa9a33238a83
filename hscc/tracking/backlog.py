"""Send what waited while the store was down."""

from __future__ import annotations

from pathlib import Path

from hscc.errors import HSCCError
from hscc.tracking import outage
from hscc.tracking.delivery import deliver
from hscc.tracking.journal import left_behind
from hscc.tracking.store import StoreDown, open_client, shown_uri


def send_backlog(workspace: Path = Path(".")) -> list[str]:
    """Send the journals of all runs that ended or were killed while the store was down, the earliest first.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    list of str
        A line a run: its name and id.

    Raises
    ------
    HSCCError
        If the store still does not answer; what has not arrived keeps waiting.
    """
    journals = left_behind(workspace)
    if not journals:
        return []
    sent = []
    try:
        client = open_client(workspace)
        for journal in journals:  # a parent began before its children
            name = journal.name
            deliver(journal, client, workspace)
            sent.append(f"{name}: run {journal.run_id}")
    except StoreDown as error:
        raise HSCCError(
            f"the MLflow store {shown_uri(workspace)} does not answer ({error}); {len(journals) - len(sent)} of "
            f"{len(journals)} runs keep waiting; start it and run `hscc track` again."
        ) from error
    finally:
        for journal in journals:
            journal.release()
    outage.over(workspace)
    return sent
