"""Checkpoints: what is saved comes back; what is not whole is refused, in words."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import threading
import time

import pytest
import torch
import warm

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import (
    MARK,
    append_lines,
    atomic_dir,
    atomic_write_text,
    set_aside,
    truncate_lines,
)
from r1lab.training import checkpoints
from r1lab.training.checkpoints import latest, save
from r1lab.training.loop import one_run
from r1lab.training.metrics import metrics_of, spent_in
from r1lab.training.signals import Stopped, stop_signals


def state_of(step: int, size: int = 100) -> dict:
    """A state in which every part says which step it belongs to."""
    weights = torch.full((size,), float(step))
    return {"step": step, "model": {"w": weights, "none": None}, "names": ["a", 1, 2.5]}


def test_what_is_saved_comes_back_and_old_ones_go(tmp_path):
    for step in (1, 2, 30):
        save(tmp_path, step, state_of(step), keep=2)
    state = latest(tmp_path)
    assert state["step"] == 30 and state["names"] == ["a", 1, 2.5]
    assert torch.equal(state["model"]["w"], torch.full((100,), 30.0))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert [n for n in names if n.endswith(".pt")] == ["step-00000002.pt", "step-00000030.pt"]
    assert len(names) == 4  # the two checksums, and no temporary file


def test_nothing_there_is_none_without_a_warning(tmp_path, caplog):
    assert latest(tmp_path / "missing") is None and caplog.messages == []


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_the_checksum(path):
    path.with_name(path.name + ".sha256").unlink()


def empty_both(path):
    path.write_bytes(b"")
    path.with_name(path.name + ".sha256").write_bytes(b"")


def not_a_checkpoint(path):
    """Whole by its checksum, but code instead of data: a pickle that would run something."""
    torch.save(os.system, path)
    digest = files.digest_of(path)
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")


@pytest.mark.parametrize(
    "damage", [flip_a_byte, cut_in_half, lose_the_checksum, empty_both, not_a_checkpoint]
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(tmp_path, damage, caplog):
    save(tmp_path, 1, state_of(1))
    newest = save(tmp_path, 2, state_of(2))
    damage(newest)
    with caplog.at_level(logging.WARNING):
        assert latest(tmp_path)["step"] == 1
    (warning,) = caplog.messages
    assert newest.name in warning and "before" in warning


def test_the_checksum_is_what_sha256sum_reads(tmp_path):
    path = save(tmp_path, 1, state_of(1))
    digest, name = path.with_name(path.name + ".sha256").read_text().split()
    import hashlib

    assert name == path.name and digest == hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def small_files_only():
    """The kernel refuses to write past 20,000 bytes of any file, as a full disk would.

    Lifted before the test ends: pytest then writes its dot, and standard output may be a file too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_clear_line_and_costs_nothing(tmp_path):
    save(tmp_path, 1, state_of(1))
    before = sorted(p.name for p in tmp_path.iterdir())
    with (
        small_files_only(),
        pytest.raises(R1LabError, match="cannot write .*step-00000002.pt") as raised,
    ):
        save(tmp_path, 2, state_of(2, size=100_000))
    assert "\n" not in str(raised.value) and "Free some space" in str(raised.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert latest(tmp_path)["step"] == 1
    with small_files_only(), pytest.raises(R1LabError, match="cannot write"):
        append_lines(tmp_path / "log.jsonl", [{"step": i, "x": "y" * 100} for i in range(1000)])


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(R1LabError, match="cannot write"):
        save(tmp_path / "file", 1, state_of(1))


def save_for_ever(folder):
    torch.set_num_threads(1)
    for step in range(1, 1_000_000):
        save(folder, step, state_of(step, size=200_000))


def test_killed_at_any_time_a_whole_checkpoint_is_there(tmp_path, warm_processes):
    context = multiprocessing.get_context("spawn")
    reached = 0
    for pause, sign in (
        (0.0, "step-*.pt"),
        (0.013, "step-*.sha256"),
        (0.031, "step-*.sha256"),
        (0.07, "step-*.pt"),
    ):
        writer = context.Process(target=save_for_ever, args=(tmp_path,))
        writer.start()
        while not list(tmp_path.glob(sign)):
            time.sleep(0.002)
        time.sleep(pause)
        warm.kill(writer.pid)
        writer.join()
        state = latest(tmp_path)
        if state is None:  # killed while it wrote the very first one
            assert not list(tmp_path.glob("step-*.sha256"))
            continue
        assert torch.equal(state["model"]["w"], torch.full((200_000,), float(state["step"])))
        reached = max(reached, state["step"])
        save(tmp_path, 1_000_000, state_of(1_000_000))
        assert not list(tmp_path.glob(".unfinished-*"))  # the next save clears up
        for file in tmp_path.iterdir():
            file.unlink()
    assert reached >= 1


def test_a_run_killed_in_its_first_checkpoint_starts_again(tmp_path, caplog):
    path = save(tmp_path / "checkpoints", 1, state_of(1))
    path.with_name(path.name + ".sha256").unlink()
    assert checkpoints.latest_of_run(tmp_path, {}, lambda step: {}, 3) is None
    assert "it was never finished" in caplog.text
    path.with_name(path.name + ".sha256").write_text("0" * 64 + "  x\n")
    with pytest.raises(R1LabError, match="is whole. Choose another folder"):
        checkpoints.latest_of_run(tmp_path, {}, lambda step: {}, 3)


def test_atomic_files_and_folders_replace_only_what_is_whole(tmp_path):
    atomic_write_text(tmp_path / "a" / "note.txt", "one 二")
    assert (tmp_path / "a" / "note.txt").read_text(encoding="utf-8") == "one 二"
    with atomic_dir(tmp_path / "model") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_text("first")
    with pytest.raises(ZeroDivisionError), atomic_dir(tmp_path / "model") as folder:
        (folder / "weights").write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "model" / "sub" / "weights").read_text() == "first"
    with atomic_dir(tmp_path / "model") as folder:
        (folder / "weights").write_text("second")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [MARK, "weights"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "model"]
    os.umask(umask := os.umask(0))
    assert (tmp_path / "a" / "note.txt").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("tail", ["", '{"step": 2, "x": ', '{"st', "\x00\x00", "null\n"])
