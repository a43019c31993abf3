"""The proof of one record, and the same checker for proofs from elsewhere."""

from __future__ import annotations

from eventstore.history.versions import records_at
from eventstore.http_api.records import record
from eventstore.http_api.routes import Asked, Html, Nothing, Route
from eventstore.log.leaf import leaf_hashes
from eventstore.page.showing import links_of, shown, store_name


class ProofPageQuery(Nothing, frozen=True):
    """Of which record."""

    position: int


def proof_page(asked: Asked, query: ProofPageQuery) -> Html:
    """A record, and what proves it once the reader gives a key."""
    source, links = asked.source, links_of(asked)
    found = record(source, query.position)
    log = source.log
    (leaf,) = leaf_hashes(log.store_id, records_at(log, [query.position]))
    place = store_name(asked)
    return shown(
        asked,
        "proof.html.j2",
        title=f"Proof of record {query.position:,}",
        record=found,
        leaf=leaf.hex(),
        store_id=str(log.store_id),
        of=f"{links.prefix}/api/v1/records/{query.position}/proof",
        kept=f"{links.prefix}/api/v1/checkpoints",
        command=(
            f"eventstore prove {place} {query.position} --checkpoint FILE --key KEY > proof\n"
            "eventstore prove --check proof --key KEY\n"
            "python -m eventstore.audit.standalone_verifier proof proof KEY"
        ),
    )


def check_page(asked: Asked, query: Nothing) -> Html:  # noqa: ARG001
    """Checks a proof that the reader has, of any store."""
    return shown(
        asked,
        "check.html.j2",
        title="Check a proof",
        command="eventstore prove --check proof --key KEY",
    )


ROUTES = (
    Route("/records/{position:int}/proof", proof_page),
    Route("/check", check_page, kept=False),
)
