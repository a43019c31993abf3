"""`eventstore erase`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from eventstore.answers import ErasuresAnswer
from eventstore.cli.commands import Kind, command, output_options_without
from eventstore.cli.entities import spoken, taken
from eventstore.cli.paths import PlaceName
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.stores import opened_store, store_to_change
from eventstore.log.places import Place
from eventstore.log.record import KIND_NAMES
from eventstore.wording import counted, plural

if TYPE_CHECKING:
    from eventstore.answers import ErasedBefore, ErasedVersion, ErasureReport


@command(
    "erase",
    examples=(
        "eventstore erase my-store artifact 7 --reason 'GDPR-17(1)(b)'",
        "eventstore erase my-store artifact 7 --reason 'GDPR-17(1)(b)' --yes",
        "eventstore erase my-store artifact 7 8 --redact uri --who --reason PRIV-214 --yes",
        "eventstore erase my-store event 12 --who --reason PRIV-214 --yes --json",
        "eventstore erase my-store --approve 3 --actor ben --yes",
        "eventstore erase my-store --unfinished",
    ),
)
@click.argument("place", metavar="STORE", type=PlaceName())
@click.argument("kind", metavar="[KIND]", type=Kind(KIND_NAMES), required=False)
@click.argument("ids", metavar="[ID ...]", type=int, nargs=-1)
@click.option("--reason", metavar="CODE", help="The code of the legal basis. It is kept for ever.")
@click.option("--ticket", metavar="CODE", default="", help="A further code, kept for ever, too.")
@click.option("--version", type=int, metavar="POSITION", help="Only the version put at a position.")
@click.option(
    "--redact",
    multiple=True,
    metavar="NAME",
    help="Only this property, or name, uri or external_id. May be repeated.",
)
@click.option("--who", is_flag=True, help="Also actor, reason and request id of the versions.")
@click.option("--keep-content", is_flag=True, help="With --who: that alone.")
@click.option("--actor", help="Who asks; the user of the operating system without it.")
@click.option("--yes", is_flag=True, help="Erase. Without it, the command says what it would do.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--approve", type=int, metavar="NUMBER", help="With --yes: erase what another proposed."
)
@click.option("--withdraw", type=int, metavar="NUMBER", help="End an erasure that is proposed.")
@click.option("--unfinished", is_flag=True, help="Complete the erasures that were interrupted.")
@output_options_without("full", "local")
def erase_command(
    place: Place,
    kind: str | None,
    ids: tuple[int, ...],
    reason: str | None,
    ticket: str,
    version: int | None,
    redact: tuple[str, ...],
    who: bool,
    keep_content: bool,
    actor: str | None,
    yes: bool,
    dry_run: bool,
    approve: int | None,
    withdraw: int | None,
    unfinished: bool,
    output: Output,
) -> None:
    """Erase what artifacts, executions or contexts say, for good; every proof stays valid.

    Without --yes nothing is erased: the command lists the versions, the files that are to be
    rewritten, what forbids it, and what lies outside of the store. What is erased is answered as
    such, now and as of any moment. Of types and links only --who can be erased. KIND is as for
    `eventstore history`.
    """
    output.check()
    others = [unfinished, approve is not None, withdraw is not None]
    if any(others):
        if sum(others) > 1 or kind is not None or reason is not None:
            raise click.UsageError("--approve, --withdraw and --unfinished go alone")
        if dry_run and (yes or approve is None):
            raise click.UsageError("--dry-run goes with KIND or --approve, and without --yes")
        if unfinished:
            _complete(place, output)
        else:
            _decide(place, approve, withdraw or 0, actor, yes, output)
        return
    if kind is None or not ids or reason is None:
        raise click.UsageError(
            "say KIND, ID and --reason, or --approve, --withdraw or --unfinished"
        )
    if version is not None and len(ids) > 1:
        raise click.UsageError("--version is of one ID")
    if yes and dry_run:
        raise click.UsageError("--yes and --dry-run exclude each other")
    if keep_content and not who:
        raise click.UsageError("--keep-content goes with --who")
    if keep_content and redact:
        raise click.UsageError("--keep-content and --redact exclude each other")
    if "" in redact:
        raise click.UsageError("--redact takes a name of a property, or name, uri or external_id")
    opened = store_to_change(place, actor) if yes else opened_store(place)
    with opened as store, progress_bar("Erasing") as progress:
        report = store._erase(
            [(kind, entity_id) for entity_id in ids],
            version,
            reason=reason,
            ticket=ticket,
            redact=redact or None,
            content=not keep_content,
            who=who,
            dry_run=not yes,
            progress=progress,
        )
    _show(report, output)
    if report.stage == "planned":
        note("Nothing was erased: say --yes." if not report.refused else "It would be refused.")
        if report.second_person is not None:
            rule = report.second_person
            codes = ", ".join(filter(None, (rule.basis, rule.ticket)))
            note(
                f"It takes a second person by retention rule {rule.rule} ({codes}, recorded at "
                f"position {rule.recorded_at_position}): --yes only proposes it."
            )
    elif report.stage == "proposed":
        note(f"It takes a second person: eventstore erase {place} --approve {report.number} --yes")
    elif report.number is None:
        note("Nothing is left to erase: it was erased before.")
    for number in sorted({b.number for b in report.erased_before if b.stage == "requested"}):
        note(
            f"Erasure {number} is in effect and not complete: files may still have what it erases. "
            "Free some space if the disk is full. The next opening for writing completes it, or: "
            f"eventstore erase {place} --unfinished"
        )
    if version is not None and not (keep_content or redact):
        for left in sorted({b.replaced_by for b in report.erased_before if b.replaced_by}):
            note(
                f"What is left of the version at position {version} is at position {left}: erase "
                "that one."
            )


def _decide(
    place: Place, approved: int | None, withdrawn: int, actor: str | None, yes: bool, output: Output
) -> None:
    if approved is not None and not yes:
        _show_proposed(place, approved, output)
        return
    with store_to_change(place, actor) as store, progress_bar("Erasing") as progress:
        if approved is None:
            store.withdraw_erasure(withdrawn)
        else:
            report = store.approve_erasure(approved, progress)
    if approved is None:
        output.said(f"Erasure {withdrawn} is withdrawn", ErasuresAnswer([withdrawn]))
    else:
        _show(report, output)


def _show_proposed(place: Place, number: int, output: Output) -> None:
    from eventstore.retention.erasing import plan_proposed
    from eventstore.retention.reports import planned_report

    with opened_store(place) as store:
        log, snapshot = store._engine.log, store._engine.snapshot()
        report = planned_report(log, snapshot, plan_proposed(log, snapshot, number))
    _show(report, output)
    if report.refused:
        note("It would be refused.")
    else:
        note("Nothing was erased: say --yes, as another actor than who proposed it.")


def _complete(place: Place, output: Output) -> None:
    with opened_store(place) as store:
        numbers = sorted(store._source.snapshot().index.erasures.pending)
    if numbers:
        with store_to_change(place, None) as store, progress_bar("Erasing") as progress:
            # Opening has done so, unless it could not.
            store.complete_erasures(progress)
    done = f"{plural(len(numbers), 'erasure')} {', '.join(map(str, numbers))}"
    said = f"Completed {done}" if numbers else "No erasure is unfinished"
    output.said(said, ErasuresAnswer(numbers))


def _show(report: ErasureReport, output: Output) -> None:
    if output.form == "json":
        output.json(report)
        return
    said = report.stage if report.number is None else f"Erasure {report.number}, {report.stage}"
    columns = ("kind", "id", "position", "erased", "replaced_by")
    versions = [(*_cells(version), version.replaced_by) for version in report.versions]
    before = [(*_cells(found), found.replaced_by, found.number) for found in report.erased_before]
    if output.form == "csv":
        rows = [*((*row, None) for row in versions), *before]
        output.csv(Grid((*columns, "erased_before_by"), rows))
        return
    said = f"{said[:1].upper()}{said[1:]}: {counted(len(versions), 'version')}"
    passed_over = counted(len({found.position for found in report.erased_before}), "version")
    grids = [Grid(columns, versions, said)] if versions else []
    if before:
        title = f"{'Passed over' if versions else 'Nothing to erase'}: {passed_over} erased before"
        grids.append(Grid((*columns, "by_erasure"), before, title))
    if report.files and report.stage == "completed":
        rewritten = [(file.segment, file.old_sha256, file.new_sha256) for file in report.files]
        title = "Files that were rewritten (SHA-256)"
        grids.append(Grid(("segment", "was", "is"), rewritten, title))
    elif report.files:
        named = [(file.segment, file.file, f"{file.bytes or 0} bytes") for file in report.files]
        title = "Files that are to be rewritten"
        grids.append(Grid(("segment", "file", "size"), named, title))
    if report.refused:
        grids.append(Grid(("",), [(str(found),) for found in report.refused], "Refused"))
    if report.outside:
        outside = [(what,) for what in report.outside]
        grids.append(Grid(("",), outside, "Not reached: look there yourself"))
    output.grids(*grids)


def _cells(version: ErasedVersion | ErasedBefore) -> tuple[object, ...]:
    what = taken(version.content, version.who, version.redacted)
    return spoken(version.kind), version.id, version.position, what
