"""Write requirements.txt, requirements-cuda.txt and .ci/tools.txt: every package, every hash.

uv resolves for all systems and Pythons at once. What only PyTorch's build for graphics cards needs
goes to a file of its own, since most machines do without its gigabytes; and the wheels of the build
without, which stand on PyTorch's own index, are added to torch's hashes from `torch-cpu.sha256`.
Versions stay as they are unless `requirements.in` asks for others; `--upgrade` takes the newest.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = "3.11.5"
FOR_CUDA = re.compile(r"(nvidia|cuda|triton)\b")
HEAD = "# Made by `make lock` from {source}: change that file, not this one.\n"


def resolved(source: str, *before: str) -> list[str]:
    """The entries that uv finds, each with its hashes; versions stay as they are in `before`."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output.txt"
        known = [ROOT / name for name in before if (ROOT / name).is_file()]
        output.write_text("".join(path.read_text("utf-8") for path in known), "utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", source, "--output-file", output]
        command += ["--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--quiet", *sys.argv[1:]]
        subprocess.run(command, cwd=ROOT, check=True)
        return re.findall(r"^\S.*\n(?:[ ].*\n)*", output.read_text("utf-8"), flags=re.MULTILINE)


def with_cpu_wheels(entry: str) -> str:
    """The entry of torch, with the hashes of the wheels that need no graphics card."""
    version = re.match(r"torch==([\w.]+)", entry)
    lines = (ROOT / ".ci" / "torch-cpu.sha256").read_text(encoding="utf-8").splitlines()
    hashes = {name: digest for digest, name in (line.split() for line in lines)}
    if version is None or not all(f"-{version[1]}+cpu-" in name for name in hashes):
        sys.exit(f".ci/torch-cpu.sha256: is not of the version in requirements.in: {entry[:20]}")
    every = {*re.findall(r"sha256:(\w+)", entry), *hashes.values()}
    lines = [version[0], *(f"    --hash=sha256:{digest}" for digest in sorted(every))]
    return " \\\n".join(lines) + "\n"


def main() -> None:
    entries = resolved("requirements.in", "requirements.txt", "requirements-cuda.txt")
    cuda = [entry for entry in entries if FOR_CUDA.match(entry)]
    rest = [entry for entry in entries if entry not in cuda]
    made = {
        "requirements.txt": [with_cpu_wheels(e) if e.startswith("torch==") else e for e in rest],
        "requirements-cuda.txt": cuda,
        ".ci/tools.txt": resolved(".ci/tools.in", ".ci/tools.txt"),
    }
    for name, found in made.items():
        source = ".ci/tools.in" if name == ".ci/tools.txt" else "requirements.in"
        (ROOT / name).write_text(HEAD.format(source=source) + "".join(found), encoding="utf-8")
        print(f"{name}: {len(found)} packages")


if __name__ == "__main__":
    main()
