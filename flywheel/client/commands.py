"""The command line: `python -m flywheel <command>`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import logging
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from flywheel.adapters import logs
from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.grpc_client import UnusableTls, client_tls
from flywheel.client.attributes import load, rows_in, table_named
from flywheel.client.console import render_decision, render_erasure, render_training
from flywheel.client.decision_client import DecisionClient
from flywheel.client.deployment_history import render_deployment
from flywheel.client.deployments import Deployments, Wanted
from flywheel.client.erased_files import Subject
from flywheel.client.erasure import Erasure
from flywheel.client.errors import ClientError
from flywheel.client.fields import parse_fields
from flywheel.client.fitting_models import is_deployed
from flywheel.client.ingest_client import IngestClient
from flywheel.client.replay import aligned, replay
from flywheel.client.rows import read_rows
from flywheel.client.training import train
from flywheel.client.world_driver import drive_world
from flywheel.contracts.events import Event
from flywheel.contracts.models import Role
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.unreadable_settings import WAY_OUT, unreadable
from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.deployment import Author
from flywheel.kernel.features import InvalidDeclaration
from flywheel.kernel.ranking import Ranking
from flywheel.kernel.variants import Tolerance

_HTTP_TIMEOUT_S = 10.0
_EXPLAINED = 3
_DECIDE_TIMEOUT_S = 2.0
_REPLAY_PATIENCE_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code.

    0: done. 1: not done, a sentence on standard error says why. 2: misuse.
    """
    options = _parser().parse_args(arguments)
    if wrong := list(unreadable([PlatformSettings])):
        print(f"flywheel {options.command}: {'; '.join(wrong)}. {WAY_OUT}", file=sys.stderr)
        return 1
    settings = PlatformSettings()
    _configure_logs(options.command, settings)
    try:
        code: int = options.run(options, settings)
        sys.stdout.flush()
    except (ClientError, InvalidDeclaration, UnusableTls) as error:
        print(f"flywheel {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read on, `head` for one, has seen enough; the interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _configure_logs(command: str, settings: PlatformSettings) -> None:
    # A command answers in sentences; a service keeps a log, and so does what must be accounted for.
    keeps_log = command in ("world", "erase")
    logs.configure(command if keeps_log else "client", settings.log_level if keeps_log else "ERROR")
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _world(options: argparse.Namespace, settings: PlatformSettings) -> int:
    drive_world(options.usecase, settings, history_only=options.history_only)
    return 0


def _replay(options: argparse.Namespace, settings: PlatformSettings) -> int:
    usecase = catalog.load(options.usecase)
    event = _event(usecase, options.event or usecase.request.event_name)
    rows = read_rows(options.file, event, event.event_name)
    if options.speedup is not None and options.pace != "recorded":
        raise ClientError("--speedup needs --pace recorded")
    speedup = (options.speedup or 1.0) if options.pace == "recorded" else None

    async def send_all() -> int:
        async with _http(settings) as http:
            waiting = partial(print, "ingest does not accept events; waiting", file=sys.stderr, flush=True)
            ingest = IngestClient(http, usecase.name, patience_s=_REPLAY_PATIENCE_S, on_wait=waiting)
            present = await ingest.present() if options.align else None
            summary = await replay(
                aligned(rows, present) if present else rows,
                event.event_name,
                ingest,
                speedup=speedup,
                backfilled=not options.live,
                report=_say,
            )
        _say(str(summary))
        return 1 if summary.rejected else 0

    return asyncio.run(send_all())


def _send(options: argparse.Namespace, settings: PlatformSettings) -> int:
    usecase = catalog.load(options.usecase)
    event = _event(usecase, options.event)
    given = parse_fields(event, options.fields)

    async def send() -> int:
        async with _http(settings) as http:
            ingest = IngestClient(http, usecase.name)
            fields = await _filled(given, ingest)
            rejection = await ingest.send_one(event.event_name, fields)
        if rejection:
            raise ClientError(f"{fields['event_id']} rejected: {rejection.reason}")
        _say(f"{fields['event_id']} accepted")
        return 0

    return asyncio.run(send())


def _decide(options: argparse.Namespace, settings: PlatformSettings) -> int:
    usecase = catalog.load(options.usecase)
    if isinstance(usecase.policy, Ranking):
        path = f"{settings.serving_rest_address}/v1/usecases/{usecase.name}/rankings"
        raise ClientError(
            f"{usecase.name} ranks candidates and decides about none alone; POST its subject and candidates to {path}, "
            "as docs/serving.md says under Rankings"
        )
    given = parse_fields(usecase.request, options.fields)

    async def ask() -> int:
        async with _http(settings) as http:
            fields = await _filled(given, IngestClient(http, usecase.name))
        client = DecisionClient(settings.serving_address, timeout_s=_DECIDE_TIMEOUT_S, tls=client_tls(settings))
        try:
            _say(render_decision(usecase, await client.decide(usecase.name, fields, explain=_EXPLAINED)))
        finally:
            await client.close()
        return 0

    return asyncio.run(ask())


def _train(options: argparse.Namespace, settings: PlatformSettings) -> int:
    usecase = catalog.load(options.usecase)
    if options.unless_deployed and is_deployed(FileModelStore(settings.model_dir), usecase):
        _say("a model of the features as they are declared is deployed already")
        return 0
    wait_s = options.timeout if options.wait else None
    request, finished = asyncio.run(train(usecase.name, settings, options.reason, wait_s=wait_s, tell=_say))
    if not options.wait:
        _say(f"training requested: {request.request_id}")
        return 0
    if finished is None:
        raise ClientError(
            f"training {request.request_id} has not finished within {options.timeout:g} s; "
            "`make logs` tells how far it is"
        )
    _say(render_training(finished))
    # That a model did not pass the gates is an answer, not a failure.
    return 1 if finished.error else 0


def _deploy(options: argparse.Namespace, settings: PlatformSettings) -> int:
    wanted = Wanted(options.version, Role(options.role), options.share, options.despite_gates, options.again)
    _say(render_deployment(_deployments(options, settings).deploy(wanted, _author(options))))
    return 0


def _rollback(options: argparse.Namespace, settings: PlatformSettings) -> int:
    _say(render_deployment(_deployments(options, settings).roll_back(_author(options))))
    return 0


def _models(options: argparse.Namespace, settings: PlatformSettings) -> int:
    _say(_deployments(options, settings).overview())
    return 0


def _variant(options: argparse.Namespace, settings: PlatformSettings) -> int:
    # Imported here alone: the onnx package, which no other command needs.
    from flywheel.adapters.onnx_variants import VariantKind
    from flywheel.client.variants import publish_variant

    usecase, store = catalog.load(options.usecase), FileModelStore(settings.model_dir)
    tolerance = Tolerance(difference=options.difference)
    made = publish_variant(usecase, store, options.version, VariantKind(options.kind), tolerance, datetime.now(UTC))
    _say(f"{made.version} is published; it passed " + ", ".join(gate.name for gate in made.gates[-3:]))
    return 0


def _deployments(options: argparse.Namespace, settings: PlatformSettings) -> Deployments:
    return Deployments(catalog.load(options.usecase), FileModelStore(settings.model_dir), _say)


def _author(options: argparse.Namespace) -> Author:
    return Author(getpass.getuser(), datetime.now(UTC), options.reason)


def _attributes(options: argparse.Namespace, settings: PlatformSettings) -> int:
    usecase = catalog.load(options.usecase)
    table, now = table_named(usecase, options.table), asyncio.run(_present(usecase, settings))
    rows = rows_in(options.file, table, options.as_of or now, now, _say)
    report = load(usecase, table, rows, settings, _say)
    _say(str(report))
    return 0 if report.rows else 1


async def _present(usecase: UseCase, settings: PlatformSettings) -> datetime:
    """The time at which the stream is; the wall clock's before its first event. Raises PresentUnknown."""
    async with _http(settings) as http:
        return await IngestClient(http, usecase.name).present() or datetime.now(UTC)


def _erase(options: argparse.Namespace, settings: PlatformSettings) -> int:
    subject = Subject.named(catalog.load(options.usecase), options.entity, options.id)
    erasure = Erasure(
        subject,
        settings,
        at=datetime.now(UTC),
        by=getpass.getuser(),
        dry_run=options.dry_run,
        read_log=not options.skip_log,
    )
    _say(render_erasure(erasure.run(), f"{options.entity} {' '.join(options.id)}", dry_run=options.dry_run))
    return 0


async def _filled(fields: Mapping[str, Any], ingest: IngestClient) -> dict[str, Any]:
    """The fields with an id and the stream's present time where they are not given. Raises PresentUnknown."""
    filled = {"event_id": f"manual-{uuid.uuid4().hex}", **fields}
    if "event_time" not in filled:
        # A stream without any event has no present yet: its first event may well happen now.
        filled["event_time"] = (await ingest.present() or datetime.now(UTC)).isoformat()
    return filled


def _event(usecase: UseCase, name: str) -> type[Event]:
    try:
        return usecase.event_named(name)
    except KeyError:
        names = ", ".join(event.event_name for event in usecase.events)
        raise ClientError(f"use case {usecase.name!r} has no event {name!r}; its events are {names}") from None


def _http(settings: PlatformSettings) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=settings.ingest_url, timeout=_HTTP_TIMEOUT_S)


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flywheel", description="Talks to a running Flywheel from outside, as any client does."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    world = _command(commands, "world", _world, "play the use case's simulated world: history first, then live")
    world.add_argument("--history-only", action="store_true", help="load the history that is missing, then end")
    world.epilog = "Knobs are read from FLYWHEEL_WORLD_<KNOB> in the environment or in .env."

    decide = _command(commands, "decide", _decide, "ask for one decision and show it")
    decide.add_argument("fields", nargs="*", metavar="FIELD=VALUE", help="fields of the request event")
    decide.epilog = "Example: decide fraud card_id=c000012 terminal_id=t000345 amount_cents=25000"

    send = _command(commands, "send", _send, "send one event to ingest")
    send.add_argument("event", help="name of the event, such as transaction")
    send.add_argument("fields", nargs="*", metavar="FIELD=VALUE", help="fields of the event")
    send.epilog = "A missing event_id is made up; a missing event_time is the stream's present."

    replayed = _command(commands, "replay", _replay, "send events from a CSV, JSON Lines or Parquet file")
    replayed.add_argument("file", type=Path, metavar="FILE", help="rows whose columns are the event's fields")
    replayed.add_argument("--event", help="name of the event (default: the one decisions are about)")
    replayed.add_argument("--pace", choices=("recorded", "max"), default="max", help="default: max")
    replayed.add_argument("--speedup", type=_positive, help="with --pace recorded: how many times faster (default: 1)")

    replayed.add_argument(
        "--align", action="store_true", help="shift all times so that the first row happens at the stream's present"
    )
    replayed.add_argument(
        "--live",
        action="store_true",
        help="the events happen now and are known from their arrival on; otherwise they are backfilled, for a file is "
        "the past, and known from their event time on",
    )

    loading = _command(commands, "attributes", _attributes, "load a table of attributes from a file")
    loading.add_argument("table", help="name of the table in the declaration")
    loading.add_argument(
        "file", type=Path, metavar="FILE", help="CSV, JSON Lines or Parquet: the entity's keys, all columns"
    )
    loading.add_argument(
        "--as-of", type=_moment, metavar="TIME", help="moment of rows without as_of (default: the stream's present)"
    )
    loading.epilog = "Nothing of a file with a wrong row is loaded. The newest row of each entity is online afterwards."

    erasing = _command(commands, "erase", _erase, "delete a person, or another entity, from everything that is kept")
    erasing.add_argument("entity", help="whose id it is, such as card")
    erasing.add_argument("id", nargs="+", help="the id, in as many parts as the entity's key has fields")
    erasing.add_argument("--dry-run", action="store_true", help="only count what would be deleted")
    erasing.add_argument("--skip-log", action="store_true", help="do not count what the broker's log still holds")
    erasing.epilog = "Leaves a line for auditors on standard error and in the topic of erasures."

    training = _command(commands, "train", _train, "ask for a new model")
    training.add_argument(
        "--wait",
        action="store_true",
        help="wait for the result; exit code 1 unless a model was trained, deployed or not",
    )
    training.add_argument(
        "--unless-deployed",
        action="store_true",
        help="ask for none when a model is deployed that reads the features as they are declared",
    )
    training.add_argument("--reason", default="asked for by hand", help="goes into the model's history")
    training.add_argument("--timeout", type=_positive, default=600.0, help="seconds to wait (default: 600)")

    deploying = _command(commands, "deploy", _deploy, "give a model a role")
    deploying.add_argument("version", help="a published model; `models` lists them")
    deploying.add_argument("--role", choices=[role.value for role in Role], default=Role.CHAMPION.value)
    deploying.add_argument("--share", type=float, help="of the units, for a challenger or canary (default: declared)")
    deploying.add_argument("--reason", default="deployed by hand", help="goes into the deployment log")
    deploying.add_argument("--despite-gates", action="store_true", help="although it did not pass its gates")
    deploying.add_argument("--again", action="store_true", help="although it was withdrawn")
    deploying.epilog = "A canary grows by the declared steps and goes by itself when it crosses a declared bound."

    returning = _command(commands, "rollback", _rollback, "end the canary, or bring the champion before back")
    returning.add_argument("--reason", default="rolled back by hand", help="goes into the deployment log")

    making = _command(commands, "variant", _variant, "publish a smaller form of a model, if it decides alike")
    making.add_argument("version", help="a published model; `models` lists them")
    making.add_argument("--kind", choices=("int8", "fp16"), default="int8")
    making.add_argument("--difference", type=_positive, default=Tolerance.difference, help="of scores (default: 0.01)")
    making.epilog = "Trees gain nothing; for them the command says so."

    _command(commands, "models", _models, "show all models, their gates and their roles, and what was deployed last")
    return parser


def _command(commands: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + "."
    )
    command.add_argument("usecase", help="name of the use case, such as fraud")
    command.set_defaults(run=run)
    return command


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2018-04-01T00:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value
