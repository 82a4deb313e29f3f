"""`python -m infra.kubernetes`: what the manifests come to, whether they are right, and what they are made from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infra.kubernetes import configuration
from infra.kubernetes.rendering import as_yaml, build
from infra.kubernetes.topics import kafka_topics

OVERLAYS = Path(__file__).resolve().parent / "overlays"


def main(arguments: list[str]) -> int:
    """The process's exit status: 1 when manifests are not as Kubernetes wants them."""
    options = _parser().parse_args(arguments)
    if options.command == "configuration":
        for path in configuration.write():
            print(f"wrote {path.relative_to(configuration.BASE)}")
        return 0
    if options.command == "topics":
        sizes = {"replicas": options.replicas, "partitions": options.partitions}
        print(as_yaml(kafka_topics(options.usecase, options.cluster, **sizes)), end="")
        return 0
    if options.command == "render":
        print(as_yaml(build(options.overlay)), end="")
        return 0
    return validate(options.overlays or sorted(path.parent for path in OVERLAYS.glob("*/kustomization.yaml")))


def validate(overlays: list[Path]) -> int:
    """1 when an object of some overlay does not follow the schema; says which."""
    # Only checking needs the schemas, which are not installed for running.
    from infra.kubernetes.validation import VERSIONS, findings

    failed = 0
    for overlay in overlays:
        resources = build(overlay)
        found = list(findings(resources))
        failed += len(found)
        print(
            f"{overlay.name}: {len(resources)} objects, {len(found)} findings by the schemas of {', '.join(VERSIONS)}"
        )
        for line in found:
            print(f"  {line}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.kubernetes", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    render = commands.add_parser("render", help="an overlay as YAML, as `kubectl kustomize` would print it")
    render.add_argument("overlay", type=Path)
    check = commands.add_parser("validate", help="overlays against the schemas of Kubernetes; without any, all of ours")
    check.add_argument("overlays", type=Path, nargs="*")
    commands.add_parser("configuration", help="write the base's ConfigMaps anew from the declared settings")
    topics = commands.add_parser("topics", help="the topics of a use case for Strimzi")
    topics.add_argument("usecase")
    topics.add_argument("--cluster", default="flywheel", help="the Kafka they belong to (default: flywheel)")
    topics.add_argument("--replicas", type=int, default=3)
    topics.add_argument("--partitions", type=int, default=12, help="of topics that have more than one (default: 12)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
