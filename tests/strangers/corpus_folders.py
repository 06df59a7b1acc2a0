"""Folders, files and patterns that hold, or are, something else than pictures; and good ones with odd names."""

from __future__ import annotations

from pathlib import Path

import file_doors as doors
from cases import Case
from made_archives import archive
from made_folders import (
    FINE,
    GOOD,
    THINGS,
    alone,
    as_nobody,
    below,
    bind_socket,
    content,
    deep,
    link_to,
    locked,
    locked_folder,
    loops,
    odd_names,
    odd_names_of_text,
    photo_folder,
    pipe,
    two_cases,
    vanishing,
    with_thing,
)

PREDICT, ALONE, TRAIN = "predict.py input=folder", "predict.py input=file", "training on a folder"
PATTERN = "predict.py input=pattern"
CASES = [
    *(
        Case(f"with {name} as x.jpg", PREDICT, with_thing(thing), doors.predict, "skipped", says)
        for name, (thing, says) in THINGS.items()
    ),
    *(
        Case(f"with {name} as x.jpg", TRAIN, with_thing(thing), doors.train, "refused", says)
        for name, (thing, says) in THINGS.items()
    ),
    *(Case(f"with {name} as x.jpg", PREDICT, with_thing(thing), doors.predict, "read") for name, thing in FINE.items()),
    *(Case(f"with {name} as x.jpg", TRAIN, with_thing(thing), doors.train, "read") for name, thing in FINE.items()),
    *(
        Case(f"with {name} as x.jpg", door, with_thing(THINGS[name][0]), opened, "skipped", THINGS[name][1])
        for name in ("a pipe", "a link to itself", "a picture cut off")
        for door, opened in (("the data report", doors.explore), ("evaluate.py fake=", doors.evaluate))
    ),
    Case("a pipe", ALONE, alone(pipe), doors.predict, "refused", "a pipe or a device"),
    Case("a socket", ALONE, alone(bind_socket), doors.predict, "refused", "a pipe or a device"),
    Case("a link to itself", ALONE, alone(link_to("x.jpg")), doors.predict, "refused", "Too many levels"),
    Case("a link to nothing", ALONE, alone(link_to("y.jpg")), doors.predict, "refused", "does not exist"),
    Case("a PNG called .jpg", ALONE, alone(content(GOOD)), doors.predict, "read"),
    Case("a zip called .jpg", ALONE, alone(content(archive())), doors.predict, "skipped", "not a "),
    Case("a name of 10,000 characters", ALONE, photo_folder, below("n" * 10_000), "refused", "too long"),
    Case("a name with a NUL", ALONE, photo_folder, below("a\0b"), "refused", r"null|does not exist"),
    Case("a file as if it were a folder", ALONE, photo_folder, below("1.png/2.png"), "refused", "does not exist"),
    Case(
        "a home of nobody",
        ALONE,
        photo_folder,
        lambda _: doors.predict_into(Path("~nobody-of-that-name/x.png"), _ / "y"),
        "refused",
        "home",
    ),
    Case("with links that lead in circles", PREDICT, loops, doors.predict, "read"),
    Case("with links that lead in circles", TRAIN, loops, doors.train, "read"),
    Case("with links that lead in circles", PATTERN, loops, below("**/*.png"), "read"),
    Case("with links that lead in circles, all of it", PATTERN, loops, below("**"), "read"),
    Case("with two stars twice", PATTERN, loops, below("**/**/*.png"), "read"),
    Case(
        "that matches pipes only",
        PATTERN,
        alone(pipe),
        lambda path: doors.predict(path.parent / "*.jpg"),
        "refused",
        "matches no file",
    ),
    Case("that is open", PATTERN, photo_folder, below("[1.png"), "refused", "does not exist|matches no file"),
    Case("of 10,000 characters", PATTERN, photo_folder, below("*" * 10_000), "refused", "too long|matches no file"),
    Case("with odd names", PREDICT, odd_names, doors.predict, "read"),
    Case("with odd names", TRAIN, odd_names, doors.train, "read"),
    Case("with odd names of text", PREDICT, odd_names_of_text, doors.predict, "skipped", "not a "),
    Case("with odd names of text", TRAIN, odd_names_of_text, doors.train, "refused", "not a "),
    Case("with odd names of text", "the data report", odd_names_of_text, doors.explore, "skipped", "not a "),
    Case("with odd names of text", "evaluate.py fake=", odd_names_of_text, doors.evaluate, "skipped", "not a "),
    Case("with names of two cases", PREDICT, two_cases, doors.predict, "read"),
    Case("with names of two cases", TRAIN, two_cases, doors.train, "read"),
    Case("with a path of 3,000 characters", PREDICT, deep, doors.predict, "read"),
    Case(
        "with a locked file",
        PREDICT,
        with_thing(locked),
        as_nobody(doors.predict),
        "skipped",
        r"x\.jpg: Permission denied",
    ),
    Case(
        "with a locked file", TRAIN, with_thing(locked), as_nobody(doors.train), "refused", r"x\.jpg: Permission denied"
    ),
    Case(
        "with a locked folder",
        PREDICT,
        locked_folder,
        as_nobody(doors.predict),
        "refused",
        "locked: Permission denied",
    ),
    Case("in a locked folder", ALONE, locked_folder, as_nobody(below("locked/x.png")), "refused", "Permission denied"),
    Case(
        "that is locked",
        TRAIN,
        locked_folder,
        as_nobody(below("locked", doors.train)),
        "refused",
        "Permission denied",
    ),
    Case(
        "with a file that vanishes",
        PREDICT,
        photo_folder,
        vanishing(doors.predict, 1),
        "skipped",
        r"2\.png: No such file",
    ),
    Case(
        "with a file that vanishes", TRAIN, photo_folder, vanishing(doors.train, 2), "refused", r"2\.png: No such file"
    ),
    Case("that is a file", TRAIN, alone(content(GOOD)), doors.train, "refused", "neither a folder nor a whole zip"),
    Case("that is a pipe", TRAIN, alone(pipe), doors.train, "refused", "is not a folder"),
    Case(
        "with a zip that is a pipe",
        "data.root=",
        lambda folder: (pipe(photo_folder(folder) / "x.zip"), folder / "photos")[1],
        doors.train_root,
        "refused",
        r"x\.zip: Not a file",
    ),
    Case(
        "with pipes in place of folders",
        "data.root=",
        lambda folder: ([pipe(folder / name) for name in ("trainA", "trainB")], folder)[1],
        doors.train_root,
        "refused",
        "no known layout",
    ),
    *(
        Case(name, "a picture by its name", alone(thing), doors.read, "refused", says)
        for name, (thing, says) in THINGS.items()
    ),
]