def test_lines_after_the_checkpoint_and_half_lines_are_dropped(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    append_lines(path, [{"step": 0, "x": 0.1}, {"step": 1, "x": "等等"}])
    whole = path.read_bytes()
    append_lines(path, [{"step": 2}] if not tail else [])
    with path.open("a") as file:
        file.write(tail)
    assert truncate_lines(path, 2) == [{"step": 0, "x": 0.1}, {"step": 1, "x": "等等"}]
    assert path.read_bytes() == whole
    assert truncate_lines(path, 0) == [] and path.read_bytes() == b""
    assert truncate_lines(tmp_path / "missing.jsonl", 5) == []


def test_damaged_lines_are_left_out_and_named(tmp_path, caplog):
    """Whatever happened to the file: every whole record of an earlier step stays, once."""
    path = tmp_path / "metrics.jsonl"
    append_lines(path, [{"step": step} for step in (0, 1, 1, 2, 3)])
    lines = path.read_bytes().split(b"\n")
    lines[2:2] = [b'{"step": 3, "rew', b"\xff\xfe", b"null", b"[1]", b'{"step": null}', b"[" * 5000]
    path.write_bytes(b"\n".join(lines))
    with caplog.at_level(logging.WARNING):
        assert truncate_lines(path, 3, once=True) == [{"step": 0}, {"step": 1}, {"step": 2}]
    assert f"{path} had 7 damaged lines" in caplog.text
    assert truncate_lines(path, 3, once=True) == [{"step": 0}, {"step": 1}, {"step": 2}]
    assert metrics_of(tmp_path) == [{"step": 0}, {"step": 1}, {"step": 2}]


@pytest.mark.parametrize(
    "text", ["a\u2028b", "a\u2029b", "a\x85b", "\ud800", "\n\r\x1e", "等\U0001f600"]
)
def test_no_character_ends_a_line_or_cannot_be_written(tmp_path, text):
    path = tmp_path / "metrics.jsonl"
    append_lines(path, [{"step": 0, "text": text}, {"step": 1, "text": "x"}])
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2 == len(files.lines_of(path))
    assert [row["text"] for row in metrics_of(tmp_path)] == [text, "x"]
    files.write_json(tmp_path / "a.json", {"text": text})
    assert files.read_json(tmp_path / "a.json") == {"text": text}


def test_a_folder_that_others_made_is_moved_and_not_deleted(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("years")
    for text in ("first", "second"):
        with atomic_dir(tmp_path / "model") as folder:
            (folder / "weights").write_text(text)
    assert (tmp_path / "model" / "weights").read_text() == "second"
    assert (tmp_path / "earlier-1" / "model" / "thesis.tex").read_text() == "years"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["earlier-1", "model"]


def test_a_file_in_the_way_of_a_folder_is_moved(tmp_path):
    (tmp_path / "model").write_text("mine")
    with files.atomic_dir(tmp_path / "model") as folder:
        (folder / "weights").touch()
    assert (tmp_path / "earlier-1" / "model").read_text() == "mine"
    assert (tmp_path / "model" / "weights").exists()


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    atomic_write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "text"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_json(tmp_path / "pipe", {"a": 1})
    assert b'"a": 1' in os.read(reader, 100) and (tmp_path / "pipe").is_fifo()
    os.close(reader)
    (tmp_path / "null").symlink_to("/dev/null")
    atomic_write_text(tmp_path / "null", "text")
    assert os.path.realpath(tmp_path / "null") == "/dev/null" != (tmp_path / "null").read_text()
    for wrong in (tmp_path, tmp_path / "target" / "x", "/dev/null/x"):
        with pytest.raises(R1LabError, match="cannot write"):
            files.check_writable(wrong)
    files.check_writable(tmp_path / "new" / "a.json")
    assert list((tmp_path / "new").iterdir()) == []


def test_what_a_killed_process_left_is_cleared_at_the_next_start(tmp_path):
    """Also a folder, and one that was moved away to be replaced takes its place again."""
    for name in (".unfinished-model-x", ".unfinished-data-y"):
        (tmp_path / name / "new").mkdir(parents=True)
    (tmp_path / ".unfinished-model-x" / "old").mkdir()
    (tmp_path / ".unfinished-model-x" / "old" / "weights").write_text("whole")
    (tmp_path / "checkpoints" / ".unfinished-z").mkdir(parents=True)
    (tmp_path / "checkpoints" / ".unfinished-z.pt").write_text("half")
    with one_run(tmp_path):
        found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
        assert found == [".lock", "checkpoints", "model", "model/weights"]


def hold(folder, ready, go):
    with one_run(folder):
        ready.set()
        go.wait(60)


def test_two_runs_in_one_folder_are_refused_in_one_line(tmp_path, warm_processes):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, go))
    other.start()
    assert ready.wait(60)
    with pytest.raises(R1LabError, match="another run is working in .*wait for its end") as raised:
        with one_run(tmp_path):
            pass
    assert "\n" not in str(raised.value)
    warm.kill(other.pid)  # a killed one holds nothing
    other.join()
    with one_run(tmp_path), pytest.raises(R1LabError, match="another run"), one_run(tmp_path):
        pass
    with one_run(tmp_path):
        pass


