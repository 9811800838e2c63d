"""The scoring job on a Beam runner: the same work items as the plain loop, by the same code.

It stands beside the command line, for it joins what `eval` scores to what `pipelines` runs.
"""

import functools
import threading
from collections.abc import Sequence

from eval.item_scoring import ItemScorer
from eval.pairing import Comparison, open_comparison
from eval.request import ScoringRequest
from eval.work_items import WorkItem
from pipelines import running
from pipelines.beam import check_options
from weather_scnn.io.writing import Record, packed

_LOCAL = threading.local()


@running.OncePerJob
def _open(job: str, request: ScoringRequest) -> Comparison:
    """Again for each job: a worker that outlives one must not score the next on what the stores held before."""
    return open_comparison(request)


def _score_item(item: WorkItem, *, job: str, request: ScoringRequest, finished: Record) -> None:
    """Scores an item and writes its sums; a worker keeps the caches of its latest variables."""
    with running.work_item(job, finished, item.name) as finish:
        wanted = (job, item.group)
        if getattr(_LOCAL, "group", None) != wanted:
            _LOCAL.scorer = ItemScorer(_open(job, request), item.group, finished)
            _LOCAL.group = wanted
        finish(packed(_LOCAL.scorer.score(item)))


def run_on_beam(
    request: ScoringRequest,
    items: Sequence[WorkItem],
    finished: Record,
    progress: bool,
    *,
    beam_options: Sequence[str],
) -> None:
    """Scores the items that are not finished yet.

    Args:
        request: what is compared.
        items: all of them.
        finished: at a place that workers and this process can both reach.
        progress: whether to show a bar.
        beam_options: of the runner.

    Raises:
        UserError: as a worker raised it, or an option that Beam does not know.
    """
    check_options(beam_options)
    job = running.new_job()
    work = functools.partial(_score_item, job=job, request=request, finished=finished)
    try:
        running.run_work_items(
            work,
            {item.name: item for item in items},
            finished,
            job=job,
            description="scoring",
            beam_options=beam_options,
            progress=progress,
        )
    finally:
        _open.forget()
