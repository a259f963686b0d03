"""Runs tests on a processor that this machine does not have: in Bochs, which emulates AVX-512 (Debian 12, no root).

A CD with Debian's kernel and this environment at its usual paths is booted; the tests' output comes over the serial
line. Success is pytest's, after "auto" took the wanted variant. About a hundredth of the usual speed.

    python -m tests.emulated.run                                               # AVX-512
    python -m tests.emulated.run --cpu corei5_lynnfield_750 --variant plain    # 2009: no AVX
    python -m tests.emulated.run tests/test_plugins_stages.py                  # arguments for pytest
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build" / "emulated"
BIOS, VGA_BIOS = Path("/usr/share/bochs/BIOS-bochs-latest"), Path("/usr/share/vgabios/vgabios.bin")
ISOLINUX, LDLINUX = Path("/usr/lib/ISOLINUX/isolinux.bin"), Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")
BUSYBOX = Path("/bin/busybox")
PACKAGES = "bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso cpio busybox-static"
KERNEL = "linux-image-cloud-amd64"
# In the order they are loaded: the CD drive and its file system.
MODULES = ("scsi_common", "scsi_mod", "libata", "ata_piix", "cdrom", "sr_mod", "isofs")

# What holds a variant to float64 and to the others, without the slowest and those that want a compiler or a child.
TESTS = [
    "tests/test_plugins_inputs.py",
    "tests/test_plugins_stages.py",
    "tests/test_plugins_picture.py",
    "tests/test_encoder_kernels.py",
    "tests/test_render_gradients.py",
    "tests/test_native_encoder.py",
]
SLOW = (
    "largest_picture or huge_gaussians or degenerate or finite_differences or eight_bits or compiles or import_nothing"
)
VARIANTS = ("avx512", "avx2", "plain")

# Instructions a second are those of the emulated clock; the kernel is told, or it would wait for the model's gigahertz.
# Linux refuses the layout that Bochs gives the compact formats of its registers, and would do without AVX then.
LOADER = """\
DEFAULT linux
LABEL linux
 KERNEL vmlinuz
 INITRD initrd
 APPEND console=ttyS0 quiet mitigations=off nokaslr tsc=reliable tsc_early_khz=50000 clearcpuid=xsaves,xsavec,pku,fsrm
"""
BOCHSRC = """\
display_library: term
romimage: file={bios}
vgaromimage: file={vga}
megs: 2048
cpu: model={cpu}, ips=50000000
clock: sync=none
sound: driver=dummy
plugin_ctrl: es1370=0, sb16=0, e1000=0, voodoo=0
ata0-master: type=cdrom, path={cd}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
log: {log}
panic: action=fatal
error: action=ignore
info: action=ignore
"""
INIT = """\
#!/bin/busybox sh
alias bb=/bin/busybox
bb mount -t devtmpfs dev /dev
for module in {modules}; do bb insmod /$module.ko; done
until bb mount -t iso9660 -o ro /dev/sr0 /cd 2>/dev/null; do bb sleep 0.1; done
bb mount -t proc proc /cd/proc
bb mount -t devtmpfs dev /cd/dev
bb mount -t tmpfs run /cd/run
bb chroot /cd /busybox sh /guest
echo "emulated: status 1"
"""
GUEST = """\
export TMPDIR=/run HOME=/run USER=root PYTHONUTF8=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
cd {repository}
exec {command}
"""


def packaged() -> None:
    needed = [BIOS, VGA_BIOS, ISOLINUX, LDLINUX, BUSYBOX]
    missing = [path for path in needed if not path.exists()]
    missing += [Path(name) for name in ("bochs-bin", "xorriso", "cpio") if shutil.which(name) is None]
    if missing:
        sys.exit(f"{', '.join(map(str, missing))} not found: apt install --no-install-recommends {PACKAGES}")


def kernel() -> Path:
    """Debian's kernel package, unpacked: not installed, which would change what this machine boots."""
    folder = BUILD / "kernel"
    if not folder.exists():
        shown = subprocess.run(["apt-cache", "depends", KERNEL], capture_output=True, text=True, check=True).stdout
        package = re.search(r"Depends: (linux-image-\S+)", shown)
        if package is None:
            sys.exit(f"{KERNEL} not found: apt update")
        subprocess.run(["apt-get", "download", "-q", package[1]], cwd=BUILD, check=True)
        deb = next(BUILD.glob(f"{package[1]}_*.deb"))
        subprocess.run(["dpkg", "-x", deb, BUILD / "unpacked"], check=True)
        (BUILD / "unpacked").rename(folder)
        deb.unlink()
    return folder


def libraries() -> set[Path]:
    """The system's shared libraries that Python and this environment's extensions ask for."""
    extensions = [
        path
        for root in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
        for path in Path(root).rglob("*.so*")
        if "tensorrt_" not in str(path)
    ]
    command = ["ldd", os.path.realpath(sys.executable), *map(str, extensions)]
    printed = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.findall(r"(?:=> |^\t)(/\S+) \(0x", printed, re.MULTILINE)
    return {Path(path) for path in found if not path.startswith(sys.prefix)}


