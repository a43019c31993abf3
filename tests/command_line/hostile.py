"""Texts that break what shows them without care, and a store that is full of them."""

from __future__ import annotations

from pathlib import Path

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd

LONG = "x" * 10_000

TEXTS = (
    *("churn[prod]", "a[/b]", "[bold red]x", "[link=http://x]y[/link]", ":bomb:"),
    *("<script>alert(1)</script>", "</pre><b>", "&lt;&#x202e;", "#91;#quot;", '"]; x --> y', "`x`"),
    *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m", "back\x08\x08space", "\x7f"),
    *(
        "two\nlines",
        "\r\nover",
        "tab\there",
        "nul\x00inside",
        "line\u2028sep\u2029",
        "\x0b\x0c\x85",
    ),
    *(
        "\u202egnp.exe\u202c",
        "\u2066iso\u2069",
        "שלום",
        "مرحبا",
        "soft\xadhyphen",
        "zero\u200bwidth",
    ),
    *("🐧", "👩\u200d🔬", "e\u0301", "漢字", "\ufeffbom", "\U000e0041tag"),
    *("=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", '="x",1', "=cmd|' /C calc'!A0"),
    *('"quoted"', "a,b;c|d", "back\\slash\\n", "%s %(x)s {0} {x}", "$HOME `id`", "--help", "'"),
    *("two  spaces", " lead", "trail ", LONG),
)


def make_store(directory: Path) -> None:
    """Each text as a name, URI, external id, property, value, actor, reason, request id."""
    with eventstore.open(directory, actor="ana") as store:
        dataset = store.put_artifact_type(mlmd.ArtifactType(name="Data[set]"))
        train = store.put_execution_type(mlmd.ExecutionType(name="=Train\x1b"))
        run = store.put_context_type(mlmd.ContextType(name="Run\u202e"))
        for number, text in enumerate(TEXTS):
            artifact = mlmd.Artifact(type_id=dataset, name=text, uri=text)
            artifact.external_id = f"{text}{number}"
            artifact.custom_properties["value"].string_value = text
            artifact.custom_properties[text].string_value = "named"
            artifact.custom_properties["struct"].struct_value.update({text: [text]})
            artifact.custom_properties["nan"].double_value = float("nan")
            artifact.custom_properties["infinite"].double_value = float("-inf")
            artifact.custom_properties["whole"].int_value = -(2**63)
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            event.path.steps.add().key = text
            with store.acting(actor=text, reason=text, request_id=text):
                store.put_execution(
                    mlmd.Execution(type_id=train, name=text),
                    [(artifact, event)],
                    [mlmd.Context(type_id=run, name=text)],
                )
