"""Steps start as soon as those they wait for are done; the first that dies ends the start with one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flywheel.contracts.settings import PlatformSettings
from infra.local.console import Console
from infra.local.failures import CannotStart
from infra.local.launch import Launch, RunningTask
from infra.local.processes import Process, Step, Task
from infra.local.supervision import State, Status, log_file


@dataclass
class Machine:
    """Processes and tasks of a test, and its clock: each is ready, or done, some ticks after its start."""

    settings: PlatformSettings
    ticks: dict[str, int]
    states: dict[str, State] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    now: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    begins_as: State = State.RUNNING

    def statuses(self) -> dict[str, Status]:
        return {name: Status(self.states.get(name, State.STOPPED), 0, 0) for name in self.ticks}

    def begin(self, name: str) -> None:
        self.began[name] = self.now
        self.states[name] = self.begins_as

    def end(self, name: str) -> None:
        self.stopped.append(name)

    def is_over(self, name: str) -> bool:
        return name in self.began and self.now >= self.began[name] + self.ticks[name]

    def spawn(self, task: Task) -> RunningTask:
        self.began[task.name] = self.now
        return FakeTask(self, task.name)

    def pass_time(self) -> None:
        self.now += 1

    def launch(self, steps: Sequence[Step], lines: list[str] | None = None) -> Launch:
        return Launch(
            self.settings,
            steps,
            self,
            Console((lines if lines is not None else []).append, lambda: float(self.now)),
            spawn=self.spawn,
            clock=lambda: float(self.now),
            pause=self.pass_time,
        )


@dataclass
class FakeTask:
    machine: Machine
    name: str

    def poll(self) -> int | None:
        return self.machine.codes.get(self.name, 0) if self.machine.is_over(self.name) else None

    def end(self) -> None:
        self.machine.end(self.name)


@pytest.fixture
def settings(tmp_path: Path) -> PlatformSettings:
    settings = PlatformSettings(data_dir=tmp_path)
    log_file(settings, "x").parent.mkdir(parents=True)
    return settings


def process(machine: Machine, name: str, *after: str, within_s: float = 100) -> Process:
    return Process(name, ("true",), after, ReadyWhen(lambda: machine.is_over(name)), within_s, f"at-{name}", {})


@dataclass(frozen=True)
class ReadyWhen:
    over: Callable[[], bool]
    waits_for: str = ""

    def __call__(self) -> bool:
        return self.over()

    def __str__(self) -> str:
        return "its probe"

    def detail(self) -> str:
        return self.waits_for


def test_a_step_starts_when_those_it_waits_for_are_done_and_no_later(settings: PlatformSettings) -> None:
    machine = Machine(settings, {"kafka": 5, "redis": 2, "topics": 3, "ingest": 1})
    machine.launch(
        [
            process(machine, "kafka"),
            process(machine, "redis"),
            Task("topics", ("true",), ("kafka",), 100),
            process(machine, "ingest", "topics", "redis"),
        ]
    ).run()
    assert machine.began["kafka"] == machine.began["redis"] == 0
    assert 5 <= machine.began["topics"] <= 6
    assert 8 <= machine.began["ingest"] <= 10


def test_what_runs_already_is_left_alone(settings: PlatformSettings) -> None:
    machine = Machine(settings, {"kafka": 0}, states={"kafka": State.RUNNING}, began={"kafka": -10})
    machine.launch([process(machine, "kafka")]).run()
    assert machine.began["kafka"] == -10


def test_a_ready_process_is_not_waited_for_until_its_start_counts_as_good(settings: PlatformSettings) -> None:
    machine = Machine(settings, {"kafka": 2}, begins_as=State.STARTING)
    machine.launch([process(machine, "kafka")]).run()
    assert machine.states["kafka"] == State.STARTING
    assert machine.now <= 3


def test_what_was_done_before_is_not_done_again(settings: PlatformSettings) -> None:
    machine = Machine(settings, {})
    lines: list[str] = []
    machine.launch([Task("training", ("true",), (), 10, needed=lambda: False)], lines).run()
    assert "training" not in machine.began
    assert "training  was done before" in lines[-1]


def test_a_process_that_dies_is_told_with_its_last_words(settings: PlatformSettings) -> None:
    machine = Machine(settings, {"kafka": 50, "slow": 50})
    log_file(settings, "kafka").write_text("fatal: of yesterday\n")

    class Dies(ReadyWhen):
        def __call__(self) -> bool:
            with log_file(settings, "kafka").open("a") as log:
                log.write("OSError: disk full\nbye\n")
            machine.states["kafka"] = State.BACKOFF
            return False

    kafka = Process("kafka", ("true",), (), Dies(lambda: False), 100, "", {})
    with pytest.raises(CannotStart) as refused:
        machine.launch([kafka, Task("slow", ("true",), (), 100)]).run()
    assert str(refused.value).startswith('kafka died while it started: "OSError: disk full" — the whole log is')
    assert "`make up`" in str(refused.value)
    assert machine.stopped == ["kafka", "slow"]


def test_a_task_that_fails_ends_the_start(settings: PlatformSettings) -> None:
    machine = Machine(settings, {"topics": 2, "ingest": 1}, codes={"topics": 3})
    steps: list[Step] = [Task("topics", ("true",), (), 100), process(machine, "ingest", "topics")]
    with pytest.raises(CannotStart, match="topics ended with exit code 3"):
        machine.launch(steps).run()
    assert "ingest" not in machine.began


def test_a_process_that_takes_too_long_names_what_was_awaited(settings: PlatformSettings) -> None:
    machine = Machine(settings, {"kafka": 1_000})
    with pytest.raises(CannotStart, match="kafka is not ready by its probe after 20 s"):
        machine.launch([process(machine, "kafka", within_s=20)]).run()
    assert 20 <= machine.now <= 22


def test_progress_says_how_far_and_how_long(settings: PlatformSettings) -> None:
    machine = Machine(settings, {"history": 12})
    lines: list[str] = []
    log_file(settings, "history").write_text("history  40%\n")
    machine.launch([Task("history", ("true",), (), 60)], lines).run()
    assert any("history   5 s of at most 60 s" in line for line in lines)
    assert "1/1   history   done after 12.0 s" in lines[-1]


def event(text: str, second: int, **said: object) -> str:
    return json.dumps({"event": text, "timestamp": f"2026-01-01T00:00:{second:02d}Z", "level": "info", **said}) + "\n"


def test_a_process_tells_what_it_waits_for_else_what_it_logged_last(settings: PlatformSettings) -> None:
    machine = Machine(settings, {"features": 8, "serving": 8})
    lines: list[str] = []
    for name in ("features", "serving"):
        log_file(settings, name).write_text(event("of_yesterday", 1))

    def logged() -> bool:
        if machine.now == 3:
            for name in ("features", "serving"):
                with log_file(settings, name).open("a") as log:
                    log.write(event("model_loaded", 2, version="v3") + "WARN something of no interest\n")
        return machine.now >= 8

    features = Process("features", ("true",), (), ReadyWhen(logged, "tiles are behind"), 100, "", {})
    serving = Process("serving", ("true",), (), ReadyWhen(logged), 100, "", {})
    machine.launch([features, serving], lines).run()
    assert any("features  5 s of at most 100 s  tiles are behind" in line for line in lines)
    assert any("serving   5 s of at most 100 s  model loaded, version v3" in line for line in lines)


def test_a_task_is_told_by_those_that_do_its_work(settings: PlatformSettings) -> None:
    machine = Machine(settings, {"training": 17})
    lines: list[str] = []
    log_file(settings, "features").write_text(event("of_yesterday", 1))
    writes = {
        2: ("features", event("history_requested", 2, reason="first model", request_id="r1")),
        7: ("trainer", event("training_set_read", 4, rows=12_345)),
        8: ("features", event("history_built", 3)),
    }

    def pause() -> None:
        machine.pass_time()
        if machine.now in writes:
            name, line = writes[machine.now]
            with log_file(settings, name).open("a") as log:
                log.write(line)

    launch = machine.launch([Task("training", ("true",), (), 100, told_by=("features", "trainer"))], lines)
    launch._pause = pause
    launch.run()
    told = [line.partition(" s of at most 100 s")[2].strip() for line in lines if " of at most " in line]
    read = "trainer: training set read, rows 12,345"
    assert told == ["features: history requested, reason first model", read, read]
