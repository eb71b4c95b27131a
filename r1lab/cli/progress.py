"""The commands `progress` and `catch-up`. Each imports what it needs."""
# fmt: off

from dataclasses import dataclass

from r1lab.basics.errors import R1LabError
from r1lab.basics.options import option
from r1lab.cli.parse import SEEDS, Command, print_table, text


@dataclass(kw_only=True)
class Progress(Command):
    """what you have solved of the exercises, or a class has

    The map of the exercises in notebooks/exercises: solved, tried, to come, and the quizzes. With
    --class an instructor's table: solved exercises of each student by lesson, points of the
    quizzes, hints taken, where the class is stuck, and the questions that most got wrong at first.
    FOLDER holds NAME.json, NAME/progress.json or NAME/runs/progress.json of each student. (Yours is
    runs/progress.json, or $R1LAB_PROGRESS.)

    examples:
      r1lab progress
      r1lab progress --class /share/class
    """
    folder: str | None = text("the table of a class, from its students' files", "FOLDER",
        short="--class", path=True)


@dataclass(kw_only=True)
class CatchUp(Command):
    """make what a lesson starts from, so that one can begin there

    Lessons 00 to 06 start from the base model alone. From 07 on a lesson finds the models of the
    lessons before it in OUT/r1/seed-SEED; this command makes those that are missing (with the cpu
    profile R1-Zero takes some minutes, with smoke seconds), or copies them from --from, the output
    folder of somebody who has them. Stopped anywhere, the same command goes on.

    examples:
      r1lab catch-up 08
      r1lab catch-up 08 --from /share/class/runs/cpu     copied, in seconds
    """
    lesson: tuple = option((), "number or name of the lesson", positional=True, metavar="LESSON")
    profile: str | None = text("smoke, cpu (default), gpu or cluster")
    out: str | None = text("output folder of the lessons (default: runs/PROFILE)", "FOLDER",
        path=True)
    seed: int = option(0, "of the lessons", **SEEDS)
    source: str | None = text("copy stages that are missing from this output folder", "FOLDER",
        short="--from", path=True)


def progress(args: Progress) -> None:
    from r1lab.course import graded, quizzes
    from r1lab.course.graded import record

    if args.folder is None:
        head, *rows = record.map_rows(graded.ids(), graded.titles(), record.path())
        print_table(head, rows, left=True)
        return
    head, *rows = record.class_rows(graded.ids(), args.folder)
    print_table(head, rows)
    for id, students, tries in record.stuck(graded.ids(), args.folder):
        one = graded.exercise(id)
        print(f"stuck at {id} ({one.title}): {students} students, {tries} tries")
    right = {lesson: quizzes.right_letters(lesson) for lesson in graded.LESSONS}
    for lesson, question, wrong, asked in record.missed(right, args.folder):
        ask = quizzes.questions(lesson)[question - 1].ask
        print(f"quiz {lesson}, question {question} ({ask}): {wrong} of {asked} wrong at first")


def catch_up(args: CatchUp) -> None:
    from r1lab.course.catch_up import catch_up as make

    if len(args.lesson) != 1:
        raise R1LabError("name one lesson: r1lab catch-up 08")
    make(args.lesson[0], args.profile, args.out, seed=args.seed, source=args.source)
