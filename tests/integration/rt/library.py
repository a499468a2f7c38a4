#!/usr/bin/env python3
"""libcinchrt as others use it: installed under a prefix of its own, samples/c built outside the tree with find_package and with
pkg-config, shared and static; the soname; and the symbols, which are the header's functions and nothing else.

    library.py BUILD RT_PRINT COMPILER
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.environ.get("CINCH_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def check_symbols(library):
    with open(os.path.join(ROOT, "cpu", "rt", "cinchrt.h"), encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    declared = set(re.findall(r"\b(cinchrt_\w+)\(", text)) - {"cinchrt_probe_fn"}  # a type
    shown = [line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()]
    functions = {name.split("@")[0] for name in shown} - {"CINCHRT_1"}
    assert functions == declared, f"not the header's functions: {functions ^ declared}"
    assert all(name == "CINCHRT_1" or name.endswith("@@CINCHRT_1") for name in shown), shown
    assert "[libcinchrt.so.1]" in run("readelf", "-d", library), "no soname libcinchrt.so.1"


def build_with_cmake(work, prefix, kind):
    build = os.path.join(work, kind)
    run("cmake", "-S", os.path.join(work, "c"), "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DUSE_STATIC={'ON' if kind == 'static' else 'OFF'}")
    run("cmake", "--build", build)
    return os.path.join(build, "probabilities")


def build_with_pkg_config(work, libs, compiler):
    env = {**os.environ, "PKG_CONFIG_PATH": os.path.join(libs, "pkgconfig")}
    assert run("pkg-config", "--modversion", "cinchrt", env=env).startswith("1."), "version"
    flags = run("pkg-config", "--cflags", "--libs", "cinchrt", env=env).split()
    program = os.path.join(work, "pkg")
    run(compiler, "-std=c99", "-pedantic", "-Wall", "-Werror", os.path.join(work, "c", "probabilities.c"), *flags, "-o", program)
    return program


def main():
    built, maker, compiler = sys.argv[1:]
    with tempfile.TemporaryDirectory() as work:
        prefix, model = os.path.join(work, "moved"), os.path.join(work, "model.cinch")
        run("cmake", "--install", built, "--component", "cinchrt", "--prefix", os.path.join(work, "installed"))
        os.rename(os.path.join(work, "installed"), prefix)  # an installed tree may be moved
        library = next(os.path.join(folder, "libcinchrt.so") for folder, _, files in os.walk(prefix)
                       if "libcinchrt.so" in files)
        check_symbols(library)
        shutil.copytree(os.path.join(ROOT, "samples", "c"), os.path.join(work, "c"))
        run(maker, model)
        env = {**os.environ, "LD_LIBRARY_PATH": os.path.dirname(library)}
        said = set()
        for program in (build_with_cmake(work, prefix, "shared"), build_with_cmake(work, prefix, "static"),
                        build_with_pkg_config(work, os.path.dirname(library), compiler)):
            said.add(run(program, model, env=env, input="0.1 " * 100000))
            refused = subprocess.run([program, __file__], env=env, capture_output=True, text=True)
            assert refused.returncode == 1 and "not a .cinch file" in refused.stderr, refused
    assert len(said) == 1 and re.fullmatch(r"(L\d +[01]\.\d{4}\n){5}", said.pop()), said
    return 0


sys.exit(main())
