"""`status` and `logs`: what runs, how long, how often it was restarted, how much memory it takes, what it says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import psutil

from flywheel.contracts.settings import PlatformSettings
from infra.local import leftovers, places, prometheus, restarts
from infra.local.console import Console, table
from infra.local.failures import CannotStart
from infra.local.log_lines import dated_telling_line
from infra.local.processes import Process, declaration, processes
from infra.local.supervision import ALIVE, State, Status, Supervisor, log_file

_HEADER = ("PROCESS", "STATE", "PID", "UPTIME", "RESTARTS", "RSS MiB", "ADDRESS")


def status(settings: PlatformSettings, console: Console) -> bool:
    """Prints the table; whether everything runs or is starting."""
    supervisor = Supervisor(settings)
    if not supervisor.is_running():
        console.plain("The stack does not run; start it with `make up`.")
        return False
    statuses = supervisor.statuses()
    declared = [process for process in processes(declaration(settings)) if process.name in statuses]
    counts = restarts.read(places.run_dir(settings))
    memory = {p.name: rss_mib(statuses[p.name].pid) if statuses[p.name].pid else 0.0 for p in declared}
    rows = [_row(process, statuses[process.name], counts, memory[process.name]) for process in declared]
    states = [statuses[process.name].state for process in declared]
    whole = stack_rss_mib(settings)
    console.plain(table(_HEADER, rows))
    console.plain(
        f"{summary(states, sum(counts.values()))}, "
        f"{whole:,.0f} MiB with the supervisor (shared pages counted once a process)"
    )
    for line in said(process for process in declared if statuses[process.name].state in ALIVE):
        console.plain(line)
    for process in declared:
        troubled = statuses[process.name].state not in ALIVE or counts.get(process.name)
        if troubled and (line := dated_telling_line(log_file(settings, process.name))):
            console.plain(f"  {process.name}: {line}")
    if prometheus.NAME not in statuses:
        console.plain(f"  {prometheus.NAME}: {prometheus.told(settings)}")
    return all(state in ALIVE for state in states)


def said(processes: Iterable[Process]) -> list[str]:
    """What those say of themselves that have more to say than whether they are ready, a line each."""
    asked = {process.name: process.says for process in processes if process.says is not None}
    return [f"  {name}: {detail}" for name, says in asked.items() if (detail := says.detail())]


def follow_logs(settings: PlatformSettings, names: Iterable[str]) -> None:
    """Becomes `tail -F` of the logs of those processes, of all without a name."""
    known = [step.name for step in declaration(settings)]
    wanted = list(names) or known
    if unknown := [name for name in wanted if name not in known]:
        raise CannotStart(f"There is no process {unknown[0]!r}; there are: {', '.join(known)}")
    files = [str(log_file(settings, name)) for name in wanted if log_file(settings, name).exists()]
    if not files:
        raise CannotStart("There are no logs yet; start the stack with `make up`")
    os.execvp("tail", ["tail", "-n", "20", "-F", *files])


def rss_mib(pid: int) -> float:
    """Resident memory of a process and its descendants."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(map(_rss, family)) / 2**20


def stack_rss_mib(settings: PlatformSettings) -> float:
    """Resident memory of everything the stack started."""
    return sum(map(_rss, leftovers.find(places.run_dir(settings)))) / 2**20


def stack_pss_mib(settings: PlatformSettings) -> float:
    """The same with every page that processes share divided among them, so that the sum is what is really used."""
    return sum(map(_pss, leftovers.find(places.run_dir(settings)))) / 2**20


def summary(states: Sequence[State], restarted: int) -> str:
    """How many processes run, how many are only starting, and how often one was restarted.

    >>> summary([State.RUNNING, State.STARTING, State.FATAL], 1)
    '1 of 3 run, 1 starting, 1 restart'
    """
    starting = states.count(State.STARTING)
    parts = [f"{states.count(State.RUNNING)} of {len(states)} run"]
    if starting:
        parts.append(f"{starting} starting")
    return ", ".join([*parts, f"{restarted} restart{'' if restarted == 1 else 's'}"])


def duration(seconds: float) -> str:
    """Two largest units: `3d 4h`, `2h 5m`, `7m 12s`, `9s`."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _row(process: Process, status: Status, counts: dict[str, int], memory_mib: float) -> tuple[object, ...]:
    alive = status.pid > 0
    return (
        process.name,
        status.state.name.lower(),
        status.pid or "-",
        duration(status.uptime_s) if alive else "-",
        counts.get(process.name, 0),
        f"{memory_mib:,.0f}" if alive else "-",
        process.address,
    )


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