def starter() -> bytes:
    """What the kernel unpacks: the drive's modules, and a script that goes on with what is on the CD."""
    folder = BUILD / "start"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("bin", "dev", "cd"):
        (folder / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin")
    for module in MODULES:
        shutil.copy(next(kernel().rglob(f"{module}.ko")), folder)
    (folder / "init").write_text(INIT.format(modules=" ".join(MODULES)))
    (folder / "init").chmod(0o755)
    files = subprocess.run(["find", "."], cwd=folder, capture_output=True, check=True).stdout
    pack = ["cpio", "-o", "-H", "newc", "--quiet"]
    return subprocess.run(pack, cwd=folder, input=files, capture_output=True, check=True).stdout


def environment() -> list[str]:
    """Where a file goes on the CD, and the file: each is found where it is here, so that this environment works."""
    python = Path(sys.executable)
    chain = [python]
    while python.is_symlink():  # each link is needed at its place
        python = python.parent / os.readlink(python)
        chain.append(python)
    parts = ["tests", "plugins", "runtime", "export", "training", "__init__.py", "pyproject.toml"]
    whole = [Path(sys.prefix), Path(sysconfig.get_path("stdlib")), *chain, *(REPOSITORY / part for part in parts)]
    return [f"{path}={path}" for path in whole] + [f"{path}={path.resolve()}" for path in libraries()]


def compact_disc(variant: str, arguments: list[str]) -> Path:
    root, cd = BUILD / "root", BUILD / "cd.iso"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("proc", "dev", "run", "isolinux"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "busybox")
    command = [sys.executable, "-m", "tests.emulated.guest", variant, *arguments]
    (root / "guest").write_text(GUEST.format(repository=REPOSITORY, command=shlex.join(command)))
    (root / "isolinux" / "initrd").write_bytes(starter())
    shutil.copy(next(kernel().glob("boot/vmlinuz-*")), root / "isolinux" / "vmlinuz")
    shutil.copy(ISOLINUX, root / "isolinux")
    shutil.copy(LDLINUX, root / "isolinux")
    (root / "isolinux" / "isolinux.cfg").write_text(LOADER)
    boot = ["-b", "isolinux/isolinux.bin", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    left_out = ["-m", "tensorrt_*_libs", "-m", "*.pt", "-m", "*.a"]
    write = ["xorriso", "-as", "mkisofs", "-quiet", "-r", *left_out, *boot, "-graft-points", "-o", cd]
    if subprocess.run([*write, root, *environment()]).returncode != 0:
        sys.exit("no CD was written")
    return cd


def boot(cd: Path, cpu: str, limit: float) -> int | None:
    """The status that the guest printed; None if it printed none in time."""
    serial, script, settings = BUILD / "serial.log", BUILD / "bochs.commands", BUILD / "bochsrc"
    serial.write_bytes(b"")
    script.write_text("continue\n")  # Debian's Bochs has a debugger, which waits to be told
    settings.write_text(BOCHSRC.format(bios=BIOS, vga=VGA_BIOS, cpu=cpu, cd=cd, serial=serial, log=BUILD / "bochs.log"))
    command = ["nice", "bochs-bin", "-q", "-f", settings, "-rc", script]
    with open(BUILD / "screen.log", "wb") as screen:
        bochs = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen, env={**os.environ, "TERM": "vt100"}
        )
    try:
        deadline = time.monotonic() + limit
        with open(serial, encoding="utf-8", errors="replace", newline="\n") as lines:
            line = ""
            while time.monotonic() < deadline:
                line += lines.readline()
                if line.endswith("\n"):
                    print(line.rstrip(), flush=True)
                    if status := re.match(r"emulated: status (\d+)", line):
                        return int(status[1])
                    line = ""
                elif bochs.poll() is not None:
                    print(f"Bochs ended: {BUILD}/bochs.log and screen.log say why", flush=True)
                    return None
                else:
                    time.sleep(0.5)
        print(f"not done after {limit:.0f} s", flush=True)
        return None
    finally:
        bochs.kill()
        bochs.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", default="corei7_icelake_u", help="a model of `bochs --help cpu`")
    parser.add_argument("--variant", default="avx512", choices=VARIANTS, help='what "auto" must choose there')
    parser.add_argument("--limit", type=float, default=3600, help="seconds")
    options, arguments = parser.parse_known_args()
    packaged()
    BUILD.mkdir(parents=True, exist_ok=True)
    # Cases of the other variants alone run anywhere.
    others = " or ".join(variant for variant in VARIANTS if variant != options.variant)
    arguments = arguments or [*TESTS, "-k", f"not ({others} or {SLOW})"]
    # Leaves the compiled modules behind: to compile torch would take the guest minutes.
    writing = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    collect = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-qq", *arguments]
    subprocess.run(collect, cwd=REPOSITORY, env=writing, check=True)
    started = time.monotonic()
    status = boot(compact_disc(options.variant, arguments), options.cpu, options.limit)
    passed = status == 0
    print(f"{'passed' if passed else 'FAILED'} on {options.cpu} in {time.monotonic() - started:.0f} s")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
