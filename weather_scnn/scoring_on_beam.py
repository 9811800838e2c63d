"""The scoring job on a Beam runner: the same pieces as the plain loop, by the same code.

It stands beside the command line, for it joins what `eval` scores to what `pipelines` runs.
"""

import functools
import threading
import typing
from collections.abc import Sequence

from eval.pairing import Comparison, open_comparison
from eval.parts import Parts
from eval.piece_sizes import Piece
from eval.request import Request
from eval.scoring_pieces import PieceScorer
from pipelines import running

if typing.TYPE_CHECKING:
    from weather_scnn.io.writing import Record

_LOCAL = threading.local()


def _open(job: str, request: Request) -> Comparison:
    return open_comparison(request)


# A worker that outlives a job must not score the next one on what the stores held before.
_COMPARISONS = running.OncePerJob(_open)


def _score_piece(piece: Piece, *, job: str, request: Request, parts: str) -> None:
    """Scores a piece and writes its sums; a worker keeps the caches of its latest variables."""
    with running.work_item(job):
        wanted = (job, piece.group)
        if getattr(_LOCAL, "group", None) != wanted:
            _LOCAL.scorer = PieceScorer(_COMPARISONS(job, request), piece.group, Parts(parts))
            _LOCAL.group = wanted
        Parts(parts).save(piece.name, _LOCAL.scorer.score(piece))


def run_on_beam(
    request: Request, pieces: Sequence[Piece], parts: Parts, progress: bool, *, beam_options: Sequence[str]
) -> None:
    """Scores the pieces that `parts` does not hold yet.

    Args:
        request: what is compared.
        pieces: all of them.
        parts: a folder that workers and this process can both reach.
        progress: whether to show a bar.
        beam_options: of the runner.

    Raises:
        UserError: as a worker raised it, or an option that Beam does not know.
    """
    running.check_options(beam_options)
    job = running.new_job()
    work = functools.partial(_score_piece, job=job, request=request, parts=parts.path)
    try:
        running.run_work_items(
            work,
            {piece.name: piece for piece in pieces},
            typing.cast("Record", parts),  # finished pieces under their names are all that is asked of it
            job=job,
            description="scoring",
            beam_options=beam_options,
            progress=progress,
        )
    finally:
        _COMPARISONS.forget()
