#!/usr/bin/env python3
"""Writes the boards: python3 dashboards/make.py

What is on each is in source/, one file for each board; how a panel looks in JSON is in source/panels.py. The JSON is
kept beside this file, so that it can be imported, and its changes read, without Python; a test holds it to be what
this writes. With --check nothing is written, and the exit code is 1 if a file differs.
"""

import json
import pathlib
import sys

sys.dont_write_bytecode = True
from source import mastership, node, overview, sessions, traffic  # noqa: E402

HERE = pathlib.Path(__file__).parent


def main():
    differ = []
    for board in (overview, traffic, sessions, mastership, node):
        made = board.board()
        file = HERE / f"{made['uid']}.json"
        text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            differ.append(file.name)
            if "--check" not in sys.argv[1:]:
                file.write_text(text, encoding="utf-8")
                print(f"wrote {file.name}")
    if differ and "--check" in sys.argv[1:]:
        sys.exit(f"{', '.join(differ)}: not what source/ makes; run python3 dashboards/make.py")


if __name__ == "__main__":
    main()
