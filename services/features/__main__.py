"""`python -m services.features` runs the service; with `apply` it brings Feast's registry up to date and ends, with
`rebuild` it fills the online store again from the lake and ends."""

from __future__ import annotations

import logging
import signal
import sys
import threading

from flywheel.adapters.attribute_lake import LoadsUnreadable
from flywheel.adapters.feast_repo import apply_declaration
from flywheel.adapters.logs import configure, logger
from flywheel.adapters.spark_checkpoint import LostTrack
from flywheel.kernel import catalog
from flywheel.kernel.erasure import OtherKey
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Unavailable
from services.features.settings import FeaturesSettings
from services.features.stream import JobDied


def main(arguments: list[str]) -> int:
    """The process's exit status."""
    settings = FeaturesSettings()
    configure("features", settings.log_level)
    # It tells of every connection to the JVM.
    logging.getLogger("py4j").setLevel(logging.WARNING)
    if arguments == ["apply"]:
        changed = apply_declaration(settings, compile_plan(catalog.load(settings.usecase)))
        logger("services.features").info("feast_applied" if changed else "feast_up_to_date", usecase=settings.usecase)
        return 0
    if arguments == ["rebuild"]:
        return rebuild(settings)
    if arguments:
        print(f"features: what is {arguments[0]!r}? Say nothing, `apply` or `rebuild`.", file=sys.stderr)
        return 2
    return run(settings)


def rebuild(settings: FeaturesSettings) -> int:
    """Fills the online store again from the lake, while the service itself does not run; says how far it is."""
    from services.features.bootstrap import rebuild_store
    from services.features.rebuild import NothingToRebuildFrom

    def tell(line: str) -> None:
        print(line, flush=True)

    try:
        done = rebuild_store(settings, tell)
    except (NothingToRebuildFrom, LoadsUnreadable, Unavailable, OtherKey) as error:
        tell(f"not rebuilt: {error}")
        return 1
    tell(
        f"rebuilt {sum(done.entities.values()):,} entities from {sum(done.events.values()):,} contributions in "
        f"{done.seconds:.1f} s ({done.entities_per_s:,.0f} entities/s)"
    )
    return 0


def run(settings: FeaturesSettings) -> int:
    """Runs the service until SIGTERM or SIGINT; not 0 when a part of it died or it must not start."""
    # Starting Spark is costly, so `apply` does without it.
    from services.features.bootstrap import FeaturesService
    from services.features.watch import watch

    log = logger("services.features")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    log.info("spark_starts", master=settings.spark_master)
    try:
        service = FeaturesService.assemble(settings)
    except (LostTrack, Unavailable, OtherKey) as error:
        log.error("features_cannot_start", reason=str(error))
        return 1
    try:
        watch(service, stopping)
    except (JobDied, Unavailable) as error:
        log.error("features_job_died", reason=str(error))
        return 1
    finally:
        stopping.set()
        service.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