def test_a_new_start_moves_the_old_run_aside(tmp_path):
    names = ("metrics.jsonl", "checkpoints")
    assert set_aside(tmp_path, names) is None
    for n in (1, 2):
        (tmp_path / "metrics.jsonl").write_text(f"run {n}")
        (tmp_path / "checkpoints").mkdir()
        assert set_aside(tmp_path, names) == tmp_path / f"earlier-{n}"
        assert (tmp_path / f"earlier-{n}" / "metrics.jsonl").read_text() == f"run {n}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["earlier-1", "earlier-2"]


def test_a_stop_signal_is_noted_and_the_second_interrupts(capfd):
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as asked:
        assert not asked
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert asked == ["SIGTERM"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) == before
    assert "stopping after this step" in capfd.readouterr().err


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def work():
        with stop_signals() as asked:
            seen.append(list(asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[]]


def test_a_notebook_shows_a_stop_as_one_line():
    stopped = Stopped("stopped by SIGINT after 3 of 9 steps")
    assert isinstance(stopped, KeyboardInterrupt)
    assert stopped._render_traceback_() == ["stopped by SIGINT after 3 of 9 steps"]


def test_a_folder_made_here_is_moved_once_it_holds_more_and_a_link_stays_one(tmp_path, caplog):
    """A model made here, to which someone added notes; a linked folder on another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "disk")
    for text in ("first", "second", "third"):
        with atomic_dir(tmp_path / "model") as folder:
            (folder / "weights").write_text(text)
        if text == "second":
            assert not (tmp_path / "earlier-1").exists()
            (tmp_path / "model" / "notes.txt").write_text("mine")
    assert (tmp_path / "model").is_symlink()
    assert (tmp_path / "disk" / "weights").read_text() == "third"
    assert (tmp_path / "earlier-1" / "disk" / "notes.txt").read_text() == "mine"


def test_metrics_without_seconds_do_not_end_a_run():
    assert spent_in([{"step": 0, "seconds": 2.0}, {"step": 1}]) == 2.0
