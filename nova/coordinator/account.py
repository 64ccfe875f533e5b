"""A request's account at its end, and what an outcome must not be. Pure."""

from __future__ import annotations

from nova.coordinator.deployment import Deployment
from nova.coordinator.request import Request
from nova.coordinator.texts import stranger
from nova.wire.requests import Completed
from nova.wire.work import Outcome

FINISHES = ("stop", "length", "cancelled")


def account(request: Request, finish: str, deployment: Deployment) -> Completed:
    """What it took, and where its time went."""
    engines = [deployment.engines[rank] for rank in range(len(deployment.nodes))]
    layers = [(engine.first_layer, engine.first_layer + engine.layers) for engine in engines]
    tally = request.tally
    computed = len(request.prompt) - request.cached
    return Completed(
        request=request.generate.request,
        finish=finish,
        prompt_tokens=len(request.prompt),
        completion_tokens=request.tokens,
        ttft_s=max(0.0, request.first_token - request.asked),
        prefill_tok_s=computed / tally.prefill_s if tally.prefill_s > 0 else 0.0,
        decode_tok_s=(request.tokens - 1) / tally.decode_s if tally.decode_s > 0 else 0.0,
        transport=deployment.transport,
        stages=tally.stages(deployment.nodes, layers),
        breakdown=tally.breakdown(deployment.nodes),
        cached_tokens=request.cached,
        stopped_by=request.pieces.stopped_by if request.pieces is not None else "",
        queued_s=request.begun - request.asked,
    )


def strange(request: Request, outcome: Outcome) -> str:
    """What no sound driver sends; "" for what one may send."""
    if (token := stranger(outcome.tokens, request.vocabulary)) is not None:
        return f"token {token} of {request.vocabulary}"
    if len(outcome.logprobs) != (len(outcome.tokens) if request.generate.sampling.logprobs >= 0 else 0):
        return f"{len(outcome.logprobs)} log-probabilities of {len(outcome.tokens)} tokens"
    if outcome.finish and outcome.finish not in FINISHES:
        return f"the end {outcome.finish[:40]!r}"
    if not 0 <= outcome.cached <= len(request.prompt):
        return f"{outcome.cached} cached tokens of a prompt of {len(request.prompt)}"
    return ""
