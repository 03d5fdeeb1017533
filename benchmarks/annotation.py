"""How long the studio takes to find what is next, and to count, where much has been annotated.

    python benchmarks/annotation.py --images 20000

Fills an SQLite database with images, two questions about each and three checks an image, and prints the CPU time of
each request, in this process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from thyme.config.annotation import AnnotationSettings
from thyme.studio.accounts import Person
from thyme.studio.annotation import figures, queues
from thyme.studio.annotation.listing import Wanted, listed
from thyme.studio.database import Database
from thyme.studio.models import Reviewer
from thyme.studio.models_annotation import CheckRow, CollectionRow, Question, Shot

PEOPLE = 20
STATES = ("accepted",) * 6 + ("submitted", "submitted", "checked", "disputed")
_BATCH = 5_000


def shots(images: range) -> Iterator[dict[str, Any]]:
    """Rows of images."""
    for index in images:
        yield {
            "id": index + 1, "collection_id": 1, "image": f"{index:032x}", "width": 4000, "height": 3000,
            "format": "JPEG", "source": "", "licence": "", "state": "open", "reason": "", "note": "", "until": 0.0,
        }  # fmt: skip


def questions(images: range) -> Iterator[dict[str, Any]]:
    """Rows of two questions about each image."""
    for id in range(2 * images.start, 2 * images.stop):
        yield {
            "id": id + 1, "uid": str(id), "shot_id": id // 2 + 1, "author_id": id // 2 % PEOPLE + 1, "question": "Q?",
            "answer": "KX", "answer_type": "text", "choices": "[]", "category": "ocr", "box": "[0, 0, 90, 90]",
            "hidden_when_small": True, "state": STATES[id % 10], "version": 1, "round": 1, "returned": "",
            "gold": False, "created": 0.0, "submitted": 1e9 + id * 30,
        }  # fmt: skip


def checks(images: range) -> Iterator[dict[str, Any]]:
    """Rows of a second person's answer and two experts' verdicts about every other question."""
    for index in images:
        for place, role in enumerate(("second", "expert", "expert"), 1):
            yield {
                "question_id": 2 * index + 1, "reviewer_id": (index + place) % PEOPLE + 1, "round": 1, "version": 1,
                "role": role, "verdict": "answered" if place == 1 else "accept", "answer": "KX",
                "agrees": True if place == 1 else None, "category": "ocr", "reason": "", "note": "", "gold": False,
                "answer_then": "KX", "category_then": "ocr", "created": 1e9 + index * 60,
            }  # fmt: skip


def fill(session: Session, images: int) -> None:
    """Make people, images, questions and checks."""
    session.execute(insert(CollectionRow), [{"id": 1, "name": "photos", "added": 0.0}])
    people = [{"name": f"Person {n}", "lead": False, "active": True, "created": 0.0} for n in range(PEOPLE)]
    session.execute(insert(Reviewer), people)
    for first in range(0, images, _BATCH):
        part = range(first, min(first + _BATCH, images))
        for table, rows in ((Shot, shots), (Question, questions), (CheckRow, checks)):
            session.execute(insert(table), list(rows(part)))


def measured(name: str, work: Callable[[], object]) -> None:
    """Print the CPU time of a request, the better of two."""
    seconds = []
    for _ in range(2):
        before = time.process_time()
        work()
        seconds.append(time.process_time() - before)
    print(f"| {name} | {1e3 * min(seconds):.1f} |")


def main() -> None:
    """Fill a database, and ask it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    images = parser.parse_args().images
    settings = AnnotationSettings()
    roles = ("annotate", "second", "expert")
    one = Person(3, "Person 2", False, "invite", "", roles)
    lead = Person(4, "Person 3", True, "invite", "", (*roles, "adjudicate"))
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/studio.db")
        with database.write() as session:
            fill(session, images)
        print(f"| {images} images, {2 * images} questions, {3 * images} checks | CPU time, ms |\n|---|---:|")
        with database.write() as session:
            measured("what waits", lambda: queues.counts(session, one, settings))
            measured("next image", lambda: queues.next_shot(session, one, settings))
            for queue in ("second", "expert"):
                measured(f"next of {queue}", partial(queues.next_question, session, one, queue, settings))
            measured("a page of all questions", lambda: listed(session, Wanted(), lead, settings))
            measured("figures", lambda: figures.progress(session, "photos"))
        database.close()


if __name__ == "__main__":
    main()
