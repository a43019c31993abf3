"""Bundle the parts of the page that others wrote into eventstore/page/static/parts: `make parts`.

package-lock.json pins every package by version and SHA-512; npm refuses whatever differs. Each
.js file here becomes one minified ES module, with nothing left to import. Beside them come the
licences of all that is bundled and the SHA-256 of each file. Needs Node and npm, and the network;
who only uses the page needs none of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PARTS = HERE.parent / "eventstore" / "page" / "static" / "parts"

LICENCES = "LICENCES.txt"
SUMS = "SHA256SUMS"


def packages_of(lock: Path) -> list[str]:
    """The folders, such as `node_modules/preact`, of the packages that may be in a bundle.

    Those are all but the tools: some packages come bundled with what they need.
    """
    packages = json.loads(lock.read_text())["packages"]
    return sorted(folder for folder, about in packages.items() if folder and not about.get("dev"))


def licence_of(package: Path) -> str:
    """A package's name, version, licence and its text.

    Raises FileNotFoundError when the package brings no text.
    """
    about = json.loads((package / "package.json").read_text())
    texts = sorted(path for path in package.iterdir() if path.name.lower().startswith("licen"))
    if not texts:
        raise FileNotFoundError(f"{package} has no licence text")
    text = texts[0].read_text().strip()
    return f"{about['name']} {about['version']} ({about['license']})\n\n{text}\n"


def vendor(output: Path) -> None:
    """Make all files of the folder `output` anew; it holds nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for path in (*HERE.glob("*.js"), *HERE.glob("package*.json")):
            shutil.copy(path, work)
        subprocess.run(["npm", "ci", "--silent", "--no-fund", "--no-audit"], cwd=work, check=True)
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        for entry in sorted(work.glob("*.js")):
            subprocess.run(
                [
                    "node_modules/.bin/esbuild",
                    entry.name,
                    "--bundle",
                    "--minify",
                    "--format=esm",
                    "--target=es2022",
                    "--charset=utf8",
                    "--legal-comments=none",
                    "--log-level=warning",
                    f"--outfile={output.resolve() / entry.name}",
                ],
                cwd=work,
                check=True,
            )
        shutil.copy(work / "node_modules/uplot/dist/uPlot.min.css", output / "uplot.css")
        licences = [
            licence_of(work / package) for package in packages_of(work / "package-lock.json")
        ]
    (output / LICENCES).write_text(f"\n{'-' * 80}\n\n".join(licences))
    files = sorted(path for path in output.iterdir() if path.name != SUMS)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (output / SUMS).write_text("".join(sums))


if __name__ == "__main__":
    vendor(PARTS)
