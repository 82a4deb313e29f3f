"""Makes the topics of the use case on the broker; those that exist have as many partitions, and keep their
records as long, as is declared."""

from __future__ import annotations

import sys

from flywheel.adapters.kafka_topics import add_partitions, create_topics, keep_as_declared
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.topics import topics_of
from flywheel.kernel import catalog
from flywheel.kernel.ports import Unavailable


def main() -> None:
    """Prints what was made."""
    settings = PlatformSettings()
    usecase = catalog.load(settings.usecase)
    wanted = topics_of(usecase.name, tuple(event.event_name for event in usecase.events), settings.event_partitions)
    try:
        made = create_topics(settings.kafka_bootstrap, wanted)
        widened = add_partitions(settings.kafka_bootstrap, wanted)
        changed = keep_as_declared(settings.kafka_bootstrap, wanted)
    except Unavailable as reason:
        sys.exit(str(reason))
    print(
        f"{len(made)} topics made, {len(wanted) - len(made)} were there, partitions added to {len(widened)}, "
        f"retention changed of {len(changed)}"
    )


if __name__ == "__main__":
    main()
